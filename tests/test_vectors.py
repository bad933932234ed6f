# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of real machines give the PCR values that those machines had."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from event_log_bytes import (
    SIZES,
    VECTORS,
    agile_record,
    container,
    needs_vectors,
    sha1_record,
    spec_id,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.log_report import log_report
from aemseal.measure.quirks import LISTED_TWICE, VALUE_LOGGED
from aemseal.measure.replay import (
    replay,
    verify,
)
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import BankError, FormatError
from aemseal.words.events import EventLog

pytestmark = needs_vectors

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
E5470 = "drtm/rebuilt_E5470_A_tpm20_tcg.bin"
T460P = "drtm/rebuilt_T460p_tpm12.bin"
ISECL = "drtm/isecl-txt-logs-trimmed.bin"
SKINIT = "drtm/amd-qemu-drtm-linux-v0.5.3-rc1.eventlog.bin"

LAUNCHES = [
    (
        SKINIT,
        "sha1",
        {
            17: "a8c09473c7a5f90a84098e779f276333cdbf661a",
            18: "153de987125e37f9cd9e7a61791222f65ee7036b",
        },
    ),
    (
        SKINIT,
        "sha256",
        {
            17: "67be67686d82da37b760991194fff2cca163a4bad507b37927ae1742545aafe1",
            18: "8790e9bccaebfe038e13173cfb2d3b8f41434643669055978ec2e210da724a38",
        },
    ),
    (
        T460P,
        "sha1",
        {
            17: "564d58b956e12bd98c0917e0185387df53556cb5",
            18: "9b99b3b24834ffab56a950d1af833a437c90bc71",
            19: "7246dc40ea65de09e43f7663d0118ec12eb2abec",
        },
    ),
]
"""Values read from the TPM (SKINIT), or replayed by three programs (T460p)."""


def log_at(name: str) -> EventLog:
    return parse_event_log((VECTORS / name).read_bytes())


def live_pcrs(bank: str, values: dict[int, str]) -> PcrBank:
    algorithm = HashAlgorithm.named(bank)
    digests = {pcr: Digest.from_hex(algorithm, text) for pcr, text in values.items()}
    return PcrBank(algorithm, digests)


def select(bank: str, *pcrs: int) -> PcrSelection:
    return PcrSelection.of(HashAlgorithm.named(bank), set(pcrs))


def vector_files(pattern: str) -> list[Path]:
    return sorted(VECTORS.glob(pattern))


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


class TestDynamicLaunches:
    @pytest.mark.parametrize(("name", "bank", "values"), LAUNCHES)
    def test_the_log_is_verified_against_the_machines_pcrs(
        self, name: str, bank: str, values: dict[int, str]
    ) -> None:
        verified = verify(log_at(name), live_pcrs(bank, values), select(bank, *values))
        assert verified.bank == live_pcrs(bank, values)

    def test_skinit_logs_hold_events_that_are_not_extended(self) -> None:
        log = log_at(SKINIT)
        assert [each.number for each in log.events if not each.is_extended] == [0, 4, 8]
        assert log.events[1].untrusted_data == b"SKINIT"

    def test_the_t460p_logs_the_value_of_pcr_17(self) -> None:
        log = log_at(T460P)
        assert log.format == "txt-container"
        assert [each.name for each in replay(log).quirks] == [VALUE_LOGGED]
        digest = replay(log).extends[0][1][SHA1]
        assert digest == SHA1.hash(log.events[0].untrusted_data)

    def test_every_digest_with_data_of_the_e5470_is_a_hash_of_it(self) -> None:
        log = log_at(E5470)
        checked = 0
        for event in log.events:
            if event.is_extended and event.untrusted_data:
                for algorithm, digest in event.digests.items():
                    assert digest == algorithm.hash(event.untrusted_data)
                    checked += 1
        assert checked == 26
        assert replay(log).quirks == ()
        assert log.events[2].pcr == 255

    def test_the_e5470_gives_the_pcrs_of_the_substitution_test(self) -> None:
        pcr_18 = "add552b58f6ed3595ebbea5f4f59d077e0ed4c8601de1898a5559fe95fa86fcc"
        assert replay(log_at(E5470)).banks[SHA256].value(18).hex == pcr_18

    def test_sealing_to_the_sha1_bank_of_the_e5470_is_refused_by_name(self) -> None:
        log = log_at(E5470)
        assert replay(log).missing[SHA1] == {17: (17, 19, 20), 18: (18,)}
        with pytest.raises(BankError) as info:
            verify(log, replay(log).banks[SHA1], select("sha1", 13, 17, 18))
        assert info.value.message.startswith(
            "tboot did not extend the sha1 bank with event 17 (TBOOT)"
        )
        assert info.value.hint == "use sha256"

    def test_the_purley_server_has_19_events_after_the_spec_id(self) -> None:
        log = log_at(ISECL)
        assert len(log.events) == 20
        tboot = [each for each in log.events if each.name == "TBOOT"]
        assert [each.number for each in tboot] == [16, 17, 18, 19]
        assert {tuple(each.digests) for each in tboot} == {(SHA256,)}

    def test_the_nuc_lists_hash_start_twice(self) -> None:
        text = (VECTORS / "drtm/opencit-63-nuc5i5myhe.txt").read_text()
        records = b""
        for pcr, kind, digest, data in re.findall(
            r"PCRIndex: (\d+)\n.*Type: (0x\w+)\n.*Digest: ([0-9a-f ]+)\n.*Data: .*\n"
            r"((?:\s+(?:[0-9a-f]{2} )+\n)+)",
            text,
        ):
            records += sha1_record(
                int(pcr), int(kind, 16), bytes.fromhex(digest), bytes.fromhex(data)
            )
        log = parse_event_log(container(records))
        assert [each.name for each in log.events] == [
            "HASH_START",
            "HASH_START",
            "PCR_MAPPING",
        ]
        result = replay(log)
        assert result.banks[SHA1].value(17) == log.events[0].digests[SHA1]
        assert [(each.event, each.name) for each in result.quirks] == [
            (0, VALUE_LOGGED),
            (1, LISTED_TWICE),
        ]


