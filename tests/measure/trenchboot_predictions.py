# SPDX-License-Identifier: GPL-2.0-or-later
"""Calibrated boots by TrenchBoot and what is predicted from them."""

from __future__ import annotations

from trenchboot_boots import SHA256, Boot, Machine, facts_of

from aemseal.measure.baseline import Baseline
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Prediction
from aemseal.measure.launch import RunningSystem
from aemseal.measure.predict import predict


def running(
    machine: Machine,
    boot: Boot,
    *now: Boot,
    baseline: Baseline | None = None,
    system: RunningSystem | None = None,
) -> Calibration:
    """Calibrate a boot, the files now being those of `now` (else the boot's own)."""
    candidates = [Candidate(each.entry, facts_of(each)) for each in now or (boot,)]
    told = system or machine.system(boot)
    return calibrate(machine.launched(boot), candidates, baseline, system=told)


def next_boot(calibration: Calibration, boot: Boot) -> Prediction:
    return predict(calibration, boot.entry, facts_of(boot), hook_measures_luks=False)


def updated(
    machine: Machine,
    boot: Boot,
    following: Boot,
    *,
    system: RunningSystem | None = None,
) -> Prediction:
    """Predict an update that overwrote the running boot's files; it is on record."""
    kept = running(machine, boot).baseline(boot.title)
    calibration = running(machine, boot, following, baseline=kept, system=system)
    return next_boot(calibration, following)


def values(prediction: Prediction) -> dict[int, bytes]:
    return {pcr: d.value for pcr, d in prediction.bank(SHA256).values.items()}


def refused(prediction: Prediction) -> dict[int, str]:
    """The reasons by PCR: the first of each."""
    return {each.pcr: each.reason for each in reversed(prediction.refusals)}
