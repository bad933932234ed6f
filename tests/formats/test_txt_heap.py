# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of a raw TXT heap: what is read, and what is refused and where."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from txt_heap_bytes import (
    BASE,
    OS_MLE_SIZE,
    Heap,
    agile_pointer,
    bank_descriptor,
    bank_pointers,
    bios,
    container_pointer,
    element,
    os_sinit,
    sinit_mle,
    table,
)

from aemseal.formats.per_bank_log import BankDescriptor
from aemseal.formats.txt_heap import (
    AgilePointer,
    BankPointers,
    BiosData,
    ContainerPointer,
    OsSinitData,
    is_txt_heap,
    parse_txt_heap,
)
from aemseal.words.errors import FormatError

HASHES = [bytes([value]) * 20 for value in range(1, 5)]
SINIT_MLE = sinit_mle(8, b"\xff" * 20, 0, 0, HASHES, 2)
BIOS_SIZE = 0x56
TAIL = BIOS_SIZE + OS_MLE_SIZE


def heap(elements: bytes = b"", version: int = 7) -> bytes:
    return bytes(Heap(elements, os_sinit_version=version, sinit_mle=SINIT_MLE))


class TestTables:
    def test_they_lie_where_they_do_on_a_t460p(self) -> None:
        read = parse_txt_heap(heap(container_pointer(0xB8F30176)))
        assert len(bios()) == BIOS_SIZE
        assert (read.os_mle.offset, read.os_mle.size) == (0x5E, OS_MLE_SIZE - 8)
        assert len(os_sinit(7, container_pointer(0))) == 0x7C
        assert len(os_sinit(7, agile_pointer(0, 0))) == 0x88
        assert len(os_sinit(5)) == 0x64

    def test_what_the_firmware_left(self) -> None:
        data = bytes(Heap(bios=bios(4, sinit_size=0xA000, processors=16)))
        assert parse_txt_heap(data).bios == BiosData(4, 0xA000, 0, 0, 16, 1)

    def test_flags_are_in_bios_data_from_version_3_on(self) -> None:
        for version, flags in ((2, None), (3, 1), (6, 1)):
            read = parse_txt_heap(bytes(Heap(bios=bios(version))))
            assert read.bios.flags == flags

    def test_what_the_launcher_told_sinit(self) -> None:
        read = parse_txt_heap(heap()).os_sinit
        assert (read.version, read.flags, read.capabilities) == (7, 1, 0x602)
        assert (read.mle_page_table, read.mle_size, read.mle_header) == (
            0x801000,
            0x4A000,
            0x1BC00,
        )
        assert (read.lcp_po_base, read.lcp_po_size, read.rsdp) == (0, 0, 0x2472E20)

    def test_older_launchers_told_less(self) -> None:
        for version, rsdp in ((4, None), (5, 0x2472E20), (6, 0x2472E20)):
            read = parse_txt_heap(heap(version=version)).os_sinit
            assert (read.version, read.rsdp, read.logs) == (version, rsdp, ())

    def test_what_sinit_told_the_launched_system(self) -> None:
        read = parse_txt_heap(heap()).sinit_mle
        assert (read.version, read.bios_acm_id) == (8, b"\xff" * 20)
        assert [read.sinit_hash.value, read.mle_hash.value] == HASHES[:2]
        assert read.lcp_policy_control == 2

    def test_the_base_is_kept_and_is_a_page(self) -> None:
        assert parse_txt_heap(heap()).base is None
        assert parse_txt_heap(heap(), BASE).base == BASE
        for base in (-4096, BASE + 8):
            with pytest.raises(ValueError, match="begins at a page"):
                parse_txt_heap(heap(), base)


class TestElements:
    def test_those_of_a_log_are_read_and_all_others_stepped_over(self) -> None:
        elements = b"".join(
            (
                element(4, b"a launcher's own"),
                container_pointer(0xB8F30176),
                element(6, bytes(188)),
                element(9, b""),
                agile_pointer(0xB9F30176, 1510),
            )
        )
        assert parse_txt_heap(heap(elements)).os_sinit.logs == (
            ContainerPointer(0xB8F30176),
            AgilePointer(0xB9F30176, 8192, 0, 1510),
        )

    def test_element_7_names_a_log_for_each_bank(self) -> None:
        one = bank_descriptor(4, 0x1000, 1602)
        two = bank_descriptor(0x0B, 0x2000, 1900, first=60)
        assert parse_txt_heap(heap(bank_pointers(one, two))).os_sinit.logs == (
            BankPointers(
                (
                    BankDescriptor(4, 0x1000, 4096, 0, 1602),
                    BankDescriptor(0x0B, 0x2000, 4096, 60, 1900),
                )
            ),
        )

    @pytest.mark.parametrize(
        ("elements", "offset", "message"),
        [
            (struct.pack("<II", 9, 7), 0, "type 9 and 7 bytes"),
            (struct.pack("<II", 9, 0), 0, "type 9 and 0 bytes"),
            (struct.pack("<II", 9, 2**30), 8, "type 9 needs 1073741816 bytes and 8"),
            (element(5, b""), 8, "type 5: address needs 8 bytes"),
            (bank_pointers(), 0, "type 7: an event log of no bank"),
            (element(7, struct.pack("<I", 2**30)), 8, "type 7: 1073741824 banks"),
            (bank_pointers(*[bank_descriptor(4, 0, 9)] * 17), 8, "type 7: 17 banks"),
            (element(7, b"\2\0\0\0" + bytes(24)), 36, "bank descriptor: algorithm"),
            (
                bank_pointers(bank_descriptor(4, 0, 9, first=10)),
                12,
                "from 10 to 9 of 4096 bytes",
            ),
            (element(8, bytes(19)), 24, "type 8: offset needs 4 bytes and 3"),
            (agile_pointer(0, 9, allocated=8), 0, "type 8: records from 0 to 9 of 8"),
            (agile_pointer(0, 9, first=10), 0, "type 8: records from 10 to 9 of 8192"),
        ],
    )
    def test_a_damaged_one_is_refused_with_its_offset(
        self, elements: bytes, offset: int, message: str
    ) -> None:
        with pytest.raises(FormatError, match=message) as info:
            parse_txt_heap(heap(elements))
        assert info.value.offset == TAIL + 0x64 + offset

    def test_a_list_without_an_end_stops_at_its_table(self) -> None:
        data = bytearray(heap())
        data[TAIL : TAIL + 8] = struct.pack("<Q", 0x64)
        with pytest.raises(FormatError, match="heap element: type") as info:
            parse_txt_heap(bytes(Heap()).replace(os_sinit(7), table(os_sinit(7)[8:-8])))
        assert info.value.offset == TAIL + 0x64


