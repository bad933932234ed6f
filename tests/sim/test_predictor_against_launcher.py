# SPDX-License-Identifier: GPL-2.0-or-later
"""What the predictor says is what the launcher then puts into the TPM.

Random boot directories are booted on both machines by the simulated launcher, which
shares no code with the predictor: GRUB evaluates grub.cfg and decompresses, tboot's own
tool hashes the MLE, a TPM extends. Then the files are overwritten under the running
boot, as an update does, and the next boot is predicted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from boot_strategies import (
    Directory,
    stories,
)
from hypothesis import HealthCheck, Phase, given, seed, settings
from tpm_sim.cache import Cache
from tpm_sim.grub import write_environment
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, MachineModel

from aemseal.flows.survey import Survey, survey_against
from aemseal.measure.baseline import Baseline
from aemseal.measure.claims import Calibrated, Prediction
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.world.host import LiveHost

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.sim,
    # hypothesis's, where it is about to show a story that failed
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

SHA256 = HashAlgorithm.SHA256
MODELS = (TBOOT_DA, TBOOT_LEGACY)
LAUNCHED = (17, 18, 19)

STORIES = 64
"""For each machine, other ones on each; each story is of three boots."""

BOOTS_AT_LEAST = 100
"""Different boot directories for each machine: 200 and more over both."""

OVERWRITTEN_AT_LEAST = 40
"""Updates for each machine after which only the baseline explains the running boot."""


class Laptop:
    """A simulated machine, and what the predictor sees of it."""

    def __init__(self, machine: Machine) -> None:
        self.model = machine.model
        self._machine = machine
        self._host = LiveHost(machine.root, self._pcrs)

    def install(self, directory: Directory) -> None:
        """Replace all of /boot; the machine may be running meanwhile."""
        boot = self._machine.root / "boot"
        shutil.rmtree(boot, ignore_errors=True)
        (boot / "grub").mkdir(parents=True)
        (boot / "grub/grub.cfg").write_text(directory.grub_cfg, encoding="utf-8")
        write_environment(boot / "grub/grubenv", directory.grubenv)
        for path, content in directory.used_files.items():
            (boot / path[1:]).write_bytes(content)

    def boot(self) -> dict[int, Digest]:
        """Switch the machine off and on; return PCR 17 to 19 after the launch."""
        self._machine.power_off()
        launched = self._machine.boot().launch
        assert launched.is_measured, "the launcher took the kernel for no tboot"
        return self.values()

    def values(self) -> dict[int, Digest]:
        """The PCRs of the launch now; those that nothing extended left out."""
        bank = self._machine.tpm.read_pcrs(SHA256)
        return {pcr: bank[pcr] for pcr in LAUNCHED if bank[pcr] != SHA256.zero()}

    def survey(self, baseline: Baseline | None = None) -> Survey:
        """Survey with all that is extended selected: 19 is not with Xen alone."""
        wish = PcrSelection.of(SHA256, set(self.values()))
        return survey_against(self._host, baseline, wish)

    def _pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        return PcrBank(algorithm, dict(self._machine.tpm.read_pcrs(algorithm)))


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def laptop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Laptop]:
    model: MachineModel = request.param
    with Machine(model, tmp_path) as machine:
        yield Laptop(machine)


def predicted(prediction: Prediction) -> dict[int, Digest]:
    """The PCRs a prediction is sure of; it must be sure of all."""
    assert prediction.is_complete, prediction.refusals
    assert prediction.is_calibrated
    return dict(prediction.bank(SHA256).values)


def boot_and_explain(laptop: Laptop, directory: Directory) -> Survey:
    """Boot a directory and hold our rules against its own files."""
    laptop.install(directory)
    values = laptop.boot()
    return explained(laptop, values)


def explained(laptop: Laptop, values: dict[int, Digest]) -> Survey:
    """Survey a boot whose files are still there: every measurement is `now`."""
    look = laptop.survey()
    assert {each.calibrated for each in look.calibration.measured} == {Calibrated.NOW}
    assert look.calibration.entry is not None
    again = look.predict(look.calibration.entry.title, hook=False)
    assert predicted(again) == values
    return look


def update(laptop: Laptop, before: Survey, after: Directory) -> Survey:
    """Overwrite the files of a running boot and look again, with the baseline of it."""
    laptop.install(after)
    look = laptop.survey(before.running)
    assert look.calibration.is_calibrated
    return look


def boot_as_predicted(laptop: Laptop, look: Survey) -> Survey:
    """Boot what was installed under the running boot; `look` predicts it."""
    prediction = predicted(look.predict(None, hook=False))
    values = laptop.boot()
    assert prediction == values
    return explained(laptop, values)


def test_the_prediction_is_what_the_launcher_measures(laptop: Laptop) -> None:
    booted: set[str] = set()
    overwritten: list[bool] = []

    @seed(MODELS.index(laptop.model))
    @settings(
        max_examples=STORIES,
        deadline=None,
        database=None,
        # A failing story is three launches an attempt: it is shown as it was drawn.
        phases=(Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    @given(stories())
    def holds(story: tuple[Directory, Directory, Directory]) -> None:
        first, *updates = story
        look = boot_and_explain(laptop, first)
        for directory in updates:
            look = update(laptop, look, directory)
            seen = {each.calibrated for each in look.calibration.measured}
            overwritten.append(Calibrated.BASELINE in seen)
            look = boot_as_predicted(laptop, look)
        booted.update(map(repr, story))

    holds()
    assert len(booted) >= BOOTS_AT_LEAST
    assert overwritten.count(True) >= OVERWRITTEN_AT_LEAST
