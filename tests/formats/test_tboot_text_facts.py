# SPDX-License-Identifier: GPL-2.0-or-later
"""What tboot's text tells besides the event log."""

from __future__ import annotations

import hashlib
import struct

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given
from hypothesis import strategies as st
from tboot_texts import os_sinit, spaced

from aemseal.formats.tboot_facts import TbootFacts, read_tboot_facts
from aemseal.words.digest import HashAlgorithm

T460P = "tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt"
E5470 = "tboot-devel_2021-08-26_E5470_tpm20_1.10.2.txt"
GM45 = "tboot-devel_2020-05-29_GM45_tpm12_1.9.12.txt"
SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256


def entry(module: int, pcr: int, kind: int, nv: int, *hashes: bytes) -> bytes:
    head = struct.pack("<BBBIB", module, pcr, kind, nv, len(hashes))
    return head + b"".join(hashes)


ALLOWED = (b"\x0a" * 20, b"\x0b" * 20)
POLICY = struct.pack("<BBBIIB", 2, 1, 4, 1, 0, 3) + (
    entry(0, 255, 1, 0, *ALLOWED) + entry(129, 19, 0, 0) + entry(130, 22, 0, 0x40000010)
)
PRINTED = (
    "TBOOT: policy:\n"
    "TBOOT: \t version: 2\n"
    "TBOOT: \t policy_type: TB_POLTYPE_WARN_ON_FAILURE\n"
    "TBOOT: \t hash_alg: TB_HALG_SHA1\n"
    "TBOOT: \t policy_control: 00000001 (EXTEND_PCR17)\n"
    "TBOOT: \t num_entries: 3\n"
    "TBOOT: \t policy entry[0]:\n"
    "TBOOT: \t\t mod_num: 0\n"
    "TBOOT: \t\t pcr: none\n"
    "TBOOT: \t\t hash_type: TB_HTYPE_IMAGE\n"
    "TBOOT: \t\t num_hashes: 2\n"
    f"TBOOT: \t\t hashes[0]: {spaced(ALLOWED[0])}\n"
    f"TBOOT: \t\t hashes[1]: {spaced(ALLOWED[1])}\n"
    "TBOOT: \t policy entry[1]:\n"
    "TBOOT: \t\t mod_num: any\n"
    "TBOOT: \t\t pcr: 19\n"
    "TBOOT: \t\t hash_type: TB_HTYPE_ANY\n"
    "TBOOT: \t\t num_hashes: 0\n"
    "TBOOT: \t policy entry[2]:\n"
    "TBOOT: \t\t mod_num: nv\n"
    "\t\t nv_index: 40000010\n"
    "TBOOT: \t\t pcr: 22\n"
    "TBOOT: \t\t hash_type: TB_HTYPE_ANY\n"
    "TBOOT: \t\t num_hashes: 0\n"
)
HASHED = f"TBOOT: \t pol_hash: {spaced(hashlib.sha1(POLICY).digest())}\n"


def facts(text: str) -> TbootFacts:
    return read_tboot_facts(text.encode("ascii"))


@needs_vectors
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (T460P, ("1.10.3", "1.2", None, None, 0x36E, 7, 0x402)),
        (E5470, ("1.10.2", "2.0", "fixed", SHA256, 0x36E, 7, 0x602)),
        (GM45, ("1.9.12", "1.2", None, None, 6, 5, 2)),
    ],
)
def test_real_machines_tell_of_themselves(
    name: str, expected: tuple[object, ...]
) -> None:
    told = read_tboot_facts((VECTORS / "drtm" / name).read_bytes())
    assert expected == (
        told.version,
        told.tpm_family,
        told.extend_policy,
        told.own_algorithm,
        told.sinit_capabilities,
        told.os_sinit_version,
        told.os_sinit_capabilities,
    )


@needs_vectors
def test_the_chipset_is_in_what_txt_stat_prints_alone() -> None:
    seen = [
        read_tboot_facts((VECTORS / "drtm" / name).read_bytes())
        for name in (T460P, GM45)
    ]
    assert [(each.didvid, each.fsbif) for each in seen] == [
        (0x1B0068086, 0xFFFFFFFFFFFFFFFF),
        (None, None),
    ]


