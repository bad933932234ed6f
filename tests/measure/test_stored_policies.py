# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy that its owner put into the TPM under the running boot."""

from __future__ import annotations

import pytest
from custom_policies import with_policy
from predictions import next_boot, refused, values
from tboot_boots import DA, LEGACY, Machine, a_boot, facts_of, luks_record
from tboot_policies import ANY, NONE, Entry, packed

from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.launch import RunningSystem

OWN = [Entry(0, NONE), Entry(ANY, 19)]
OTHER = packed([Entry(0, 18), Entry(ANY, 17)])


def running(machine: Machine, *stored: bytes, known: bytes = b"") -> Calibration:
    """Calibrate a boot while the TPM holds these; `known` is the copy of a file."""
    boot = a_boot()
    system = RunningSystem(policies=(*stored, known), stored_policies=stored)
    candidates = [Candidate(boot.entry, facts_of(boot))]
    return calibrate(
        machine.launched(boot), candidates, None, luks_record(boot), system
    )


@pytest.mark.parametrize("machine", [DA, LEGACY], ids=["da", "legacy"])
def test_the_first_policy_of_an_owner_refuses_every_pcr_of_tboots(
    machine: Machine,
) -> None:
    prediction = next_boot(running(machine, OTHER), a_boot())
    reasons = refused(prediction)
    for pcr in {*machine.values(a_boot())} - {13}:
        assert (
            "a verified-launch policy that the running boot did not have"
            in (reasons[pcr])
        )


def test_another_policy_than_the_running_one_refuses_too() -> None:
    own = with_policy(DA, OWN)
    prediction = next_boot(running(own, OTHER, known=own.data), a_boot())
    assert "did not have" in refused(prediction)[17]


@pytest.mark.parametrize("also", [(), (OTHER,)])
def test_the_running_policy_in_the_tpm_changes_nothing(also: tuple[bytes, ...]) -> None:
    own = with_policy(DA, OWN)
    prediction = next_boot(running(own, *also, own.data), a_boot())
    assert values(prediction) == own.values(a_boot())


def test_what_is_no_policy_is_passed_over_as_by_tboot() -> None:
    prediction = next_boot(running(DA, b"no policy", b""), a_boot())
    assert values(prediction) == DA.values(a_boot())
