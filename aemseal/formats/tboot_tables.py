# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in the text that tboot prints, and the event log they stand in for.

A SINIT that takes OsSinitData below version 6 (Core 2 era, TPM 1.2) keeps no event
log. What it extended is in its own table for the launched system (SinitMleData), what
tboot extends is in its list of "VL measurements"; both are printed, and together they
give the PCRs of the legacy mapping.

Source: tboot txt/heap.c (print_os_sinit_data, print_sinit_mle_data) and
common/integrity.c (print_pre_k_s3_state, extend_pcrs, verify_integrity), 1.5 to 1.11.
The list names the bank of each digest since 1.8; before it all are SHA-1.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from aemseal.formats.sinit_mle import SinitMleData
from aemseal.formats.tboot_lines import WHOLE_TEXT, LineCursor, last_mark
from aemseal.words.digest import PCR_COUNT, Digest, Digests, HashAlgorithm
from aemseal.words.errors import FormatError, LogError
from aemseal.words.events import (
    TBOOT_MEASUREMENT,
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_MLE_HASH,
    Event,
    EventLog,
)

FIRST_WITH_LOG = 6
"""The version of OsSinitData from which on it points to an event log."""

_SHA1 = HashAlgorithm.SHA1
_DETAILS_AUTHORITIES = 0x20
"""OsSinitData's capability bit for the details/authorities mapping."""

_FIRST_WITH_SCRTM_STATUS = 8
_MOST_BANKS = 16
_MOST_REGIONS = 4096
_LAUNCH_PCR, _MLE_PCR = 17, 18

_LIST = rb"VL measurements:"
_OS_SINIT = rb"os_sinit_data \(@"
_SINIT_MLE = rb"sinit_mle_data \(@"
_RESUMED = rb"verifying pre_k_s3_state"
_ENTRY = re.compile(r"PCR ([0-9]{1,3}) ?\(alg count ([0-9]{1,3})\):")
_OLD_ENTRY = re.compile(r"PCR ([0-9]{1,3}): ([0-9a-fA-F ]+)")
_BANK_DIGEST = re.compile(r"alg ([0-9a-fA-F]{4}): ([0-9a-fA-F ]+)")
_OS_SINIT_LINES = 20
"""The capabilities are within the first lines of a printed OsSinitData."""

Measurement = tuple[int, Digests]
"""What tboot extends: a PCR, and a digest for each bank."""


@dataclass(frozen=True, slots=True)
class MeasurementList:
    """tboot's list of what it extends, in order, and where in the text it begins."""

    offset: int
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class OsSinitTable:
    """What a printed OsSinitData says: its version, the capabilities asked for."""

    version: int
    capabilities: int


def last_list(text: bytes) -> MeasurementList | None:
    """Read the last list of "VL measurements"; None when the text has none.

    Raises FormatError with the offset when it is damaged, or the text ends before a
    whole line after it: a list does not say how long it is. LogError for a bank that is
    not known.
    """
    start = last_mark(text, _LIST)
    if start is None:
        return None
    cursor = LineCursor(text, start, "VL measurements")
    cursor.take()
    measurements: list[Measurement] = []
    digests: Digests
    line = cursor.take()
    while entry := _ENTRY.fullmatch(line) or _OLD_ENTRY.fullmatch(line):
        if int(entry[1]) >= PCR_COUNT:
            raise cursor.fail(f"there is no PCR {entry[1]}")
        if entry.re is _OLD_ENTRY:
            digests = {_SHA1: Digest(_SHA1, cursor.as_hex(entry[2].strip(), 20))}
        else:
            digests = _bank_digests(cursor, int(entry[2]))
        measurements.append((int(entry[1]), digests))
        line = cursor.take()
    if line.startswith(("PCR ", "alg ")) or not (measurements and cursor.is_ended):
        raise cursor.fail("a measurement is damaged or cut off")
    return MeasurementList(start, tuple(measurements))


def os_sinit_table(text: bytes) -> OsSinitTable | None:
    """Read the last OsSinitData printed; None without one.

    Raises FormatError with the offset when it is damaged.
    """
    start = last_mark(text, _OS_SINIT)
    if start is None:
        return None
    cursor = LineCursor(text, start, "os_sinit_data")
    cursor.take()
    version = cursor.number("version")
    for _ in range(_OS_SINIT_LINES):
        line = cursor.take()
        if line.startswith("capabilities:"):
            value = line.removeprefix("capabilities:").strip()
            if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", value) is None:
                break
            return OsSinitTable(version, int(value, 16))
    raise cursor.fail("the line 'capabilities' is missing")


def sinit_mle_table(text: bytes) -> tuple[int, SinitMleData] | None:
    """Read the last SinitMleData printed, and where it begins; None without one.

    Raises FormatError with the offset when it is damaged, LogError for a version that
    is not known.
    """
    start = last_mark(text, _SINIT_MLE)
    if start is None:
        return None
    cursor = LineCursor(text, start, "sinit_mle_data")
    cursor.take()
    version = cursor.number("version")
    acm_id = _below(cursor, "bios_acm_id")
    edx = cursor.number("edx_senter_flags")
    mseg_valid = cursor.number("mseg_valid", 64)
    names = ("sinit_hash", "mle_hash", "stm_hash", "lcp_policy_hash")
    sinit, mle, stm, lcp = (Digest(_SHA1, _below(cursor, name)) for name in names)
    control = cursor.number("lcp_policy_control")
    scrtm = _scrtm_status(cursor) if version >= _FIRST_WITH_SCRTM_STATUS else None
    try:
        table = SinitMleData(
            version, acm_id, edx, mseg_valid, sinit, mle, stm, lcp, control, scrtm
        )
    except ValueError as error:
        raise LogError(f"{error}: what SINIT measured is not known") from None
    return start, table