@needs_vectors
@pytest.mark.parametrize(
    ("name", "own", "digest"),
    [
        (T460P, SHA1, "c3438497fda827be3b321c5309a204f0c9e53943"),
        (GM45, SHA1, "c1aabfc9fd8e2ac370fc4373810279102ae730c3"),
        (
            E5470,
            SHA256,
            "71be5852a14eabefebf0df0e1acc5da291883b6d4c5ab20914ed987c1daf3f91",
        ),
    ],
)
def test_a_real_machine_s_policy_gives_the_digest_it_extended(
    name: str, own: HashAlgorithm, digest: str
) -> None:
    policy = read_tboot_facts((VECTORS / "drtm" / name).read_bytes()).policy
    assert policy is not None
    assert policy.digest(own, own).hex == digest


def test_a_policy_with_lists_is_put_together_again() -> None:
    policy = facts(PRINTED + HASHED).policy
    assert policy is not None
    assert policy.data == POLICY
    assert policy.entries[0].hashes == ALLOWED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HASHED, ""),
        ("pol_hash: ", "pol_hash: 00 "),
        ("version: 2", "version: 3"),
        ("00000001 (EXTEND", "00000000 (EXTEND"),
        ("00000001 (EXTEND", "1 (EXTEND"),
        ("num_entries: 3", "num_entries: 4"),
        ("num_entries: 3", "num_entries: 256"),
        ("num_hashes: 2", "num_hashes: 256"),
        ("mod_num: any", "mod_num: all"),
        ("mod_num: any", "mod_num: 256"),
        ("mod_num: any", "mod_num: 7"),
    ],
)
def test_a_policy_that_does_not_give_its_hash_is_none(old: str, new: str) -> None:
    assert old in PRINTED + HASHED
    assert facts((PRINTED + HASHED).replace(old, new)).policy is None


def test_a_policy_that_tboot_would_not_take_is_none() -> None:
    data = POLICY.replace(b"\x00\xff\x01", b"\x85\xff\x01")
    hashed = f"TBOOT: \t pol_hash: {spaced(hashlib.sha1(data).digest())}\n"
    assert facts(PRINTED.replace("mod_num: 0", "mod_num: 133") + hashed).policy is None


@pytest.mark.parametrize(
    ("line", "family"),
    [
        ("TPM: discrete TPM1.2 Family 0x0", "1.2"),
        ("TPM: discrete TPM2.0 Family 0x1", "2.0"),
        ("TPM: This is Intel PTT, TPM Family 0x2", "2.0"),
        ("TPM: FIFO_INF Locality 0 is open", None),
    ],
)
def test_the_tpm_s_family(line: str, family: str | None) -> None:
    assert facts(f"TBOOT: {line}\n").tpm_family == family


def test_the_last_one_printed_counts() -> None:
    text = "".join(
        f"TBOOT: TPM attribute:\nTBOOT: \t extend policy: {number}\n"
        f"TBOOT: \t current alg id: {alg:#x}\n" + os_sinit(5 + number, number)
        for number, alg in ((2, 4), (1, 0x0B))
    )
    told = facts(text)
    assert (told.extend_policy, told.own_algorithm) == ("embedded", SHA256)
    assert (told.os_sinit_version, told.os_sinit_capabilities) == (6, 1)


def test_damaged_facts_are_none() -> None:
    text = (
        "TBOOT: \t extend policy: 7\nTBOOT: \t current alg id: 0x77\n"
        "TBOOT: os_sinit_data (@0x1, 0x2):\nTBOOT: \t version: x\n"
        "TBOOT: \t info_table:\nTBOOT: \t\t uuid: x\n\tDIDVID: 0xg\n"
        "TBOOT: PCRs after extending:\nTBOOT:   PCR 17: 00\n"
    )
    assert facts(text) == TbootFacts()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing(data: bytes) -> None:
    for mark in (
        b"policy:\nTBOOT: pol_hash:",
        b"PCRs after extending:",
        b"info_table:",
    ):
        read_tboot_facts(b"TBOOT: " + mark + b"\n" + data)
