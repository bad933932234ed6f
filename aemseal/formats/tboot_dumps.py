# SPDX-License-Identifier: GPL-2.0-or-later
"""The event log in the text that tboot prints: dumps of it, and records added later.

tboot prints the heap's tables before the launch, when the log is still empty, and
again after it; the records it adds itself follow one by one, each where it is
extended. Of three kinds of log (TPM 1.2 container, TPM 2.0 bank by bank, crypto-agile)
each has its own form. A dump says from which byte to which the records go, so one that
lost a line anywhere does not add up.

Source: tboot txt/heap.c (print_event, print_event_2, print_event_2_1_log_header,
print_event_2_1, print_evt_log and print_evt_log_ptr_elt of each kind) and txt/txt.c
(evtlog_append), 1.6 to 1.11. Up to 1.8 a range ends in ")", later in "]".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aemseal.formats.bank_merge import BankLog, merge_banks
from aemseal.formats.tboot_lines import LineCursor, marks
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError, LogError
from aemseal.words.events import EV_NO_ACTION, TBOOT_MEASUREMENT, Event

_SHA1 = HashAlgorithm.SHA1
_PRINTED_AS = {
    "SHA1": HashAlgorithm.SHA1,
    "SHA256": HashAlgorithm.SHA256,
    "SHA384": HashAlgorithm.SHA384,
    "SHA512": HashAlgorithm.SHA512,
    "SM3_256": HashAlgorithm.SM3_256,
}
"""The heads of digests in print_event_2_1."""

_SIGNATURE = "TXT Event Container"
_SPEC_ID = "Spec ID Event03"
_MOST_BANKS = 16
_BANK_HEAD_DATA = 28
"""Of the record that begins the log of any bank but SHA-1's."""

_CONTAINER, _BANKS, _AGILE = (
    b"Event Log Container:",
    b"EVENT_LOG_PTR:",
    b"TCG Event Log Descri?ption:",
)
_ANY_DUMP = b"(?:%b|%b|(?P<agile>%b))[ \t\r]*$" % (_CONTAINER, _BANKS, _AGILE)
_RECORD = rb"(?:TCG )?Event:[ \t\r]*$"

Extend = tuple[int, tuple[bytes, ...]]
"""A PCR, and the digests that one printed record has for it."""


@dataclass(frozen=True, slots=True)
class Dump:
    """One printed log: its banks in order, its events, and where the text goes on."""

    algorithms: tuple[HashAlgorithm, ...]
    events: tuple[Event, ...]
    end: int
    is_agile: bool = False
    unknown_algorithms: tuple[int, ...] = ()
    """Banks that the head of a crypto-agile log names and we have no algorithm for."""


def last_dump(text: bytes) -> Dump | None:
    """Read the last dump of an event log; None when the text shows no event at all.

    Raises FormatError with the offset where that dump is cut off, does not add up or
    is empty although one before it is not: then it is of another launch than that one;
    LogError where it has a bank that is not known.
    """
    last: Dump | None = None
    empty_at: int | None = None
    for found in reversed(list(marks(text, _ANY_DUMP))):
        last = _read_dump(text, found.start())
        if last is not None:
            break
        empty_at = found.start() if empty_at is None else empty_at
    if last is not None and empty_at is not None:
        raise FormatError("tboot text: the last event log is empty", empty_at)
    return last


def own_records(text: bytes, dump: Dump) -> tuple[Extend, ...]:
    """Read the records that tboot added after a dump, in order.

    On a crypto-agile log a record has a digest for each bank; of the other kinds each
    digest has a record. Raises FormatError with the offset for a damaged record, and
    for one that is not tboot's own.
    """
    records: list[Extend] = []
    for found in marks(text, _RECORD, dump.end):
        cursor = LineCursor(text, found.start(), "record of tboot's")
        if dump.is_agile:
            event = _agile_record(cursor, 0)
            digests = tuple(each.value for each in event.digests.values())
        else:
            event, digest = _loose_record(cursor, dump.algorithms)
            digests = (digest,)
        if event.untrusted_type != TBOOT_MEASUREMENT:
            raise FormatError(
                f"tboot text: a record of type {event.type_hex} outside a log",
                found.start(),
            )
        records.append((event.pcr, digests))
    return tuple(records)


