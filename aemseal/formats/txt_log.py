# SPDX-License-Identifier: GPL-2.0-or-later
"""The "TXT Event Container" that SINIT and tboot fill on a TPM 1.2 ("txt-container").

Source: Intel TXT Software Development Guide, appendix F (heap element type 5) and
tboot include/txt/heap.h, event_log_container_t: signature[20], reserved[12], u8
container major and minor, u8 event major and minor, u32 size of the buffer, u32
offset of the first record, u32 offset after the last one. The records are those of
a TCG SHA-1 log. Where the log ends is said, so whatever follows there is not read:
the rest of the buffer, if it was handed over at all.

TrenchBoot on AMD with a TPM 1.2 writes the same container behind a TCG header: its
Secure Kernel Loader puts the container's own header into the vendor info of a Spec ID
record, from whose start all offsets count. That record is event 0 then.
Source: TrenchBoot secure-kernel-loader event_log.c, tpm12_id_struct; Xen
arch/x86/tpm.c, create_log_event12; qubes-antievilmaid txt-tpm1-evt-log-parser.awk.
"""

from __future__ import annotations

from aemseal.formats.reader import ByteReader
from aemseal.formats.tcg_log import read_sha1_event, require_room
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError
from aemseal.words.events import EV_NO_ACTION, Event, EventLog

SIGNATURE = b"TXT Event Container\0"
_HEADER_SIZE = 48
_RESERVED_SIZE = 12
_MAJOR_VERSION = 1
_SPEC_ID_SIGNATURES = (b"Spec ID Event00\0", b"Spec ID Event02\0")
_SPEC_ID_FIXED_SIZE = 25
"""Signature, platform class, version, errata, UINTN size and vendor info size."""
_SKL_HEADER_SIZE = 32 + _SPEC_ID_FIXED_SIZE
"""From the start of the TCG header's record to the vendor info."""


def parse_txt_container(data: bytes) -> EventLog:
    """Read a container; FormatError with the offset when it is none or is cut off."""
    return _event_log(_read_container(data, 0, []))


def is_skl_container(data: bytes) -> bool:
    """Whether this is a container behind the TCG header of TrenchBoot's SKL."""
    return data.startswith(SIGNATURE, _SKL_HEADER_SIZE) and data.startswith(
        _SPEC_ID_SIGNATURES, _SKL_HEADER_SIZE - _SPEC_ID_FIXED_SIZE
    )


def parse_skl_container(data: bytes) -> EventLog:
    """Read the log of TrenchBoot on AMD with a TPM 1.2.

    Raises FormatError with the offset when it is none or is cut off.
    """
    header = read_sha1_event(ByteReader(data), 0)
    if not is_skl_container(data) or header.untrusted_type != EV_NO_ACTION:
        raise FormatError("no TCG header with a TXT event container", 0)
    size_place = _SKL_HEADER_SIZE - 1
    vendor_size = len(header.untrusted_data) - _SPEC_ID_FIXED_SIZE
    if not data[size_place] == vendor_size == _HEADER_SIZE:
        raise FormatError(
            f"TXT event container: vendor info of {data[size_place]} bytes", size_place
        )
    return _event_log(_read_container(data, _SKL_HEADER_SIZE, [header]))


def _event_log(events: list[Event]) -> EventLog:
    return EventLog("txt-container", (HashAlgorithm.SHA1,), tuple(events))


def _read_container(data: bytes, start: int, events: list[Event]) -> list[Event]:
    """Read the container at `start`; return its events behind those given."""
    header = ByteReader(data, start)
    if header.take(len(SIGNATURE), "TXT event container: signature") != SIGNATURE:
        raise FormatError("no TXT event container", start)
    header.take(_RESERVED_SIZE, "TXT event container: reserved bytes")
    _require_version(header, "container")
    _require_version(header, "event")
    first, end = _read_bounds(header, len(data) - start)
    reader = ByteReader(data, start + first, start + end)
    while reader.remaining:
        require_room(len(events), reader.offset)
        events.append(read_sha1_event(reader, len(events)))
    return events


def _require_version(header: ByteReader, what: str) -> None:
    start = header.offset
    major = header.u8(f"TXT event container: {what} version")
    minor = header.u8(f"TXT event container: {what} version")
    if major != _MAJOR_VERSION:
        raise FormatError(
            f"TXT event container: {what} version {major}.{minor} is not known", start
        )


def _read_bounds(header: ByteReader, available: int) -> tuple[int, int]:
    """Return where the records start and end, held against the buffer and the file."""
    start = header.offset
    size = header.u32("TXT event container: size")
    first = header.u32("TXT event container: offset of the records")
    end = header.u32("TXT event container: end of the records")
    if not _HEADER_SIZE <= first <= end <= size:
        raise FormatError(
            f"TXT event container: records from {first} to {end} of {size} bytes", start
        )
    if end > available:
        raise FormatError(
            f"TXT event container: the records go up to {end}; the file ends",
            header.end,
        )
    return first, end
