# SPDX-License-Identifier: GPL-2.0-or-later
"""The event log inside a raw TXT heap: found without its base, or refused."""

from __future__ import annotations

import dataclasses
import struct
import time

import pytest
from event_log_bytes import (
    VECTORS,
    agile_record,
    container,
    needs_vectors,
    sha1_record,
    spec_id,
)
from hypothesis import given
from hypothesis import strategies as st
from per_bank_bytes import Row, bank, head
from txt_heap_bytes import (
    BASE,
    LOG_OFFSET,
    Heap,
    agile_pointer,
    bank_descriptor,
    bank_pointers,
    container_pointer,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.txt_heap import parse_txt_heap
from aemseal.formats.txt_heap_log import read_heap_log
from aemseal.measure.replay import replay
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import EvidenceError, FormatError, LogError
from aemseal.words.events import EventLog

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
ADDRESS = BASE + LOG_OFFSET
AGILE = (
    spec_id({4: 20, 0x0B: 32})
    + agile_record(17, 0x402, [(4, b"\1" * 20), (0x0B, b"\2" * 32)], b"acm")
    + agile_record(17, 0x501, [(0x0B, b"\3" * 32)])
)
CONTAINER = container(
    sha1_record(17, 0x402, b"\1" * 20, b"x" * 36) + sha1_record(17, 0x501, b"\2" * 20)
)
ROWS: list[Row] = [(17, 0x402, b"x" * 36), (17, 0x404, b""), (17, 0x501, b"")]
SHA1_BANK, SHA256_BANK = bank(4, ROWS), bank(0x0B, ROWS)
PAGE = 4096


def agile_heap(**changes: object) -> Heap:
    made = Heap(agile_pointer(ADDRESS, len(AGILE)), AGILE)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # by name


def container_heap() -> Heap:
    return Heap(container_pointer(ADDRESS), CONTAINER)


def bank_heap(first_sha1: bool = True) -> Heap:
    """tboot's buffer: 4096 bytes for each bank, one behind the other."""
    logs = [(4, SHA1_BANK), (0x0B, SHA256_BANK)]
    if not first_sha1:
        logs.reverse()
    descriptors = [
        bank_descriptor(tcg_id, ADDRESS + place * PAGE, len(log))
        for place, (tcg_id, log) in enumerate(logs)
    ]
    buffer = b"".join(log.ljust(PAGE, b"\0") for _, log in logs)
    return Heap(bank_pointers(*descriptors), buffer)


HEAPS = {
    "element 5": (container_heap(), CONTAINER),
    "element 7, sha1 first": (bank_heap(), None),
    "element 7, sha256 first": (bank_heap(False), None),
    "element 8": (agile_heap(), AGILE),
}


@pytest.mark.parametrize("base", [None, BASE])
@pytest.mark.parametrize(("heap", "log"), HEAPS.values(), ids=HEAPS)
def test_the_log_is_found_with_and_without_the_base(
    heap: Heap, log: bytes | None, base: int | None
) -> None:
    read = read_heap_log(parse_txt_heap(bytes(heap), base))
    assert read == parse_event_log(bytes(heap))
    assert read.format == "txt-heap"
    if log is not None:
        assert read.events == parse_event_log(log).events


@pytest.mark.parametrize("first_sha1", [True, False])
def test_the_banks_are_joined(first_sha1: bool) -> None:
    log = parse_event_log(bytes(bank_heap(first_sha1)))
    assert set(log.algorithms) == {SHA1, SHA256}
    assert [each.name for each in log.events] == ["HASH_START", "MLE_HASH", "TBOOT"]
    assert all(len(each.digests) == 2 for each in log.events)


class TestWhereItEnds:
    def test_an_agile_log_ends_at_its_next_offset(self) -> None:
        heap = agile_heap(log=AGILE + agile_record(17, 0x501, [(0x0B, b"\4" * 32)]))
        assert parse_event_log(bytes(heap)).events == parse_event_log(AGILE).events

    def test_and_begins_at_its_first(self) -> None:
        end = 64 + len(AGILE)
        heap = agile_heap(
            elements=agile_pointer(ADDRESS, end, first=64), log=bytes(64) + AGILE
        )
        assert parse_event_log(bytes(heap)).events == parse_event_log(AGILE).events

    def test_a_bank_may_begin_behind_its_address(self) -> None:
        log = bytes(32) + SHA256_BANK
        pointer = bank_descriptor(0x0B, ADDRESS, len(log), first=32)
        read = parse_event_log(bytes(Heap(bank_pointers(pointer), log)))
        assert len(read.events) == 3

    def test_a_bank_without_records_is_named_and_found_incomplete(self) -> None:
        pointers = bank_pointers(
            bank_descriptor(4, 0, 4000, first=4000, size=0x10000),
            bank_descriptor(0x0B, ADDRESS, len(SHA256_BANK)),
            bank_descriptor(0x27, ADDRESS + PAGE, 9),
        )
        log = parse_event_log(bytes(Heap(pointers, SHA256_BANK)))
        assert (log.algorithms, log.unknown_algorithms) == ((SHA1, SHA256), (0x27,))
        assert replay(log).missing[SHA1] == {17: (0, 1, 2)}

    def test_zeros_before_the_next_offset_are_no_events(self) -> None:
        """What tboot 1.9.7 to 1.10.0 leave: the end was moved, no record there."""
        record = agile_record(17, 0x501, [(0x0B, b"\3" * 32)])
        log = AGILE.removesuffix(record) + bytes(len(record))
        read = parse_event_log(bytes(agile_heap(log=log)))
        assert [each.name for each in read.events] == ["EV_NO_ACTION", "HASH_START"]


class TestNoLog:
    @pytest.mark.parametrize("version", [4, 5, 6, 7])
    def test_a_heap_that_names_none_is_told_apart_by_its_version(
        self, version: int
    ) -> None:
        with pytest.raises(LogError) as info:
            parse_event_log(bytes(Heap(os_sinit_version=version)))
        assert info.value.message == (
            f"the TXT heap names no event log (OsSinitData of version {version}): this "
            "machine's SINIT keeps none"
        )

    @pytest.mark.parametrize(
        "elements",
        [
            agile_pointer(ADDRESS, 0),
            agile_pointer(ADDRESS, 60, first=60),
            container_pointer(0),
            bank_pointers(bank_descriptor(4, ADDRESS, 0)),
        ],
    )
    def test_an_empty_one_is_refused(self, elements: bytes) -> None:
        with pytest.raises(LogError, match="is empty: SINIT wrote no record"):
            parse_event_log(bytes(Heap(elements)))

    def test_more_than_one_is_refused(self) -> None:
        elements = agile_pointer(ADDRESS, 99) + container_pointer(ADDRESS)
        with pytest.raises(LogError, match="names 2 event logs"):
            parse_event_log(bytes(Heap(elements)))

    def test_two_of_one_bank_are_refused(self) -> None:
        pointer = bank_descriptor(0x0B, ADDRESS, len(SHA256_BANK))
        heap = Heap(bank_pointers(pointer, pointer), SHA256_BANK)
        with pytest.raises(LogError, match="two event logs of one bank"):
            parse_event_log(bytes(heap))


class TestWhereItLies:
    @pytest.mark.parametrize(("heap", "_"), HEAPS.values(), ids=HEAPS)
    def test_where_the_dump_does_not_hold_it_it_is_refused(
        self, heap: Heap, _: object
    ) -> None:
        cut = heap.log[: len(heap.log.rstrip(b"\0")) - 9]
        for log in (b"", heap.log[:30], cut):
            behind = dataclasses.replace(heap, log=log, log_offset=0x1F176)
            data = bytes(behind)[: 0x1F176 + len(log)]
            with pytest.raises(LogError, match="is not in the TXT heap that names it"):
                parse_event_log(data)

    @pytest.mark.parametrize(("heap", "_"), HEAPS.values(), ids=HEAPS)
    def test_at_two_places_it_is_refused_and_the_base_decides(
        self, heap: Heap, _: object
    ) -> None:
        far = dataclasses.replace(heap, log=heap.log, size=0x30000)
        data = bytearray(bytes(far))
        again = LOG_OFFSET + 16 * PAGE
        data[again : again + len(heap.log)] = heap.log
        with pytest.raises(LogError, match="may begin at 2 places") as info:
            parse_event_log(bytes(data))
        assert info.value.hint == "give the log itself"
        found = read_heap_log(parse_txt_heap(bytes(data), BASE))
        assert found == parse_event_log(bytes(heap))

    @pytest.mark.parametrize("base", [BASE + PAGE, 0, 2**40])
    def test_where_a_wrong_base_points_no_log_is(self, base: int) -> None:
        heap = parse_txt_heap(bytes(agile_heap()), base)
        with pytest.raises(LogError, match=f"no event log is at {ADDRESS:#x}, where"):
            read_heap_log(heap)

    def test_a_place_that_does_not_agree_modulo_4096_is_none(self) -> None:
        heap = agile_heap(log_offset=LOG_OFFSET + 8)
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(bytes(heap))

    def test_an_address_below_every_place_is_none(self) -> None:
        heap = agile_heap(elements=agile_pointer(LOG_OFFSET % PAGE, len(AGILE)))
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(bytes(heap))

    def test_every_bank_must_agree(self) -> None:
        heap = bank_heap()
        lacking = dataclasses.replace(heap, log=heap.log[:PAGE])
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(bytes(lacking))
        below = bank_pointers(
            bank_descriptor(0x0B, ADDRESS, len(SHA256_BANK)),
            bank_descriptor(4, 0x1000, len(SHA1_BANK)),
        )
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(bytes(Heap(below, SHA256_BANK)))

    def test_a_bank_below_the_heap_is_not_at_its_end(self) -> None:
        base = 0x100000
        below = bank_pointers(
            bank_descriptor(0x0B, base + LOG_OFFSET, len(SHA256_BANK)),
            bank_descriptor(4, base - PAGE, len(SHA1_BANK)),
        )
        data = bytearray(bytes(Heap(below, SHA256_BANK)))
        data[-PAGE : len(SHA1_BANK) - PAGE] = SHA1_BANK
        with pytest.raises(LogError, match="no event log is at 0x110176"):
            read_heap_log(parse_txt_heap(bytes(data), base))

    @pytest.mark.parametrize("spare", [-1, -4, 1, 4, 31, 32, 60])
    def test_sha1_records_must_fill_their_bounds(self, spare: int) -> None:
        pointer = bank_descriptor(4, ADDRESS, len(SHA1_BANK) + spare)
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(bytes(Heap(bank_pointers(pointer), SHA1_BANK)))

    def test_a_sha1_bank_with_a_head_fills_them_too(self) -> None:
        log = head(4) + SHA1_BANK
        pointer = bank_descriptor(4, ADDRESS, len(log))
        assert (
            len(parse_event_log(bytes(Heap(bank_pointers(pointer), log))).events) == 3
        )

    def test_a_bank_of_unknown_algorithm_alone_cannot_be_told(self) -> None:
        pointer = bank_pointers(bank_descriptor(0x27, ADDRESS, 60))
        with pytest.raises(LogError, match="may begin at 32 places"):
            parse_event_log(bytes(Heap(pointer)))


class TestDamage:
    def test_offsets_count_from_the_start_of_the_heap(self) -> None:
        damaged = AGILE[:-4] + b"\xff\xff\xff\x3f"
        with pytest.raises(FormatError, match="event 2: data needs 1073741823") as info:
            parse_event_log(bytes(agile_heap(log=damaged)))
        assert info.value.offset == LOG_OFFSET + len(AGILE)
        damaged = CONTAINER[:32] + b"\2" + CONTAINER[33:]
        with pytest.raises(FormatError, match=r"version 2\.0") as info:
            parse_event_log(bytes(dataclasses.replace(container_heap(), log=damaged)))
        assert info.value.offset == LOG_OFFSET + 32

    def test_an_inconsistent_heap_is_no_heap(self) -> None:
        data = bytes(agile_heap())
        for damaged in (b"\x57" + data[1:], data[:8] + b"\1" + data[9:], data[:5000]):
            with pytest.raises(FormatError, match="no event log: no PCR index"):
                parse_event_log(damaged)

    def test_looking_for_the_base_takes_time_in_proportion(self) -> None:
        """A page of records that nearly fit, at every place of 4 MiB."""
        row = sha1_record(17, 0x402, b"\1" * 20)
        pointer = bank_pointers(bank_descriptor(4, ADDRESS, 0x10000 - 1, size=0x10000))
        data = bytes(Heap(pointer, row * 2**17, 0x1F176, size=2**22 + 2**17))
        start = time.monotonic()
        with pytest.raises(LogError, match="is not in the TXT heap"):
            parse_event_log(data)
        assert time.monotonic() - start < 30


@given(st.binary(max_size=200), st.integers(0, 2**17 - 1), st.booleans())
def test_arbitrary_bytes_anywhere_raise_evidence_errors_only(
    noise: bytes, place: int, banks: bool
) -> None:
    data = bytearray(bytes(bank_heap() if banks else agile_heap()))
    data[place : place + len(noise)] = noise
    try:
        parse_event_log(bytes(data))
    except EvidenceError:
        return


@needs_vectors
class TestRealLogs:
    """Logs of real machines, put back to where their tboot kept them."""

    @staticmethod
    def both(name: str, kind: int) -> tuple[EventLog, EventLog]:
        log = (VECTORS / "drtm" / name).read_bytes()
        pointer = agile_pointer(ADDRESS, len(log))
        if kind == 5:
            pointer = container_pointer(ADDRESS)
        return parse_event_log(bytes(Heap(pointer, log))), parse_event_log(log)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("rebuilt_E5470_A_tpm20_tcg.bin", 8),
            ("isecl-txt-logs-trimmed.bin", 8),
            ("rebuilt_T460p_tpm12.bin", 5),
        ],
    )
    def test_they_are_read_as_they_are_as_files(self, name: str, kind: int) -> None:
        inside, alone = self.both(name, kind)
        assert inside == dataclasses.replace(alone, format="txt-heap")

    def test_the_t460ps_address_gives_its_offset(self) -> None:
        assert struct.pack("<Q", ADDRESS) == bytes.fromhex("7601f3b800000000")
