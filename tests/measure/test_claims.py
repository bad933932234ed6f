# SPDX-License-Identifier: GPL-2.0-or-later
"""What a selection must hold for a boot to be worth sealing to."""

from __future__ import annotations

import pytest
from tboot_boots import DA, LEGACY, Machine, a_boot, facts_of

from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Measurement, require_covered
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import SelectionError


def measured(machine: Machine) -> tuple[Measurement, ...]:
    boot = a_boot()
    facts = facts_of(boot)
    calibration = calibrate(machine.launched(boot), [Candidate(boot.entry, facts)])
    following = predict(calibration, boot.entry, facts, hook_measures_luks=True)
    return following.measurements


@pytest.mark.parametrize(
    ("machine", "selection"),
    [(DA, "sha256:13,17"), (DA, "sha256:13,17,18"), (LEGACY, "sha256:13,17,18,19")],
)
def test_a_selection_with_every_file_in_it_is_good(
    machine: Machine, selection: str
) -> None:
    require_covered(measured(machine), PcrSelection.parse(selection))


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ("sha256:13,17", "PCR 18 .*: a changed mle .*tboot.gz"),
        ("sha256:13,17,18", "PCR 19 .*: a changed kernel .*vmlinuz"),
        ("sha256:13,17,19", "PCR 18 .*: a changed mle"),
        ("sha256:17,18,19", "PCR 13 .*: a changed luks"),
    ],
)
def test_a_selection_that_leaves_a_file_out_is_refused_by_name(
    selection: str, told: str
) -> None:
    with pytest.raises(SelectionError, match=told):
        require_covered(measured(LEGACY), PcrSelection.parse(selection))
