# SPDX-License-Identifier: GPL-2.0-or-later
"""The "TXT Event Container" that SINIT and tboot fill on a TPM 1.2 ("txt-container").

Source: Intel TXT Software Development Guide, appendix F (heap element type 5) and
tboot include/txt/heap.h, event_log_container_t: signature[20], reserved[12], u8
container major and minor, u8 event major and minor, u32 size of the buffer, u32
offset of the first record, u32 offset after the last one. The records are those of
a TCG SHA-1 log. Where the log ends is said, so whatever follows there is not read:
the rest of the buffer, if it was handed over at all.
"""

from __future__ import annotations

from aemseal.formats.reader import ByteReader
from aemseal.formats.tcg_log import read_sha1_event, require_room
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError
from aemseal.words.events import Event, EventLog

SIGNATURE = b"TXT Event Container\0"
_HEADER_SIZE = 48
_RESERVED_SIZE = 12
_MAJOR_VERSION = 1


def parse_txt_container(data: bytes) -> EventLog:
    """Read a container; FormatError with the offset when it is none or is cut off."""
    header = ByteReader(data)
    if header.take(len(SIGNATURE), "TXT event container: signature") != SIGNATURE:
        raise FormatError("no TXT event container", 0)
    header.take(_RESERVED_SIZE, "TXT event container: reserved bytes")
    _require_version(header, "container")
    _require_version(header, "event")
    first, end = _read_bounds(header, len(data))
    reader = ByteReader(data, first, end)
    events: list[Event] = []
    while reader.remaining:
        require_room(len(events), reader.offset)
        events.append(read_sha1_event(reader, len(events)))
    return EventLog("txt-container", (HashAlgorithm.SHA1,), tuple(events))


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
            f"TXT event container: the records go up to {end}; the file ends", available
        )
    return first, end
