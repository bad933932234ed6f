# SPDX-License-Identifier: GPL-2.0-or-later
"""TCG event logs: SHA-1 only ("tcg-sha1") and crypto-agile ("tcg-agile").

Source: TCG PC Client Platform Firmware Profile 10.2 (TCG_PCClientPCREvent,
TCG_PCR_EVENT2), 10.4.5.1 (Spec ID Event03), 10.4.5.3 (StartupLocality). The same
records are written by firmware, by an SINIT ACM and by a launcher.

Where a log ends. Firmware and launchers write into a buffer of fixed size and readers
often hand over all of it, so a log ends at the first of

- the end that TrenchBoot's Secure Kernel Loader keeps in its header (AMD);
- a record of zeros: no digest, no type, nothing that a TPM could have extended.
  TrenchBoot's own readers stop there too (Intel), and it is what the logs of tboot
  1.9.7 to 1.10.0 hold in place of tboot's records;
- a run of nothing but zeros or nothing but FF up to the last byte. It must be at least
  `MINIMAL_PADDING` bytes long: four zeros or less may also be the PCR index of a
  record that was cut off, and that is refused;
- the last byte.

Anything else after a record is read as a record.
Sources of these: TrenchBoot secure-kernel-loader event_log.c, Xen arch/x86/tpm.c and
qubes-antievilmaid tpm2-evt-log-parser.awk; tboot txt/txt.c, evtlog_append_tpm2_tcg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aemseal.formats.reader import ByteReader
from aemseal.words.digest import PCR_COUNT, Digest, Digests, HashAlgorithm
from aemseal.words.errors import FormatError, LogError
from aemseal.words.events import EV_NO_ACTION, Event, EventLog

MINIMAL_PADDING = 5
MAXIMAL_EVENTS = 65536
"""Real logs hold tens to hundreds; this bounds the memory a hostile one takes."""

_SPEC_ID_AGILE = b"Spec ID Event03\0"
_STARTUP_LOCALITY = b"StartupLocality\0"
_STARTUP_LOCALITIES = frozenset({0, 3, 4})
_TXT_UNMEASURED_PCR = 255
_SKL_VENDOR_INFO_SIZE = 20
_SHA1_RECORD_SIZE = 32
"""PCR index, type, digest and data size, without the data."""
_BLANK_AGILE_HEAD = bytes(12)
"""PCR 0, type 0, no digests."""
_BLANK_DIGEST_HEAD = 12
"""PCR index, type and data size: what surrounds a record's one digest."""


@dataclass(frozen=True, slots=True)
class SpecId:
    """The header of a crypto-agile log: the digest size of each algorithm by its id.

    `sizes` keeps the header's order and holds algorithms unknown to us too, so that
    their digests can be stepped over.
    """

    sizes: dict[int, int]
    vendor_info: bytes

    @property
    def algorithms(self) -> tuple[HashAlgorithm, ...]:
        """The banks we know, in the header's order."""
        known = (HashAlgorithm.with_id(tcg_id) for tcg_id in self.sizes)
        return tuple(each for each in known if each is not None)

    @property
    def unknown_algorithms(self) -> tuple[int, ...]:
        """The TCG identifiers we have no algorithm for."""
        return tuple(each for each in self.sizes if HashAlgorithm.with_id(each) is None)


def parse_tcg_log(data: bytes) -> EventLog:
    """Read a TCG log of either kind, told apart by its first record.

    Raises FormatError with the offset when the bytes are no such log or are cut off,
    LogError when its events contradict each other.
    """
    if len(data) == 0 or _padding_start(data, 0, len(data)) == 0:
        raise FormatError("the event log is empty: no record", 0)
    _require_plausible(data)
    reader = ByteReader(data)
    first = read_sha1_event(reader, 0)
    if has_agile_head(data):
        return _parse_agile(data, reader, first)
    return _parse_sha1(data)


def has_agile_head(data: bytes, offset: int = 0) -> bool:
    """Whether a crypto-agile log begins at `offset`: its Spec ID record is there."""
    event_type = EV_NO_ACTION.to_bytes(4, "little")
    return data.startswith(event_type, offset + 4) and data.startswith(
        _SPEC_ID_AGILE, offset + _SHA1_RECORD_SIZE
    )


def _require_plausible(data: bytes) -> None:
    """Refuse a foreign file: a SHA-1 log has no magic but its first PCR index."""
    if not begins_with_pcr(data):
        raise FormatError(
            "this is no event log: no PCR index",
            0,
            "known are TCG logs (SHA-1, crypto-agile, bank by bank), the TXT event "
            "container, a whole TXT heap, and what txt-stat prints",
        )