TXT_TYPES = {
    "HASH_START": 0x402,
    "BIOSAC_REG_DATA": 0x40A,
    "CPU_SCRTM_STAT": 0x40B,
    "LCP_CONTROL_HASH": 0x40C,
    "LCP_DETAILS_HASH": 0x412,
    "STM_HASH": 0x40E,
    "OSSINITDATA_CAP_HASH": 0x40F,
    "MLE_HASH": 0x404,
    "NV_INFO_HASH": 0x414,
    "SINIT_PUBKEY_HASH": 0x410,
    "LCP_AUTHORITIES_HASH": 0x413,
}


def tboot_vectors() -> list[dict[str, Any]]:
    path = VECTORS / "drtm/tboot-vectors.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def quoted() -> list[dict[str, Any]]:
    return [each for each in tboot_vectors() if "expect" in each]


def logged() -> list[dict[str, Any]]:
    return [each for each in tboot_vectors() if each["kind"] == "log-only"]


class TestTbootVectors:
    """Event lists that were held against quotes, written out as logs again."""

    @pytest.mark.parametrize("vector", quoted(), ids=[v["id"] for v in quoted()])
    def test_the_replay_equals_the_quote(self, vector: dict[str, Any]) -> None:
        bank, pcr = vector["bank"], vector["pcr"]
        tcg_id = HashAlgorithm.named(bank).tcg_id
        data = spec_id({tcg_id: SIZES[tcg_id]})
        for each in vector["events"]:
            kind = TXT_TYPES.get(each["name"], 0x501)
            data += agile_record(pcr, kind, [(tcg_id, bytes.fromhex(each["digest"]))])
        log = parse_event_log(data)
        live = {17: "11" * SIZES[tcg_id], pcr: vector["expect"]}
        verified = verify(log, live_pcrs(bank, live), select(bank, pcr))
        assert verified.bank.value(pcr).hex == vector["expect"]

    @pytest.mark.parametrize("vector", logged(), ids=[v["id"] for v in logged()])
    def test_the_binary_log_holds_the_events_of_the_text(
        self, vector: dict[str, Any]
    ) -> None:
        log = log_at({"T460p-tpm12": T460P, "E5470-A-tpm20": E5470}[vector["id"]])
        report = json.loads(json.dumps(log_report(log, replay(log))))
        events = [
            {key: each[key] for key in ("pcr", "type", "digests", "data")}
            for each in report["events"]
            if each["type"] != "0x3"
        ]
        assert events == vector["events"]

    def test_the_x200_end_to_end(self) -> None:
        (vector,) = (each for each in tboot_vectors() if each["id"].startswith("X200"))

        def field(name: str) -> bytes:
            return bytes.fromhex(vector[name])

        def sha1(data: bytes) -> bytes:
            return hashlib.sha1(data).digest()

        start = field("sinit_hash") + field("edx")
        combined = b"".join(
            field(name)
            for name in (
                "bios_acm_id",
                "mseg",
                "stm",
                "lcp_control",
                "lcp_policy_hash",
                "caps",
            )
        )
        records = (
            sha1_record(17, 0x402, sha1(start), start)
            + sha1_record(17, 0x403, sha1(combined), combined)
            + sha1_record(18, 0x404, field("mle_hash"))
            + sha1_record(17, 0x501, field("vl17"))
            + sha1_record(18, 0x501, field("vl18"))
        )
        live = {17: vector["pcr17"], 18: vector["pcr18"]}
        verified = verify(
            parse_event_log(container(records)),
            live_pcrs("sha1", live),
            select("sha1", 17, 18),
        )
        assert verified.quirks == ()


