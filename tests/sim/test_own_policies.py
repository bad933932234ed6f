# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose owner put a policy for tboot into the TPM, updated and booted again.

The policy is made by tb_polgen and read by the simulated launcher, by code that the
predictor does not share.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

from aemseal.flows.survey import Survey, survey_against
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Prediction
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import PredictionError
from aemseal.world.host import LiveHost

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection(SHA256, (17, 18))


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with Machine(MACHINES[request.param], tmp_path) as machine:
        machine.install()
        machine.boot()
        yield machine


def look(machine: Machine, baseline: Baseline | None = None) -> Survey:
    """Survey the running boot; the TPM's indexes may be read, as in dom0."""

    def pcrs(bank: HashAlgorithm) -> PcrBank:
        return PcrBank(bank, dict(machine.tpm.read_pcrs(bank)))

    host = LiveHost(machine.root, pcrs, read_nv=machine.tpm.read_nv)
    return survey_against(host, baseline, SELECTION)


def launched(machine: Machine) -> dict[int, Digest]:
    """PCR 17 to 22 after another boot, without those that nothing extended."""
    machine.power_off()
    machine.boot()
    values = machine.tpm.read_pcrs(SHA256)
    return {pcr: values[pcr] for pcr in range(17, 23) if values[pcr] != SHA256.zero()}


def update(machine: Machine, *names: str) -> None:
    for name in names:
        path = machine.root / "boot" / name
        path.write_bytes(b"an update of " + name.encode())


def predicted(prediction: Prediction) -> dict[int, Digest]:
    return dict(prediction.bank(SHA256).values)


@pytest.mark.parametrize(
    "machine",
    ["tboot-da", "tboot-da-policy", "tboot-da-policy-each", "tboot-da-policy-hashes"],
    indirect=True,
)
def test_an_update_is_predicted_wherever_the_policy_puts_its_files(
    machine: Machine,
) -> None:
    survey = look(machine)
    assert survey.calibration.is_calibrated
    assert survey.calibration.entry is not None
    update(machine, "xen.gz", "vmlinuz", "initramfs.img")
    again = survey_against(survey.host, survey.running, SELECTION)
    prediction = again.predict(None, hook=False)
    assert not prediction.refusals
    assert prediction.is_calibrated
    assert predicted(prediction) == launched(machine)


@pytest.mark.parametrize("machine", ["tboot-da-policy-each"], indirect=True)
def test_a_module_beyond_the_policys_entries_is_refused(machine: Machine) -> None:
    survey = look(machine)
    grub_cfg = machine.root / "boot/grub/grub.cfg"
    text = grub_cfg.read_text()
    update(machine, "ucode.bin")
    last = next(line for line in text.splitlines() if "/initramfs.img" in line)
    grub_cfg.write_text(text.replace(last, f"{last}\n  module2 /ucode.bin"))
    again = look(machine)
    assert again.calibration.is_calibrated
    prediction = again.predict(None, hook=False)
    (refusal,) = prediction.refusals
    assert refusal.pcr == 17
    assert "/boot/ucode.bin (module) into no PCR of the launch" in refusal.reason
    expected = launched(machine)
    del expected[17]
    assert predicted(prediction) == expected
    assert survey.calibration.launch.default_pcrs == {17, 18, 19}


@pytest.mark.parametrize("machine", ["tboot-da-policy-hashes"], indirect=True)
def test_what_a_list_lacks_is_cautioned_of_where_tboot_starts_it(
    machine: Machine,
) -> None:
    look(machine)
    update(machine, "xen.gz")
    (caution,) = look(machine).predict(None, hook=False).cautions
    assert "does not list the hash of /boot/xen.gz (xen)" in caution


@pytest.mark.parametrize("machine", ["tboot-da-policy-halt"], indirect=True)
def test_what_tboot_halts_at_is_not_predicted(machine: Machine) -> None:
    survey = look(machine)
    assert survey.calibration.is_calibrated
    update(machine, "vmlinuz")
    again = look(machine, survey.running)
    assert again.predict(None, hook=False).refusals == ()
    update(machine, "xen.gz")
    with pytest.raises(PredictionError, match=r"/boot/xen\.gz \(xen\) is not among"):
        look(machine).predict(None, hook=False)
    machine.power_off()
    with pytest.raises(SimulationError, match="tboot halts"):
        machine.boot()


@pytest.mark.parametrize("machine", ["tboot-da-policy"], indirect=True)
def test_without_its_policy_the_log_is_refused_with_a_hint(machine: Machine) -> None:
    survey = look(machine)
    assert isinstance(survey.host, LiveHost)
    locked = LiveHost(survey.host.root, survey.host.read_pcrs)
    with pytest.raises(PredictionError) as caught:
        survey_against(locked, None, SELECTION)
    assert "puts module 1 into PCR 19" in caught.value.message
    assert "tboot_policy" in (caught.value.hint or "")


@pytest.mark.parametrize("machine", ["tboot-da-policy"], indirect=True)
def test_the_policys_own_pcrs_are_selected_without_a_wish(machine: Machine) -> None:
    survey = look(machine)
    chosen = survey_against(survey.host, None).selection
    assert chosen == PcrSelection(SHA256, (17, 18, 19))
    roles = {each.role: each.pcr for each in survey.calibration.modules}
    assert roles == {Role.XEN: 17, Role.KERNEL: 19, Role.INITRAMFS: 19}