def begins_with_pcr(data: bytes) -> bool:
    """Whether the first 4 bytes are a PCR index that a launch logs: 0 to 23, or 255."""
    pcr = int.from_bytes(data[:4], "little")
    return len(data) >= 4 and (pcr < PCR_COUNT or pcr == _TXT_UNMEASURED_PCR)


def read_sha1_event(reader: ByteReader, number: int) -> Event:
    """Read one TCG_PCClientPCREvent: PCR, type, SHA-1 digest, size, data.

    A TXT event container of a TPM 1.2 holds the same records.
    """
    return read_bank_event(reader, number, HashAlgorithm.SHA1)


def read_bank_event(reader: ByteReader, number: int, algorithm: HashAlgorithm) -> Event:
    """Read one record of a single bank's log: as SHA-1's, with a longer digest."""
    name = f"event {number}"
    pcr = reader.u32(f"{name}: PCR index")
    event_type = reader.u32(f"{name}: type")
    digest = reader.take(algorithm.size, f"{name}: digest")
    data = reader.take(reader.u32(f"{name}: data size"), f"{name}: data")
    return Event(number, pcr, event_type, {algorithm: Digest(algorithm, digest)}, data)


def require_room(number: int, offset: int) -> None:
    """Raise FormatError when event `number` is one too many."""
    if number >= MAXIMAL_EVENTS:
        raise FormatError(f"the log goes on after {MAXIMAL_EVENTS} events", offset)


def read_bank_events(
    data: bytes, reader: ByteReader, algorithm: HashAlgorithm
) -> Iterator[Event]:
    """Yield the events of a single bank's log, numbered from 0, up to its end.

    `reader` is one of `data`; the module says where a log ends.
    """

    def read_event(reader: ByteReader, number: int) -> Event:
        return read_bank_event(reader, number, algorithm)

    blank = bytes(_BLANK_DIGEST_HEAD + algorithm.size)
    return _records(data, reader, 0, read_event, blank)


def _parse_sha1(data: bytes) -> EventLog:
    events = tuple(read_bank_events(data, ByteReader(data), HashAlgorithm.SHA1))
    return EventLog(
        "tcg-sha1", (HashAlgorithm.SHA1,), events, _startup_locality(events)
    )


def _parse_agile(data: bytes, reader: ByteReader, first: Event) -> EventLog:
    header_end = reader.offset
    header_start = header_end - len(first.untrusted_data)
    spec_id = _read_spec_id(ByteReader(data, header_start, header_end))
    reader = ByteReader(data, header_end, _skl_end(spec_id, header_end, len(data)))

    def read_event(reader: ByteReader, number: int) -> Event:
        return _read_agile_event(reader, number, spec_id)

    records = _records(data, reader, 1, read_event, _BLANK_AGILE_HEAD)
    events = (first, *records)
    return EventLog(
        "tcg-agile",
        spec_id.algorithms,
        events,
        _startup_locality(events),
        spec_id.unknown_algorithms,
    )


def _records(
    data: bytes,
    reader: ByteReader,
    number: int,
    read_event: Callable[[ByteReader, int], Event],
    blank: bytes,
) -> Iterator[Event]:
    """Yield the events from the reader's place up to the end of the log."""
    padding_start = _padding_start(data, reader.offset, reader.end)
    while not _is_at_end(reader, padding_start):
        if data.startswith(blank, reader.offset, reader.end):
            return
        require_room(number, reader.offset)
        event = read_event(reader, number)
        _require_sane_locality(event, reader.offset)
        yield event
        number += 1


def _is_at_end(reader: ByteReader, padding_start: int) -> bool:
    if reader.remaining >= MINIMAL_PADDING:
        return reader.offset >= padding_start
    return not reader.remaining


def _padding_start(data: bytes, start: int, end: int) -> int:
    """Return the offset from where up to `end` all bytes are 00, or all are FF."""
    body = data[start:end]
    return start + min(len(body.rstrip(b"\0")), len(body.rstrip(b"\xff")))


def _read_agile_event(reader: ByteReader, number: int, spec_id: SpecId) -> Event:
    """Read one TCG_PCR_EVENT2; digests of unknown algorithms are stepped over."""
    name = f"event {number}"
    pcr = reader.u32(f"{name}: PCR index")
    event_type = reader.u32(f"{name}: type")
    digests = _read_digests(reader, name, spec_id)
    data = reader.take(reader.u32(f"{name}: data size"), f"{name}: data")
    return Event(number, pcr, event_type, digests, data)