def changed(offset: int, value: bytes) -> Callable[[], bytes]:
    data = heap()
    return lambda: data[:offset] + value + data[offset + len(value) :]


class TestDamage:
    @pytest.mark.parametrize(
        ("make", "offset", "message"),
        [
            (changed(0, struct.pack("<Q", 0)), 0, "BiosData of 0 bytes"),
            (changed(0, struct.pack("<Q", 8)), 0, "BiosData of 8 bytes"),
            (changed(0, struct.pack("<Q", 2**63)), 0, "BiosData claims"),
            (changed(8, b"\1"), 8, "BiosData of version 1 is not known"),
            (changed(32, bytes(4)), 8, "BiosData of 0 processors"),
            (changed(32, b"\xff" * 4), 8, "BiosData of 4294967295 processors"),
            (changed(BIOS_SIZE, bytes(8)), BIOS_SIZE, "OsMleData of 0 bytes"),
            (changed(TAIL, b"\xff" * 8), TAIL, "OsSinitData claims"),
            (changed(TAIL + 8, b"\3"), TAIL + 8, "OsSinitData of version 3"),
            (changed(TAIL + 8, b"\10"), TAIL + 8, "OsSinitData of version 8"),
            (
                changed(TAIL + 0x6C, b"\1\0\0\0\0\0\0\0"),
                TAIL + 0x6C,
                "SinitMleData of 1",
            ),
            (changed(TAIL + 0x74, b"\5"), TAIL + 0x74, "SinitMleData of version 5"),
        ],
    )
    def test_it_is_refused_with_its_offset(
        self, make: Callable[[], bytes], offset: int, message: str
    ) -> None:
        with pytest.raises(FormatError, match=message) as info:
            parse_txt_heap(make())
        assert info.value.offset == offset
        assert not is_txt_heap(make())

    def test_every_cut_within_the_tables_is_refused_with_its_offset(self) -> None:
        data = heap(agile_pointer(0, 0))
        end = len(Heap.bios) + OS_MLE_SIZE + 0x88 + 8 + len(SINIT_MLE)
        assert parse_txt_heap(data[:end]).os_sinit == parse_txt_heap(data).os_sinit
        cuts = [*range(200), *range(TAIL - 9, end)]
        for size in cuts:
            assert not is_txt_heap(data[:size])
            with pytest.raises(FormatError) as info:
                parse_txt_heap(data[:size])
            assert info.value.offset <= size

    def test_claims_of_1_gib_allocate_nothing(self) -> None:
        size = struct.pack("<Q", 2**30)
        tracemalloc.start()
        for data in (size + bytes(92), bios()[:86] + size):
            with pytest.raises(FormatError, match="claims 1073741824 bytes"):
                parse_txt_heap(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000


def test_values_that_cannot_be_are_never_made() -> None:
    with pytest.raises(ValueError, match="of no bank"):
        BankPointers(())
    with pytest.raises(ValueError, match="records from 2 to 1"):
        AgilePointer(0, 9, 2, 1)
    with pytest.raises(ValueError, match="version 8"):
        OsSinitData(8, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="version 1"):
        dataclasses.replace(BiosData(2, 0, 0, 0, 1), version=1)


u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(
    st.lists(
        st.one_of(
            st.builds(ContainerPointer, u64),
            st.builds(
                lambda a, bounds: AgilePointer(a, bounds[2], bounds[0], bounds[1]),
                u64,
                st.lists(u32, min_size=3, max_size=3).map(sorted),
            ),
            st.binary(max_size=9),
        ),
        max_size=4,
    )
)
def test_the_pointers_that_a_launcher_writes_are_read_back(
    written: list[ContainerPointer | AgilePointer | bytes],
) -> None:
    elements = b""
    for each in written:
        match each:
            case ContainerPointer(address):
                elements += container_pointer(address)
            case AgilePointer(address, allocated, first, end):
                elements += agile_pointer(
                    address, end, allocated=allocated, first=first
                )
            case bytes():
                elements += element(9, each)
    logs = tuple(each for each in written if not isinstance(each, bytes))
    assert parse_txt_heap(heap(elements)).os_sinit.logs == logs
