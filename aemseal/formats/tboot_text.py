# SPDX-License-Identifier: GPL-2.0-or-later
"""The launch's event log in the text that tboot prints ("tboot-text").

txt-stat shows it, and a serial console does. Of all that is printed the last dump of
the event log counts, with the records that tboot added after it; its list of "VL
measurements", printed before it extends them, must say the same. Where no log was kept
at all the tables stand in for it (`tboot_tables.rebuilt_log`).

Everything here is text that anyone may write: it is evidence only after replay.
"""

from __future__ import annotations

from aemseal.formats.tboot_dumps import Dump, Extend, last_dump, own_records
from aemseal.formats.tboot_lines import is_marked
from aemseal.formats.tboot_tables import (
    Measurement,
    MeasurementList,
    ends_early,
    last_list,
    own_events,
    rebuilt_log,
)
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError
from aemseal.words.events import TBOOT_MEASUREMENT, EventLog

MOST_BYTES = 4 << 20
"""tboot's text is 64 KiB at most; a serial console goes on with Xen's and Linux'."""

_FORMAT = "tboot-text"
_LEAST = 8
"""Every binary log has a zero in its first bytes: a PCR's index, or a size."""


def is_tboot_text(data: bytes) -> bool:
    """Whether this is text of tboot's: no binary log, and a line is marked as its."""
    return b"\0" not in data[:_LEAST] and is_marked(data[:MOST_BYTES])


def parse_tboot_text(text: bytes) -> EventLog:
    """Read the launch's event log from the text, or rebuild it where none was kept.

    The Spec ID record of a crypto-agile log is event 0, byte for byte as it was.
    `rebuilt` tells that some events are from tables and not from a log: all of them,
    or tboot's own where it appended none (1.9.6 on crypto-agile logs).

    Raises FormatError with the offset where the text is cut off, damaged, larger than
    MOST_BYTES or contradicts itself; LogError where it is of a launch that it does not
    show the log of, has a bank that is not known, or has banks that contradict each
    other.
    """
    if len(text) > MOST_BYTES:
        raise FormatError(
            f"tboot text: more than {MOST_BYTES} bytes",
            MOST_BYTES,
            "cut off what is not tboot's",
        )
    dump = last_dump(text)
    if dump is None:
        return rebuilt_log(text)
    records, listed = own_records(text, dump), last_list(text)
    measurements, is_logged = _own_measurements(text, dump, records, listed)
    events = dump.events + own_events(measurements, len(dump.events))
    return EventLog(
        _FORMAT,
        dump.algorithms,
        events,
        unknown_algorithms=dump.unknown_algorithms,
        rebuilt=not is_logged,
    )


def _own_measurements(
    text: bytes,
    dump: Dump,
    records: tuple[Extend, ...],
    listed: MeasurementList | None,
) -> tuple[tuple[Measurement, ...], bool]:
    """Return what tboot extended after the dump, and whether records of it say so.

    After a wake from S3 the list stands before the dump: the records are repeated,
    the list is not.
    """
    if listed is not None and (records or listed.offset >= dump.end):
        if records and records != _as_records(listed.measurements, dump):
            raise FormatError(
                "tboot text: tboot's records are not those of its VL measurements",
                listed.offset,
            )
        for pcr, digests in listed.measurements:
            if not set(digests) <= set(dump.algorithms):
                raise FormatError(
                    f"tboot text: PCR {pcr} is extended in a bank that the event log "
                    "does not have",
                    listed.offset,
                )
        return listed.measurements, bool(records)
    if records:
        return tuple(_with_banks(dump, each) for each in records), True
    if any(each.untrusted_type == TBOOT_MEASUREMENT for each in dump.events):
        return (), True
    raise ends_early(text)


def _as_records(
    measurements: tuple[Measurement, ...], dump: Dump
) -> tuple[Extend, ...]:
    """Return the list as the records that tboot logs for it in this kind of log."""
    if dump.is_agile:
        return tuple(
            (pcr, tuple(each.value for each in digests.values()))
            for pcr, digests in measurements
        )
    return tuple(
        (pcr, (each.value,))
        for pcr, digests in measurements
        for each in digests.values()
    )


def _with_banks(dump: Dump, record: Extend) -> Measurement:
    """Find the bank of each digest, where no list names it: its size must tell it.

    Where each bank has its own log, a record is one bank's and nothing says which
    records are of one measurement: then there must be one bank.
    """
    pcr, values = record
    is_open = not dump.is_agile and len(dump.algorithms) > 1
    digests: dict[HashAlgorithm, Digest] = {}
    for value in values:
        fitting = [each for each in dump.algorithms if each.size == len(value)]
        if is_open or len(fitting) != 1:
            raise FormatError(
                f"tboot text: no VL measurements say which bank a digest of PCR {pcr} "
                "is of",
                dump.end,
            )
        digests[fitting[0]] = Digest(fitting[0], value)
    return pcr, digests
