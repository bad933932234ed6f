# SPDX-License-Identifier: GPL-2.0-or-later
"""Every quirk of the table on a machine that has it: predicted rightly, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

from aemseal.face.cli import main
from aemseal.flows.survey import Survey, survey_against
from aemseal.measure.quirks import (
    BANK_CAPPED,
    LISTED_TWICE,
    QUIRKS,
    RANDOM_VALUE,
    VALUE_LOGGED,
)
from aemseal.measure.replay import replay
from aemseal.words.digest import HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    BankError,
    EvidenceError,
    PredictionError,
    ReplayError,
)
from aemseal.world.host import LiveHost

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256


@dataclass(frozen=True)
class Case:
    """A machine with the quirk; `refusal` is the error it leads to, if it is one."""

    machine: str
    refusal: type[EvidenceError] | None = None
    says: str = ""
    bank: HashAlgorithm = SHA256


CASES = {
    VALUE_LOGGED: Case("tboot-da-set"),
    LISTED_TWICE: Case("tboot-da-set-twice"),
    "bank-not-covered": Case("tboot-da", BankError, "0x501|TBOOT", SHA1),
    BANK_CAPPED: Case("tboot-da-capped-listed", BankError, "the sha1 bank", SHA1),
    RANDOM_VALUE: Case("tboot-da-random", PredictionError, "random value"),
    "combined-hash": Case("tboot-tpm12", bank=SHA1),
    "no-event-log": Case("tboot-gm45", bank=SHA1),
    "misplaced-records": Case("tboot-da-1.10.0", ReplayError, "does not give PCR 17"),
    "capabilities-by-version": Case("tboot-da-1.10.1"),
    "policy-by-version": Case("tboot-da-1.9.12"),
    "own-policy": Case("tboot-da-policy"),
    "firmware-sinit": Case("tboot-da-sinit-firmware-newer"),
    "boot-guard-events": Case("tboot-da-cbnt"),
    "mle-by-generation": Case("trenchboot-skinit-v0.4"),
}


def test_every_quirk_of_the_table_has_a_machine() -> None:
    assert set(CASES) == {row.name for row in QUIRKS}
    assert len({row.name for row in QUIRKS}) == len(QUIRKS)
    assert {case.machine for case in CASES.values()} <= set(MACHINES)


@pytest.fixture
def booted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with Machine(MACHINES[request.param], tmp_path) as machine:
        machine.install()
        assert machine.boot().launch.is_measured
        yield machine


def host_of(machine: Machine) -> LiveHost:
    """The running machine; the TPM's indexes may be read, as in dom0."""

    def pcrs(algorithm: HashAlgorithm) -> PcrBank:
        return PcrBank(algorithm, dict(machine.tpm.read_pcrs(algorithm)))

    return LiveHost(machine.root, pcrs, read_nv=machine.tpm.read_nv)


def look(machine: Machine, bank: HashAlgorithm) -> Survey:
    """Survey with all PCRs selected that the launch extended in a bank."""
    values = machine.tpm.read_pcrs(bank)
    extended = {pcr for pcr in (17, 18, 19) if values[pcr] != bank.zero()}
    return survey_against(host_of(machine), None, PcrSelection.of(bank, extended))


def predicted_again(machine: Machine, bank: HashAlgorithm) -> None:
    """Predict the running boot once more, all of it."""
    before = look(machine, bank)
    before.predict(None, hook=False).require(before.selection)


def named(kind: type[EvidenceError] | None) -> list[object]:
    """The rows that end in an error, or those that do not."""
    return [
        pytest.param(case.machine, case, id=name)
        for name, case in CASES.items()
        if (case.refusal is not None) == (kind is not None)
    ]


@pytest.mark.parametrize(("booted", "case"), named(None), indirect=["booted"])
def test_a_machine_with_the_quirk_is_predicted_rightly(
    booted: Machine, case: Case
) -> None:
    before = look(booted, case.bank)
    assert before.calibration.is_calibrated
    kernel = booted.root / "boot/vmlinuz"
    content = bytearray(kernel.read_bytes())
    content[-1] ^= 1
    kernel.write_bytes(content)
    kept = survey_against(host_of(booted), before.running, before.selection)
    values = kept.predict(None, hook=False).require(before.selection)
    booted.power_off()
    booted.boot()
    after = booted.tpm.read_pcrs(case.bank)
    assert {pcr: after[pcr] for pcr in values} == dict(values)
    assert dict(values) != {pcr: before.live.value(pcr) for pcr in values}


@pytest.mark.parametrize(("booted", "case"), named(EvidenceError), indirect=["booted"])
def test_a_machine_with_the_quirk_is_refused_by_name(
    booted: Machine, case: Case
) -> None:
    assert case.refusal is not None
    with pytest.raises(case.refusal, match=case.says):
        predicted_again(booted, case.bank)


@pytest.mark.parametrize(
    ("booted", "name"),
    [
        pytest.param(CASES[name].machine, name, id=name)
        for name in (VALUE_LOGGED, LISTED_TWICE, BANK_CAPPED, RANDOM_VALUE)
    ],
    indirect=["booted"],
)
def test_a_quirk_of_the_log_is_told_with_it(booted: Machine, name: str) -> None:
    log = look(booted, SHA256).log
    assert name in {quirk.name for quirk in replay(log).quirks}


@pytest.mark.parametrize("booted", ["tboot-da-capped-listed"], indirect=True)
def test_a_record_that_is_of_another_bank_alone_is_listed_too(
    booted: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["log", "--json", "--root", str(booted.root), "--tcti", booted.tcti]
    assert main([*words, "--pcrs", "sha256:17,18"]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    behind = {each["number"]: each["file"] for each in events if "file" in each}
    assert list(behind.values()) == [
        f"/boot/{name}" for name in ("tboot.gz", "xen.gz", "vmlinuz", "initramfs.img")
    ]
