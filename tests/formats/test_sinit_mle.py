# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT's table for the launched system, and the PCR 17 that it tells."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from typing import Any

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given
from hypothesis import strategies as st
from txt_heap_bytes import sinit_mle

from aemseal.formats.reader import ByteReader
from aemseal.formats.sinit_mle import SinitMleData, read_sinit_mle_data
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError, LogError

SHA1 = HashAlgorithm.SHA1
HASHES = (b"\4" * 20, b"\5" * 20, b"\6" * 20, b"\7" * 20)
FIELDS = (b"\1" * 20, 2, 3, HASHES, 8)


def read(table: bytes) -> SinitMleData:
    return read_sinit_mle_data(ByteReader(table))


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


@pytest.mark.parametrize("version", [6, 7, 8, 9, 10])
def test_later_versions_only_add_to_the_table(version: int) -> None:
    table = read(sinit_mle(version, *FIELDS, scrtm=9))
    assert (table.version, table.bios_acm_id) == (version, b"\1" * 20)
    assert (table.edx_senter_flags, table.mseg_valid) == (2, 3)
    hashes = (table.sinit_hash, table.mle_hash, table.stm_hash, table.lcp_policy_hash)
    assert [each.value[0] for each in hashes] == [4, 5, 6, 7]
    assert table.lcp_policy_control == 8
    assert table.proc_scrtm_status == (9 if version >= 8 else None)


@pytest.mark.parametrize("version", [0, 1, 5])
def test_older_ones_are_not_known(version: int) -> None:
    with pytest.raises(FormatError, match=f"of version {version} is not known at offs"):
        read(sinit_mle(version, *FIELDS))


@pytest.mark.parametrize(("version", "size"), [(6, 144), (8, 148)])
def test_a_table_that_is_cut_off_is_refused_with_its_offset(
    version: int, size: int
) -> None:
    table = sinit_mle(version, *FIELDS)
    assert read(table[:size]) == read(table)
    for cut in range(size):
        with pytest.raises(FormatError) as info:
            read(table[:cut])
        assert info.value.offset <= cut


class TestCombinedHash:
    DATA = b"\1" * 20 + struct.pack("<Q", 3) + b"\6" * 20

    def test_it_ends_with_the_scrtm_status_from_version_8_on(self) -> None:
        rest = struct.pack("<I20sI", 8, b"\7" * 20, 0)
        old, new = (read(sinit_mle(v, *FIELDS, scrtm=9)) for v in (7, 8))
        assert old.combined_hash_data(0x602) == self.DATA + rest
        assert new.combined_hash_data(0x602) == self.DATA + rest + b"\t\0\0\0"
        assert [len(each.combined_hash_data(1)) for each in (old, new)] == [76, 80]

    def test_the_capabilities_count_where_bit_1_of_the_control_is_set(self) -> None:
        table = read(sinit_mle(6, *FIELDS[:4], 2))
        rest = struct.pack("<I20sI", 2, b"\7" * 20, 0x602)
        assert table.combined_hash_data(0x602) == self.DATA + rest

    def test_capabilities_are_32_bits(self) -> None:
        with pytest.raises(ValueError, match="32 bits"):
            read(sinit_mle(6, *FIELDS)).combined_hash_data(2**32)


class TestHashStart:
    def test_version_6_keeps_the_hash_of_the_module(self) -> None:
        extended = sha1(b"\4" * 20 + struct.pack("<I", 2))
        table = read(sinit_mle(6, *FIELDS))
        assert table.pcr_17_after_hash_start().value == sha1(bytes(20) + extended)

    @pytest.mark.parametrize("version", [7, 8, 9])
    def test_later_ones_keep_the_value_of_pcr_17(self, version: int) -> None:
        table = read(sinit_mle(version, *FIELDS))
        assert table.pcr_17_after_hash_start().value == b"\4" * 20


def test_with_a_tpm_20_the_table_tells_nothing() -> None:
    blank = bytes(20)
    table = read(sinit_mle(9, blank, 0, 0, [blank] * 4, 0))
    assert not table.tells_measurements
    for ask in (table.pcr_17_after_hash_start, lambda: table.combined_hash_data(0)):
        with pytest.raises(LogError, match="names no measurements") as info:
            ask()
        assert info.value.hint == "give the event log"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 5},
        {"bios_acm_id": bytes(19)},
        {"mle_hash": HashAlgorithm.SHA256.zero()},
        {"edx_senter_flags": 2**32},
        {"lcp_policy_control": -1},
        {"mseg_valid": 2**64},
        {"proc_scrtm_status": None},
        {"proc_scrtm_status": 2**32},
        {"version": 7},
    ],
)
def test_a_table_that_cannot_be_is_never_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dataclasses.replace(read(sinit_mle(8, *FIELDS)), **change)


digests = st.binary(min_size=20, max_size=20)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(
    st.integers(6, 2**32 - 1), digests, u32, u64, st.tuples(*[digests] * 4), u32, u32
)
def test_what_sinit_writes_is_read_back(
    version: int,
    acm_id: bytes,
    edx: int,
    mseg: int,
    hashes: tuple[bytes, bytes, bytes, bytes],
    control: int,
    scrtm: int,
) -> None:
    table = sinit_mle(version, acm_id, edx, mseg, hashes, control, scrtm=scrtm)
    sinit, mle, stm, lcp = (Digest(SHA1, each) for each in hashes)
    status = scrtm if version >= 8 else None
    expected = SinitMleData(
        version, acm_id, edx, mseg, sinit, mle, stm, lcp, control, status
    )
    assert read(table) == expected


@needs_vectors
class TestRealMachines:
    def test_the_x200_has_pcr_17_from_its_table(self) -> None:
        vectors = json.loads((VECTORS / "drtm/tboot-vectors.json").read_text())
        (x200,) = (each for each in vectors if each["id"].startswith("X200"))

        def field(name: str) -> bytes:
            return bytes.fromhex(x200[name])

        def number(name: str) -> int:
            return int.from_bytes(field(name), "little")

        table = read(
            sinit_mle(
                x200["sinit_mle_ver"],
                field("bios_acm_id"),
                number("edx"),
                number("mseg"),
                [
                    field(name)
                    for name in ("sinit_hash", "mle_hash", "stm", "lcp_policy_hash")
                ],
                number("lcp_control"),
            )
        )
        pcr_17 = table.pcr_17_after_hash_start()
        combined = SHA1.hash(table.combined_hash_data(number("caps")))
        pcr_17 = pcr_17.extended(combined).extended(Digest(SHA1, field("vl17")))
        assert pcr_17.hex == x200["pcr17"]

    def test_the_t460p_logged_what_its_table_tells(self) -> None:
        zero = bytes(20)
        table = read(
            sinit_mle(
                8,
                bytes.fromhex("ffffffff3006162006b000000001ffffffffffff"),
                0,
                0,
                [
                    bytes.fromhex("a1df9099e38f3704e38b1ef22218ed018fd5bf8a"),
                    bytes.fromhex("48b765af300ab0dbf41c29a30db73a3afc370f1d"),
                    zero,
                    zero,
                ],
                0,
            )
        )
        log = (VECTORS / "drtm/rebuilt_T460p_tpm12.bin").read_bytes()
        combined = table.combined_hash_data(0x402)
        assert combined in log
        assert sha1(combined) in log
        assert table.pcr_17_after_hash_start().value == log[48 + 8 : 48 + 28]
