# SPDX-License-Identifier: GPL-2.0-or-later
"""Launches without an event log: tboot's text has the tables to rebuild it from."""

from __future__ import annotations

import hashlib
import json
import re
import struct

import pytest
from event_log_bytes import VECTORS, needs_vectors
from tboot_texts import (
    SHA1,
    SHA256,
    measurements,
    old_measurements,
    os_sinit,
    sinit_mle,
    spaced,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.tboot_facts import read_tboot_facts
from aemseal.measure.log_report import log_report
from aemseal.measure.quirks import VALUE_LOGGED
from aemseal.measure.replay import replay, verify
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import EvidenceError, FormatError, LogError, ReplayError
from aemseal.words.events import EventLog

DRTM = VECTORS / "drtm"
OWN = [(17, {SHA1: b"\3" * 20}), (18, {SHA1: b"\4" * 20}), (19, {SHA1: b"\5" * 20})]
LIST = measurements(OWN)
TEXT = os_sinit(5, 2) + sinit_mle(6) + LIST


def parse(text: str) -> EventLog:
    return parse_event_log(text.encode("ascii"))


def pcrs(log: EventLog) -> dict[int, str]:
    values = replay(log).banks[HashAlgorithm.SHA1].values
    return {pcr: value.hex for pcr, value in values.items()}


def sha1(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def x200_text() -> str:
    """What the X200's tboot printed, from the lines kept of it and the vector's table.

    The lines lack the table's version and its BIOS ACM id.
    """
    kept = (DRTM / "openpts_X200_txtstat_lines.txt").read_text()
    lines = re.findall(r"^ *// (TBOOT:.*|\t.*)$", kept, re.MULTILINE)
    vectors = json.loads((DRTM / "tboot-vectors.json").read_text())
    (vector,) = (each for each in vectors if each["id"] == "X200-fedora15/tpm12")
    acm_id = bytes.fromhex(vector["bios_acm_id"])
    head = (
        "TBOOT: sinit_mle_data (@0xbd935170, 0x250):\n"
        f"TBOOT: \t version: {vector['sinit_mle_ver']}\n"
        f"TBOOT: \t bios_acm_id: \n\t{spaced(acm_id)}\n"
    )
    return os_sinit(5, int(vector["caps"], 16)) + head + "\n".join(lines) + "\n"


@needs_vectors
def test_the_x200_s_tables_give_the_pcrs_that_tboot_read() -> None:
    text = x200_text()
    log = parse(text)
    values = pcrs(log)
    assert values[17] == "bb0f684fdf3a42b92493806d5da54e3662c5c552"
    assert values[18] == "5e2463eff8ee13c3281e1303d20ed479695f15d7"
    assert log.rebuilt
    # tboot up to 1.7 printed the two as it read them from the TPM.
    read = read_tboot_facts(text.encode("ascii")).pcrs
    assert read is not None
    assert {pcr: value.hex for pcr, value in read.items()} == {
        pcr: values[pcr] for pcr in (17, 18)
    }


@needs_vectors
def test_the_gm45_laptop_s_tables_give_its_measurements() -> None:
    path = DRTM / "tboot-devel_2020-05-29_GM45_tpm12_1.9.12.txt"
    log = parse_event_log(path.read_bytes())
    assert log.rebuilt
    start, combined, mle, policy, kernel, initrd = log.events
    assert start.untrusted_data.hex() == (
        "cc08beb0d8cb7b04068a5ef0cb1f3174c6306d4300000000"
    )
    assert len(combined.untrusted_data) == 76
    for event in (start, combined):
        hashed = HashAlgorithm.SHA1.hash(event.untrusted_data)
        assert event.digests == {HashAlgorithm.SHA1: hashed}
    assert [
        (each.pcr, each.type_hex, each.digests[HashAlgorithm.SHA1].hex)
        for each in (mle, policy, kernel, initrd)
    ] == [
        (18, "0x404", "c9182c8027e88e6b4b619e5ab3fad25952c503d3"),
        (17, "0x501", "c1aabfc9fd8e2ac370fc4373810279102ae730c3"),
        (18, "0x501", "c9e82c615a50f3332ed43c1bcb108566e05d0d05"),
        (19, "0x501", "7b1cc37b1753b087d6c55d9c60ab5c195c44067a"),
    ]


@needs_vectors
def test_the_t460p_s_tables_give_the_pcrs_of_its_log() -> None:
    """Version 8 of the table, and a machine whose log can be held against it."""
    path = DRTM / "tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt"
    text = path.read_text()
    table = text[text.rindex("TBOOT: sinit_mle_data") :].split("TBOOT: CPU supports")[0]
    own = text[text.rindex("TBOOT: \t VL measurements") :].split("TBOOT: \t\t\t Event")[
        0
    ]
    rebuilt = parse(os_sinit(5, 0x402) + table + own)
    assert pcrs(rebuilt) == pcrs(parse_event_log(path.read_bytes()))
    assert rebuilt.rebuilt


def test_version_6_has_the_acm_s_hash_and_its_log_a_hash_of_it_and_edx() -> None:
    text = os_sinit(5, 2) + sinit_mle(6, edx=0x01020304, sinit=b"\7" * 20) + LIST
    start = parse(text).events[0]
    assert start.untrusted_data == b"\7" * 20 + b"\4\3\2\1"
    assert start.digests[HashAlgorithm.SHA1].value == sha1(start.untrusted_data)


@pytest.mark.parametrize("version", [7, 8, 9])
def test_from_version_7_on_the_table_has_pcr_17_itself(version: int) -> None:
    log = parse(os_sinit(5, 2) + sinit_mle(version, sinit=b"\7" * 20) + LIST)
    start, combined = log.events[:2]
    assert (start.untrusted_data, start.digests[HashAlgorithm.SHA1].value) == (
        b"",
        b"\7" * 20,
    )
    value = sha1(b"\7" * 20, sha1(combined.untrusted_data))
    assert pcrs(log)[17] == sha1(value, b"\3" * 20).hex()
    assert [each.name for each in replay(log).quirks] == [VALUE_LOGGED]


def test_a_rebuilt_log_is_held_against_the_tpm_like_any_other() -> None:
    log = parse(os_sinit(5, 2) + sinit_mle(8, sinit=b"\7" * 20) + LIST)
    values = dict(PcrBank.at_startup(HashAlgorithm.SHA1).after_dynamic_launch().values)
    values |= replay(log).banks[HashAlgorithm.SHA1].values
    selection = PcrSelection.parse("sha1:17,18,19")
    live = PcrBank(HashAlgorithm.SHA1, values)
    assert verify(log, live, selection).log.rebuilt
    values[17] = Digest(HashAlgorithm.SHA1, b"\x55" * 20)
    with pytest.raises(ReplayError, match="does not give PCR 17"):
        verify(log, PcrBank(HashAlgorithm.SHA1, values), selection)


@pytest.mark.parametrize(
    ("version", "control", "expected"), [(6, 0, 0), (6, 2, 0x22), (8, 3, 0x22)]
)
def test_the_combined_hash_s_data_follow_the_table(
    version: int, control: int, expected: int
) -> None:
    table = sinit_mle(
        version, acm_id=b"\x0a" * 20, mseg=2**33, stm=b"\x0b" * 20,
        lcp=b"\x0c" * 20, control=control, scrtm=5,
    )  # fmt: skip
    # Bit 1 alone decides whether the capabilities count; 0x20 would be another map.
    data = parse(os_sinit(5, 0x22 & ~0x20) + table + LIST).events[1].untrusted_data
    assert data == (
        b"\x0a" * 20
        + struct.pack("<Q", 2**33)
        + b"\x0b" * 20
        + struct.pack("<I", control)
        + b"\x0c" * 20
        + struct.pack("<I", expected & ~0x20)
        + (struct.pack("<I", 5) if version >= 8 else b"")
    )


def test_the_list_before_1_8_names_no_banks() -> None:
    old = old_measurements([(pcr, digests[SHA1]) for pcr, digests in OWN])
    assert parse(TEXT.replace(LIST, old)) == parse(TEXT)


def test_a_reader_sees_that_it_was_rebuilt() -> None:
    log = parse(TEXT)
    assert log_report(log, replay(log))["rebuilt"] is True


def test_after_a_wake_from_s3_the_list_of_before_counts() -> None:
    awake = TEXT + sinit_mle(6) + "TBOOT: verifying pre_k_s3_state\n"
    assert parse(awake) == parse(TEXT)
    with pytest.raises(FormatError, match="ends before tboot's measurements"):
        parse(TEXT + sinit_mle(6))


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        (TEXT.replace(LIST, ""), FormatError, "ends before tboot's measurements"),
        (sinit_mle(6) + LIST, FormatError, "not the tables to rebuild it from"),
        (os_sinit(5, 2) + LIST, FormatError, "not the tables to rebuild it from"),
        (os_sinit(6, 2) + sinit_mle(6) + LIST, LogError, "kept an event log, and the"),
        (os_sinit(5, 0x22) + sinit_mle(6) + LIST, LogError, "details/authorities"),
        (os_sinit(5, 2) + sinit_mle(5) + LIST, LogError, "has version 5"),
        (
            os_sinit(5, 2) + sinit_mle(6, mle=bytes(20)) + LIST,
            LogError,
            "names no measurements",
        ),
        (TEXT + "TBOOT: TPM: discrete TPM2.0 Family 0x1\n", LogError, "used a TPM 2"),
        (
            TEXT + measurements([(17, {SHA256: b"\1" * 32})]),
            FormatError,
            "PCR 17 is extended in another bank than sha1",
        ),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(
    text: str, error: type[EvidenceError], what: str
) -> None:
    with pytest.raises(error, match=what):
        parse(text)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("capabilities: 0x", "capabilities: ", "the line 'capabilities' is missing"),
        ("capabilities: 0x", "abilities: 0x", "the line 'capabilities' is missing"),
        ("bios_acm_id: \n", "bios_acm_id: x\n", "is followed by more on its line"),
        ("mle_hash:\n\t02 ", "mle_hash:\n\t", "20 bytes of hex are missing"),
        ("mseg_valid: 0x0", "mseg_valid: 0x1" + "0" * 16, "no number of 64 bits"),
        ("num_mdrs: 1", "num_mdrs: 4097", "4097 memory regions"),
        ("num_mdrs: 1", "num_mdrs: 2", "the line 'proc_scrtm_status' is missing"),
    ],
)
def test_a_damaged_table_is_refused(old: str, new: str, what: str) -> None:
    text = os_sinit(5, 2) + sinit_mle(8) + LIST
    assert old in text
    with pytest.raises(FormatError, match=what):
        parse(text.replace(old, new, 1))


def test_every_cut_is_refused() -> None:
    text = os_sinit(5, 2) + sinit_mle(8) + LIST
    for size in range(len(text)):
        with pytest.raises(EvidenceError):
            parse(text[:size])