def rebuilt_log(text: bytes) -> EventLog:
    """Make the log of a launch that kept none, from the tables in the text.

    Its digests are what was extended, but for HASH_START's where SINIT's table tells
    PCR 17 after it alone: that record has the PCR's value and no data.
    Raises LogError where a log was kept, or the tables cannot stand in for it (TPM
    2.0, details/authorities mapping), FormatError with the offset where one is damaged
    or missing.
    """
    _require_no_log(text)
    found = sinit_mle_table(text)
    os_sinit = os_sinit_table(text)
    if found is None or os_sinit is None:
        raise FormatError(
            "tboot text: no event log, and not the tables to rebuild it from",
            len(text),
            WHOLE_TEXT,
        )
    start, table = found
    if os_sinit.version >= FIRST_WITH_LOG:
        raise LogError(
            "the launch kept an event log, and the text does not show it",
            WHOLE_TEXT,
        )
    if os_sinit.capabilities & _DETAILS_AUTHORITIES:
        raise LogError(
            "the launch kept no event log, and its details/authorities mapping of the "
            "PCRs cannot be rebuilt",
            "start tboot with pcr_map=legacy",
        )
    listed = last_list(text)
    if listed is None or not (listed.offset > start or _is_resumed(text, start)):
        raise ends_early(text)
    events = [*_sinit_events(table, os_sinit), *own_events(listed.measurements, 3)]
    for event in events:
        if set(event.digests) != {_SHA1}:
            raise FormatError(
                f"tboot text: PCR {event.pcr} is extended in another bank than sha1",
                listed.offset,
            )
    return EventLog("tboot-text", (_SHA1,), tuple(events), rebuilt=True)


def ends_early(text: bytes) -> FormatError:
    """Return the error for a text without the measurements that tboot extended."""
    what = "tboot text: it ends before tboot's measurements"
    return FormatError(what, len(text), WHOLE_TEXT)


def own_events(measurements: tuple[Measurement, ...], number: int) -> tuple[Event, ...]:
    """Return tboot's measurements as events, numbered from `number` on."""
    return tuple(
        Event(number + place, pcr, TBOOT_MEASUREMENT, digests)
        for place, (pcr, digests) in enumerate(measurements)
    )


def _sinit_events(table: SinitMleData, os_sinit: OsSinitTable) -> tuple[Event, ...]:
    """Return what SINIT extended in the legacy mapping: 0x402, 0x403 and 0x404."""
    edx = struct.pack("<I", table.edx_senter_flags)
    start, data = table.pcr_17_after_hash_start(), table.sinit_hash.value + edx
    if start == table.sinit_hash:
        data = b""
    else:
        start = _SHA1.hash(data)
    combined = table.combined_hash_data(os_sinit.capabilities)
    return (
        Event(0, _LAUNCH_PCR, TXT_HASH_START, {_SHA1: start}, data),
        Event(
            1,
            _LAUNCH_PCR,
            TXT_COMBINED_HASH,
            {_SHA1: _SHA1.hash(combined)},
            combined,
        ),
        Event(2, _MLE_PCR, TXT_MLE_HASH, {_SHA1: table.mle_hash}),
    )


def _require_no_log(text: bytes) -> None:
    """Refuse a text that tells of a TPM 2.0: its SINIT always keeps a log."""
    if last_mark(text, rb"TPM: (?:discrete TPM2|This is Intel PTT|supported bank)"):
        raise LogError(
            "the launch used a TPM 2.0, and the text does not show its event log",
            WHOLE_TEXT,
        )


def _is_resumed(text: bytes, start: int) -> bool:
    """Whether the table is of a wake from S3: its measurements are those from before.

    tboot extends the list it has kept then, and does not print it again.
    """
    resumed = last_mark(text, _RESUMED)
    return resumed is not None and resumed > start


def _bank_digests(cursor: LineCursor, count: int) -> Digests:
    if not 0 < count <= _MOST_BANKS:
        raise cursor.fail(f"a measurement in {count} banks")
    digests: dict[HashAlgorithm, Digest] = {}
    for _ in range(count):
        found = _BANK_DIGEST.fullmatch(cursor.take())
        if found is None:
            raise cursor.fail("a digest is missing")
        algorithm = HashAlgorithm.with_id(int(found[1], 16))
        if algorithm is None:
            raise LogError(f"tboot extends a bank of algorithm 0x{found[1]}")
        value = cursor.as_hex(found[2].strip(), algorithm.size)
        if algorithm in digests:
            raise cursor.fail(f"a second {algorithm} digest")
        digests[algorithm] = Digest(algorithm, value)
    return digests


def _below(cursor: LineCursor, name: str) -> bytes:
    """Take a name with nothing behind it, and 20 bytes of hex from the line below."""
    if cursor.field(name):
        raise cursor.fail(f"{name!r} is followed by more on its line")
    return cursor.hex_line(_SHA1.size)


def _scrtm_status(cursor: LineCursor) -> int:
    """Take the lines between `lcp_policy_control` and this field, and it."""
    cursor.number("rlp_wakeup_addr")
    regions = cursor.number("num_mdrs")
    if regions > _MOST_REGIONS:
        raise cursor.fail(f"{regions} memory regions")
    for name in ("mdrs_off", "num_vtd_dmars", "vtd_dmars_off"):
        cursor.number(name)
    cursor.expect("sinit_mdrs:")
    for _ in range(regions):
        cursor.take()
    return cursor.number("proc_scrtm_status")