def _read_digests(reader: ByteReader, name: str, spec_id: SpecId) -> Digests:
    """Read a TPML_DIGEST_VALUES: at most one digest for each row of the header."""
    start = reader.offset
    count = reader.u32(f"{name}: digest count")
    if count > len(spec_id.sizes):
        raise FormatError(
            f"{name} claims {count} digests, the header names {len(spec_id.sizes)} "
            "algorithms",
            start,
        )
    seen: set[int] = set()
    digests: dict[HashAlgorithm, Digest] = {}
    for _ in range(count):
        start = reader.offset
        tcg_id = reader.u16(f"{name}: algorithm of a digest")
        if tcg_id not in spec_id.sizes:
            raise FormatError(
                f"{name}: digest of algorithm {tcg_id:#06x}, which the header does "
                "not name",
                start,
            )
        if tcg_id in seen:
            raise FormatError(f"{name}: second digest of {tcg_id:#06x}", start)
        seen.add(tcg_id)
        value = reader.take(spec_id.sizes[tcg_id], f"{name}: digest")
        algorithm = HashAlgorithm.with_id(tcg_id)
        if algorithm is not None:
            digests[algorithm] = Digest(algorithm, value)
    return digests


def _read_spec_id(reader: ByteReader) -> SpecId:
    """Read a TCG_EfiSpecIDEvent (Spec ID Event03)."""
    reader.take(len(_SPEC_ID_AGILE), "spec id: signature")
    reader.u32("spec id: platform class")
    reader.take(3, "spec id: version and errata")
    reader.u8("spec id: size of UINTN")
    start = reader.offset
    count = reader.u32("spec id: number of algorithms")
    if not 0 < count <= reader.remaining // 4:
        raise FormatError(f"spec id: {count} algorithms", start)
    sizes: dict[int, int] = {}
    for _ in range(count):
        start = reader.offset
        tcg_id = reader.u16("spec id: algorithm")
        size = reader.u16("spec id: digest size")
        if tcg_id in sizes:
            raise FormatError(f"spec id: algorithm {tcg_id:#06x} twice", start)
        known = HashAlgorithm.with_id(tcg_id)
        if known is not None and known.size != size:
            raise FormatError(f"spec id: {known} digests of {size} bytes", start)
        sizes[tcg_id] = size
    vendor_size = reader.u8("spec id: vendor info size")
    return SpecId(sizes, reader.take(vendor_size, "spec id: vendor info"))


def _skl_end(spec_id: SpecId, header_end: int, size: int) -> int:
    """Return where TrenchBoot's SKL says that the log ends; else where the file does.

    The Secure Kernel Loader's vendor info is a TXT heap element of type 8: u64
    address, u32 allocated, u32 first offset, u32 next offset, kept up to date by
    Xen and Linux. A file that is shorter was cut off between two records.
    """
    if len(spec_id.vendor_info) != _SKL_VENDOR_INFO_SIZE:
        return size
    fields = ByteReader(spec_id.vendor_info)
    fields.u64("address")
    allocated, _first, end = (fields.u32("offset") for _ in range(3))
    if not header_end <= end <= allocated:
        return size
    if end > size:
        raise FormatError(f"the header says the log has {end} bytes; it ends", size)
    return end


def _is_startup_locality(event: Event) -> bool:
    return (
        event.untrusted_type == EV_NO_ACTION
        and event.pcr == 0
        and event.untrusted_data.startswith(_STARTUP_LOCALITY)
    )


def _require_sane_locality(event: Event, end: int) -> None:
    """Hold a StartupLocality event to its form: one byte, 0, 3 or 4."""
    if not _is_startup_locality(event):
        return
    value = event.untrusted_data[len(_STARTUP_LOCALITY) :]
    if len(value) != 1 or value[0] not in _STARTUP_LOCALITIES:
        raise FormatError(
            f"event {event.number}: startup locality {value[:8].hex() or 'missing'}",
            end - len(value),
        )


def _startup_locality(events: tuple[Event, ...]) -> int:
    """Return the locality that PCR 0 started from; 0 where no event tells."""
    found = {each.untrusted_data[-1] for each in events if _is_startup_locality(each)}
    if len(found) > 1:
        raise LogError(
            f"the log names the startup localities {sorted(found)}: one is a lie"
        )
    return found.pop() if found else 0
