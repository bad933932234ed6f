# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs that SINIT and tboot keep bank by bank on a TPM 2.0 ("tpm2-per-bank").

SINITs before the crypto-agile format, and tboot with force_tpm2_legacy_log, fill one
log of 4096 bytes for each bank. The records are those of a TCG SHA-1 log with the
bank's digest in place of SHA-1's. The logs of all banks but SHA-1 begin with a head:
an EV_NO_ACTION record in SHA-1's form whose data is signature[16], u32 revision, u32
algorithm, u32 digest size. The head is no event here.

As a file they come in two layouts, told apart by content:

- OpenXT's (/sys/kernel/security/txt/tpm20_binary_evtlog_legacy): for each bank a
  descriptor (u16 algorithm, u16 reserved, u64 address, u32 size, u32 first, u32 next
  offset), right behind it the bytes of the log from first to next;
- one page of 4096 bytes behind the other, as they lie in memory, the last one perhaps
  cut after its records. The page without a head is SHA-1's.

Sources: Intel TXT Software Development Guide, appendix F (heap element type 7); tboot
include/txt/heap.h (heap_event_log_descr_t, tpm20_log_descr_t, get_evtlog_digest_id)
and txt/txt.c (init_evtlog_desc); OpenXT xenclient-oe, recipes-openxt/tboot,
tboot-export-of-tpm-event-log.patch (export_evtlog_tpm20).
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.formats.bank_merge import BankLog, merge_banks
from aemseal.formats.reader import ByteReader
from aemseal.formats.tcg_log import (
    begins_with_pcr,
    read_bank_events,
    read_sha1_event,
)
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError
from aemseal.words.events import EV_NO_ACTION, EventLog

PAGE_SIZE = 4096
"""The size of one bank's log (tboot txt/txt.c, init_evtlog_desc)."""

_MAXIMAL_LOG_SIZE = 0x10000
"""More than any launcher's buffer: what a descriptor may claim to be believed."""
_DESCRIPTOR_SIZE = 24
_HEAD_DATA_SIZE = 28
_HEAD_SIZE = 32 + _HEAD_DATA_SIZE
_HEAD_ALGORITHM, _HEAD_DIGEST_SIZE = slice(20, 24), slice(24, 28)
_TCG_SIGNATURE = b"Spec ID Event"
_SHA1 = HashAlgorithm.SHA1

_INTEL_IDS = {
    1: HashAlgorithm.SHA1,
    2: HashAlgorithm.SHA256,
    3: HashAlgorithm.SHA384,
    4: HashAlgorithm.SHA512,
    5: HashAlgorithm.SM3_256,
}
"""Algorithms as heads number them (tboot include/txt/heap.h, DIGEST_ALG_ID_*)."""


@dataclass(frozen=True, slots=True)
class BankDescriptor:
    """Where one bank's log lies: an address, and offsets of its records from there.

    `algorithm` is a TCG identifier, perhaps one that is unknown to us.
    """

    algorithm: int
    address: int
    size: int
    first: int
    next: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.next <= self.size <= _MAXIMAL_LOG_SIZE:
            raise ValueError(
                f"records from {self.first} to {self.next} of {self.size} bytes"
            )


def read_bank_descriptor(reader: ByteReader) -> BankDescriptor:
    """Read a heap_event_log_descr_t; FormatError when its offsets do not agree."""
    start = reader.offset
    algorithm = reader.u16("bank descriptor: algorithm")
    reader.u16("bank descriptor: reserved")
    address = reader.u64("bank descriptor: address")
    size, first, end = (
        reader.u32(f"bank descriptor: {what}") for what in ("size", "first", "next")
    )
    try:
        return BankDescriptor(algorithm, address, size, first, end)
    except ValueError as error:
        raise FormatError(f"bank descriptor: {error}", start) from None


def is_per_bank_log(data: bytes) -> bool:
    """Whether a file is a per-bank log in either layout.

    Ask after every format with a signature: a page without a head looks like a TCG
    SHA-1 log, and it is the head of another page that tells them apart.
    """
    if _begins_with_descriptor(data):
        return True
    pages = range(0, len(data), PAGE_SIZE)
    return begins_with_pcr(data) and any(
        head_algorithm(data, page) is not None for page in pages
    )


def parse_per_bank_log(data: bytes) -> EventLog:
    """Read a per-bank log in either layout.

    Raises FormatError with the offset when it is none or is cut off, LogError naming
    event and bank where the banks contradict each other.
    """
    if _begins_with_descriptor(data):
        return _parse_exported(data)
    return _parse_pages(data)


