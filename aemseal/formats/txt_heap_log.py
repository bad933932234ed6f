# SPDX-License-Identifier: GPL-2.0-or-later
"""The event log inside a raw TXT heap ("txt-heap").

A heap names its log by a physical address, and its bytes do not say at which address
they lay. A heap begins at a page, so the log is at one of the places that agree with
its address modulo 4096: the one where such a log begins and fits. Where there are
several, or none, only the heap's base can tell, and the log is refused without it.

Where the log ends is said for every kind, but for what tboot 1.9.7 to 1.10.0 did to
crypto-agile ones: they moved the end and wrote their records elsewhere, so that zeros
are there. Such a log ends with SINIT's records, and replay does not give the PCRs.

Source: Intel TXT Software Development Guide, appendix C and F; tboot txt/txt.c
(init_event_log, init_evtlog_desc, evtlog_append_tpm2_tcg).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aemseal.formats import txt_log
from aemseal.formats.bank_merge import BankLog
from aemseal.formats.per_bank_log import (
    BankDescriptor,
    head_algorithm,
    merged_log,
    read_bank,
)
from aemseal.formats.tcg_log import begins_with_pcr, has_agile_head, parse_tcg_log
from aemseal.formats.txt_heap import (
    PAGE_SIZE,
    AgilePointer,
    BankPointers,
    ContainerPointer,
    LogPointer,
    TxtHeap,
)
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError, LogError
from aemseal.words.events import EventLog

_CONTAINER_HEADER_SIZE = 48
_CONTAINER_END = slice(44, 48)
_SHA1_RECORD_SIZE = 32
"""PCR index, type, digest and data size, without the data."""


def read_heap_log(heap: TxtHeap) -> EventLog:
    """Read the event log that a heap points to and holds.

    Raises LogError when the heap names no log, more than one, an empty one, or one
    that is not in it or cannot be told apart; FormatError, with the offset in the
    heap, when the log is damaged.
    """
    pointer = _only_pointer(heap)
    _require_records(pointer)
    if isinstance(pointer, ContainerPointer):
        log = _read_container(heap, pointer)
    elif isinstance(pointer, BankPointers):
        log = _read_banks(heap, pointer)
    else:
        log = _read_agile(heap, pointer)
    return replace(log, format="txt-heap")


def _only_pointer(heap: TxtHeap) -> LogPointer:
    pointers = heap.os_sinit.logs
    if not pointers:
        raise LogError(
            "the TXT heap names no event log (OsSinitData of version "
            f"{heap.os_sinit.version}): this machine's SINIT keeps none",
            "give the whole text log (txt-stat): its tables hold what SINIT measured",
        )
    if len(pointers) > 1:
        raise LogError(f"the TXT heap names {len(pointers)} event logs: one is a lie")
    return pointers[0]


def _require_records(pointer: LogPointer) -> None:
    if isinstance(pointer, ContainerPointer):
        empty = pointer.address == 0
    elif isinstance(pointer, BankPointers):
        empty = all(bank.first == bank.next for bank in pointer.banks)
    else:
        empty = pointer.first == pointer.next
    if empty:
        raise LogError(
            "the event log that the TXT heap names is empty: SINIT wrote no record"
        )


def _read_container(heap: TxtHeap, pointer: ContainerPointer) -> EventLog:
    data = heap.untrusted_bytes

    def begins(base: int) -> bool:
        start = pointer.address - base
        header = data[start : start + _CONTAINER_HEADER_SIZE]
        end = int.from_bytes(header[_CONTAINER_END], "little")
        whole = len(header) == _CONTAINER_HEADER_SIZE and start + end <= len(data)
        return whole and header.startswith(txt_log.SIGNATURE)

    start = pointer.address - _find_base(heap, pointer.address, begins)
    return _parsed(data, start, len(data), txt_log.parse_txt_container)


def _read_agile(heap: TxtHeap, pointer: AgilePointer) -> EventLog:
    data = heap.untrusted_bytes

    def begins(base: int) -> bool:
        start = pointer.address - base
        fits = start + pointer.next <= len(data)
        return fits and has_agile_head(data, start + pointer.first)

    start = pointer.address - _find_base(heap, pointer.address, begins)
    return _parsed(data, start + pointer.first, start + pointer.next, parse_tcg_log)


def _read_banks(heap: TxtHeap, pointer: BankPointers) -> EventLog:
    data = heap.untrusted_bytes
    algorithms = [bank.algorithm for bank in pointer.banks]
    if len(set(algorithms)) < len(algorithms):
        raise LogError("the TXT heap names two event logs of one bank: one is a lie")
    filled = [bank for bank in pointer.banks if bank.first < bank.next]

    def begins(base: int) -> bool:
        return all(_bank_begins(data, bank.address - base, bank) for bank in filled)

    base = _find_base(heap, filled[0].address, begins)
    banks: list[BankLog] = []
    unknown: list[int] = []
    for bank in pointer.banks:
        algorithm = HashAlgorithm.with_id(bank.algorithm)
        if algorithm is None:
            unknown.append(bank.algorithm)
        elif bank not in filled:
            banks.append(BankLog(algorithm, ()))
        else:
            start = bank.address - base
            first, end = start + bank.first, start + bank.next
            banks.append(read_bank(data, first, end, algorithm))
    return merged_log(banks, tuple(unknown))


def _bank_begins(data: bytes, start: int, bank: BankDescriptor) -> bool:
    """Whether a bank's log is at `start`: its head, or records that fill it exactly.

    SHA-1's log has no head; that of an unknown algorithm cannot be told.
    """
    first, end = start + bank.first, start + bank.next
    if start < 0 or end > len(data):
        return False
    algorithm = HashAlgorithm.with_id(bank.algorithm)
    if algorithm is not HashAlgorithm.SHA1:
        return algorithm is None or head_algorithm(data, first, end) is algorithm
    return _records_fill(data, first, end)


def _records_fill(data: bytes, place: int, end: int) -> bool:
    """Whether SHA-1 records of a launch reach from `place` to `end`, to the byte.

    A head, where SHA-1's log has one, is such a record too.
    Steps from record to record, for this is asked at every page of a heap.
    """
    while place < end:
        pcr, event_type, size = (data[place + at : place + at + 4] for at in (0, 4, 28))
        if not begins_with_pcr(pcr) or not any(event_type):
            return False
        place += _SHA1_RECORD_SIZE + int.from_bytes(size, "little")
    return place == end


def _find_base(heap: TxtHeap, address: int, begins: Callable[[int], bool]) -> int:
    """Return the one base at which the log at `address` begins within the heap."""
    size = len(heap.untrusted_bytes)
    if heap.base is not None:
        if heap.base <= address < heap.base + size and begins(heap.base):
            return heap.base
        raise LogError(
            f"no event log is at {address:#x}, where the TXT heap at {heap.base:#x} "
            f"({size} bytes) says that it is",
            "give the whole heap, or the log itself",
        )
    places = range(address % PAGE_SIZE, min(size, address + 1), PAGE_SIZE)
    bases = [address - place for place in places if begins(address - place)]
    if len(bases) == 1:
        return bases[0]
    if bases:
        raise LogError(
            f"the event log at {address:#x} may begin at {len(bases)} places of the "
            "TXT heap: the heap's base is not known",
            "give the log itself",
        )
    raise LogError(
        f"the event log at {address:#x} is not in the TXT heap that names it",
        "give the whole heap, or the log itself: TrenchBoot keeps it outside the heap",
    )


def _parsed(
    data: bytes, start: int, end: int, parse: Callable[[bytes], EventLog]
) -> EventLog:
    """Parse a part of the heap; offsets of errors count from the heap's start."""
    try:
        return parse(data[start:end])
    except FormatError as error:
        raise FormatError(error.what, start + error.offset, error.hint) from None