class TestFirmwareLogs:
    GO = vector_files("srtm/go-tpm-tools/*.bin")
    TPM2_TOOLS = vector_files("srtm/tpm2-tools/*.bin")

    @pytest.mark.parametrize("path", GO, ids=names_of(GO))
    def test_every_pcr_of_every_bank_is_as_expected(self, path: Path) -> None:
        table = json.loads((path.parent / "expected-pcrs.json").read_text())
        expected = table[path.name]
        log = parse_event_log(path.read_bytes())
        pcrs = json.loads(json.dumps(log_report(log, replay(log))["pcrs"]))
        # The table leaves out banks that some of these logs name too.
        assert {bank: pcrs[bank] for bank in expected} == expected

    @pytest.mark.parametrize("path", TPM2_TOOLS, ids=names_of(TPM2_TOOLS))
    def test_every_log_is_read_to_its_last_byte(self, path: Path) -> None:
        data = path.read_bytes()
        log = parse_event_log(data)
        with pytest.raises(FormatError):
            parse_event_log(data[:-1])
        assert parse_event_log(data + bytes(512)) == log

    def test_tpm2_tools_reads_the_same_events_and_pcrs(self) -> None:
        folder = VECTORS / "srtm/tpm2-tools"
        expected = yaml.safe_load((folder / "event.bin.yaml").read_text())
        log = parse_event_log((folder / "event.bin").read_bytes())
        header, first = expected["events"]
        table = header["SpecID"][0]["Algorithms"]
        assert [str(each) for each in log.algorithms] == [
            each["algorithmId"] for each in table
        ]
        assert [each.name for each in log.events] == [
            header["EventType"],
            first["EventType"],
        ]
        assert {str(a): d.hex for a, d in log.events[1].digests.items()} == {
            each["AlgorithmId"]: each["Digest"] for each in first["Digests"]
        }
        assert {
            str(algorithm): int(bank.value(0).hex, 16)
            for algorithm, bank in replay(log).banks.items()
        } == {name: values[0] for name, values in expected["pcrs"].items()}

    def test_the_canonical_form_holds_the_same_events(self) -> None:
        folder = VECTORS / "srtm/tpm2-tools"
        text = (folder / "event-moklisttrusted-hex.yaml").read_text()
        log = parse_event_log((folder / "event-moklisttrusted.bin").read_bytes())
        expected = [
            (
                each["pcr"],
                each["content"]["event_type"],
                each["content"]["event_data"],
                {row["hashAlg"]: row["digest"] for row in each["digests"]},
            )
            for each in yaml.safe_load(text)
        ]
        ours = [
            (
                each.pcr,
                each.name,
                each.untrusted_data.hex(),
                {str(a): d.hex for a, d in each.digests.items()},
            )
            for each in log.events
        ]
        assert ours == expected

    def test_a_sha1_log_needs_no_header(self) -> None:
        log = log_at("srtm/tpm2-tools/event-uefi-sha1-log.bin")
        assert (log.format, len(log.events)) == ("tcg-sha1", 17)
        assert log.events[0].name == "EV_S_CRTM_VERSION"

    @pytest.mark.parametrize("name", ["bogus", "empty"])
    def test_malformed_logs_are_refused_with_the_offset(self, name: str) -> None:
        with pytest.raises(FormatError, match="at offset 0"):
            log_at(f"srtm/malformed/binary_bios_measurements-{name}")