def _read_dump(text: bytes, start: int) -> Dump | None:
    cursor = LineCursor(text, start, "event log")
    head = cursor.take()
    if head.startswith("Event"):
        return _read_container(cursor)
    if head.startswith("EVENT"):
        return _read_banks(cursor)
    return _read_agile(cursor)


def _read_container(cursor: LineCursor) -> Dump | None:
    """Read a dump of a TPM 1.2's container; None when it holds no record."""
    if cursor.field("Signature") != _SIGNATURE:
        raise cursor.fail("no TXT event container")
    cursor.field("ContainerVer")
    cursor.field("PCREventVer")
    cursor.number("Size")
    first, end = cursor.range("EventsOffset")
    if first == end:
        return None
    return Dump((_SHA1,), _records(cursor, _SHA1, first, end), cursor.end)


def _read_banks(cursor: LineCursor) -> Dump | None:
    """Read a dump of one log for each bank; None when none holds a record."""
    cursor.number("size")
    count = cursor.number("count")
    if not 0 < count <= _MOST_BANKS:
        raise cursor.fail(f"{count} banks")
    banks: list[BankLog] = []
    for _ in range(count):
        bank = _read_bank(cursor)
        if any(bank.algorithm is each.algorithm for each in banks):
            raise cursor.fail(f"a second log of the {bank.algorithm} bank")
        banks.append(bank)
    if not any(bank.events for bank in banks):
        return None
    algorithms = tuple(bank.algorithm for bank in banks)
    return Dump(algorithms, merge_banks(banks), cursor.end)


def _read_bank(cursor: LineCursor) -> BankLog:
    if cursor.take() not in ("Log Descrption:", "Log Description:"):
        raise cursor.fail("the next bank's log is missing")
    number = cursor.number("Alg", 16)
    algorithm = HashAlgorithm.with_id(number)
    if algorithm is None:
        raise LogError(
            f"the event log has a bank of algorithm {number:#06x}, which is not known"
        )
    cursor.number("Size")
    first, end = cursor.range("EventsOffset")
    if first == end:
        cursor.expect("No Event Log.")
        return BankLog(algorithm, ())
    if algorithm is not _SHA1:
        head = _record(cursor, 0, _SHA1)
        if head.untrusted_type != EV_NO_ACTION:
            raise cursor.fail(f"the log of the {algorithm} bank has no head")
        if len(head.untrusted_data) != _BANK_HEAD_DATA:
            raise cursor.fail(f"the head of the {algorithm} bank is of another size")
        first += 12 + _SHA1.size + _BANK_HEAD_DATA
    return BankLog(algorithm, _records(cursor, algorithm, first, end))


def _records(
    cursor: LineCursor, algorithm: HashAlgorithm, first: int, end: int
) -> tuple[Event, ...]:
    """Read one bank's records: the bytes from `first` to `end` of the log."""
    events: list[Event] = []
    while first < end:
        event = _record(cursor, len(events), algorithm)
        first += 12 + algorithm.size + len(event.untrusted_data)
        events.append(event)
    _require_met(cursor, first, end)
    return tuple(events)


def _read_agile(cursor: LineCursor) -> Dump | None:
    """Read a dump of a crypto-agile log; None when it holds no record."""
    # The field is spelled as tboot spells it.
    cursor.number("allcoated_event_container_size")
    first, end = cursor.range("EventsOffset")
    if first == end:
        cursor.expect("No Event Log found.")
        return None
    spec_id, sizes = _spec_id(cursor)
    first += 12 + _SHA1.size + len(spec_id.untrusted_data)
    algorithms = tuple(
        each for each in map(HashAlgorithm.with_id, sizes) if each is not None
    )
    events = [spec_id]
    while first < end:
        event = _agile_record(cursor, len(events))
        if not set(event.digests) <= set(algorithms):
            raise cursor.fail("a digest of a bank that the head does not name")
        first += 16 + len(event.untrusted_data)
        first += sum(2 + each.size for each in event.digests)
        events.append(event)
    _require_met(cursor, first, end)
    unknown = tuple(each for each in sizes if HashAlgorithm.with_id(each) is None)
    return Dump(
        algorithms,
        tuple(events),
        cursor.end,
        is_agile=True,
        unknown_algorithms=unknown,
    )


