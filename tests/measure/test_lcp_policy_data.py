# SPDX-License-Identifier: GPL-2.0-or-later
"""Launch control policy data: a file that tboot hands to SINIT, and nobody measures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from predictions import next_boot, refused, running, values
from tboot_boots import DA, LEGACY, Boot, File, Machine, a_boot

from aemseal.measure.baseline import Baseline

DATA = File(
    "/boot/list.data",
    b"Intel(R) TXT LCP_POLICY_DATA: one list",
    notes={"tboot_skips": "lcp-policy-data"},
)
WITHOUT = a_boot()
WITH = replace(WITHOUT, modules=(*WITHOUT.modules, DATA))
OTHER = WITH.with_module(3, image=b"Intel(R) TXT LCP_POLICY_DATA: another list")

machines = pytest.mark.parametrize("machine", [DA, LEGACY], ids=["da", "legacy"])


@machines
@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(WITH, OTHER, "changed"), (WITHOUT, WITH, "is new"), (WITH, WITHOUT, "is gone")],
    ids=["changed", "new", "gone"],
)
def test_other_policy_data_refuse_every_pcr_of_the_launch(
    machine: Machine, before: Boot, after: Boot, change: str
) -> None:
    reasons = refused(next_boot(running(machine, before), after))
    assert set(reasons) == set(machine.values(before)) - {13}
    for reason in reasons.values():
        assert f"/boot/list.data, the launch control policy's data, {change}" in reason


@machines
def test_the_same_policy_data_leave_the_rest_to_be_predicted(machine: Machine) -> None:
    following = WITH.with_module(0, image=b"another Xen")
    moved = replace(following.modules[3], path="/boot/renamed.data", cmdline=b"words")
    following = replace(following, modules=(*following.modules[:3], moved))
    prediction = next_boot(running(machine, WITH), following)
    assert values(prediction) == machine.values(following)


def test_what_the_data_were_is_told_by_the_record_of_the_boot() -> None:
    """They were replaced since: the log fits the new file as well as the old one."""
    kept = running(DA, WITH).baseline(WITH.title)
    kept = Baseline.from_json(json.loads(json.dumps(kept.to_json())))
    calibration = running(DA, WITH, OTHER, baseline=kept)
    assert calibration.is_beside_kept
    assert "changed" in refused(next_boot(calibration, OTHER))[17]
    assert values(next_boot(calibration, WITH)) == DA.values(WITH)