def head_algorithm(
    data: bytes, offset: int, end: int | None = None
) -> HashAlgorithm | None:
    """Return the bank of the log whose head is at `offset`; None when none is there.

    The head must end at `end` or before (default: the last byte).
    """
    head = data[offset : offset + _HEAD_SIZE]
    if len(head) < _HEAD_SIZE or (end is not None and end < offset + _HEAD_SIZE):
        return None
    pcr, event_type = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4))
    data_size = int.from_bytes(head[28:32], "little")
    if (pcr, event_type, data_size) != (0, EV_NO_ACTION, _HEAD_DATA_SIZE):
        return None
    descriptor = head[32:]
    if descriptor.startswith(_TCG_SIGNATURE):
        return None
    number = int.from_bytes(descriptor[_HEAD_ALGORITHM], "little")
    size = int.from_bytes(descriptor[_HEAD_DIGEST_SIZE], "little")
    # Both numberings occur; 4 is SHA-1's in one and SHA-512's in the other.
    for algorithm in (_INTEL_IDS.get(number), HashAlgorithm.with_id(number)):
        if algorithm is not None and algorithm.size == size:
            return algorithm
    return None


def read_bank(data: bytes, start: int, end: int, algorithm: HashAlgorithm) -> BankLog:
    """Read one bank's log: the records of `data[start:end]`, behind its head.

    SHA-1's log may have a head too. Raises FormatError with the offset.
    """
    reader = ByteReader(data, start, end)
    head = head_algorithm(data, start, end)
    if reader.remaining and head is None and algorithm is not _SHA1:
        raise FormatError(f"the log of the {algorithm} bank has no head", start)
    if head not in (None, algorithm):
        raise FormatError(
            f"the log of the {algorithm} bank has the head of {head}", start
        )
    if head is not None:
        read_sha1_event(reader, 0)
    return BankLog(algorithm, tuple(read_bank_events(data, reader, algorithm)))


def merged_log(banks: list[BankLog], unknown: tuple[int, ...] = ()) -> EventLog:
    """Make one log of the banks; LogError where they contradict each other."""
    algorithms = tuple(bank.algorithm for bank in banks)
    return EventLog(
        "tpm2-per-bank", algorithms, merge_banks(banks), unknown_algorithms=unknown
    )


def _begins_with_descriptor(data: bytes) -> bool:
    """Whether OpenXT's first descriptor is there, of a bank we know.

    A TCG SHA-1 log has 12 bytes of a digest where sizes and offsets must agree.
    """
    if len(data) < _DESCRIPTOR_SIZE:
        return False
    try:
        descriptor = read_bank_descriptor(ByteReader(data))
    except FormatError:
        return False
    known = HashAlgorithm.with_id(descriptor.algorithm) is not None
    return known and descriptor.size > 0 and not any(data[2:4])


def _parse_exported(data: bytes) -> EventLog:
    """Read OpenXT's layout; zeros behind the last bank are the rest of its page."""
    banks: list[BankLog] = []
    unknown: list[int] = []
    reader = ByteReader(data)
    used = len(data.rstrip(b"\0"))
    while reader.offset < used:
        start = reader.offset
        descriptor = read_bank_descriptor(reader)
        records = reader.offset
        reader.take(descriptor.next - descriptor.first, "records of a bank")
        algorithm = HashAlgorithm.with_id(descriptor.algorithm)
        if algorithm is None:
            unknown.append(descriptor.algorithm)
            continue
        _require_first(banks, algorithm, start)
        banks.append(read_bank(data, records, reader.offset, algorithm))
    return merged_log(banks, tuple(unknown))


def _parse_pages(data: bytes) -> EventLog:
    """Read the layout in pages; a page of zeros or FF alone holds no bank."""
    banks: list[BankLog] = []
    for start in range(0, len(data), PAGE_SIZE):
        page = data[start : start + PAGE_SIZE]
        if not (page.strip(b"\0") and page.strip(b"\xff")):
            continue
        algorithm = head_algorithm(data, start) or _SHA1
        _require_first(banks, algorithm, start)
        banks.append(read_bank(data, start, start + len(page), algorithm))
    if not banks:
        raise FormatError("no log of any bank", 0)
    return merged_log(banks)


def _require_first(banks: list[BankLog], algorithm: HashAlgorithm, offset: int) -> None:
    if any(bank.algorithm is algorithm for bank in banks):
        raise FormatError(f"a second log of the {algorithm} bank", offset)