def _spec_id(cursor: LineCursor) -> tuple[Event, dict[int, int]]:
    """Read the head of a crypto-agile log: the record as it was, and its banks."""
    cursor.expect("TCG Event Log Header:")
    pcr, kind = cursor.number("pcr_index"), cursor.number("event_type")
    cursor.field("digest")
    size = cursor.number("event_data_size")
    cursor.expect("header event data:")
    if (pcr, kind, cursor.field("signature")) != (0, EV_NO_ACTION, _SPEC_ID):
        raise cursor.fail("no Spec ID record")
    platform = cursor.number("platform_class")
    major = cursor.number("spec_version_major", 8)
    minor = cursor.number("spec_version_minor", 8)
    errata, uintn = cursor.number("spec_errata", 8), cursor.number("uintn_size", 8)
    count = cursor.number("number_of_algorithms")
    if not 0 < count <= _MOST_BANKS:
        raise cursor.fail(f"{count} banks")
    sizes: dict[int, int] = {}
    for _ in range(count):
        number = cursor.number("algorithm_id", 16)
        sizes[number] = cursor.number("digest_size", 16)
        known = HashAlgorithm.with_id(number)
        if known is not None and known.size != sizes[number]:
            raise cursor.fail(f"{known} digests of {sizes[number]} bytes")
    vendor = cursor.sized_hex("vendor_info")
    data = struct.pack("<16sI", _SPEC_ID.encode("ascii"), platform)
    data += struct.pack("<4BI", minor, major, errata, uintn, count)
    data += b"".join(struct.pack("<HH", *each) for each in sizes.items())
    data += bytes([len(vendor)]) + vendor if len(vendor) < 256 else b""
    if len(sizes) != count or len(data) != size:
        raise cursor.fail(f"the Spec ID record is not of {size} bytes")
    return Event(0, 0, EV_NO_ACTION, {_SHA1: _SHA1.zero()}, data), sizes


def _record(cursor: LineCursor, number: int, algorithm: HashAlgorithm) -> Event:
    """Read one record of a container or a bank, from its line "Event:" on."""
    event, digest = _loose_record(cursor, (algorithm,))
    digests = {algorithm: Digest(algorithm, digest)}
    return Event(number, event.pcr, event.untrusted_type, digests, event.untrusted_data)


def _loose_record(
    cursor: LineCursor, algorithms: tuple[HashAlgorithm, ...]
) -> tuple[Event, bytes]:
    """Read a record whose digest is of one of these banks; which one it is, is open."""
    cursor.expect("Event:")
    pcr, kind = cursor.number("PCRIndex"), cursor.number("Type")
    line = cursor.field("Digest")
    sizes = {each.size for each in algorithms}
    size = next((each for each in sizes if len(line) == 3 * each - 1), None)
    if size is None:
        raise cursor.fail("the digest is not as long as its bank's")
    digest = cursor.as_hex(line, size)
    return Event(0, pcr, kind, {}, cursor.sized_hex("Data")), digest


def _agile_record(cursor: LineCursor, number: int) -> Event:
    """Read one record of a crypto-agile log, from its line "TCG Event:" on."""
    cursor.expect("TCG Event:")
    pcr, kind = cursor.number("pcr_index"), cursor.number("event_type")
    count = cursor.number("count")
    if not 0 < count <= _MOST_BANKS:
        raise cursor.fail(f"{count} digests")
    digests: dict[HashAlgorithm, Digest] = {}
    for _ in range(count):
        name = cursor.take()
        if name.startswith("Unsupported algorithm:"):
            raise LogError(f"tboot could not print the event log: {name[:40]}")
        algorithm = _PRINTED_AS.get(name.removesuffix(":"))
        if algorithm is None or algorithm in digests:
            raise cursor.fail(f"{name[:40]!r} instead of the next digest")
        digests[algorithm] = Digest(algorithm, cursor.hex_line(algorithm.size))
    return Event(number, pcr, kind, digests, cursor.sized_hex("event_data"))


def _require_met(cursor: LineCursor, at: int, end: int) -> None:
    if at != end:
        raise cursor.fail(f"the records end at {at} and not at {end}")
