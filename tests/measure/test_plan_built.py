# SPDX-License-Identifier: GPL-2.0-or-later
"""What was built here is answered for: the bytes of a measured file, nothing more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from predictions import next_boot, running
from tboot_boots import DA, LEGACY, Boot, Machine, a_boot

from aemseal.measure.boot_entry import Role
from aemseal.measure.plan import OriginKind, Plan, plan
from aemseal.measure.reports import plan_report

BUILT = {"initramfs": OriginKind.BUILT}
UNKNOWN = {"initramfs": OriginKind.UNKNOWN}
REBUILT = a_boot().with_module(2, image=b"with the hook in it")


def plan_of(boot: Boot, following: Boot, machine: Machine = LEGACY) -> Plan:
    """Of a boot whose initramfs was built anew since it was measured."""
    measured = running(machine, boot).measured
    prediction = next_boot(running(machine, boot), following)
    return plan(measured, prediction, measured, built=(Role.INITRAMFS,))


def origins(made: Plan) -> dict[str, OriginKind]:
    return {each.name: each.origin.kind for each in made.changes}


@pytest.mark.parametrize("machine", [LEGACY, DA], ids=["legacy", "da"])
def test_new_bytes_of_the_same_file_are_answered_for(machine: Machine) -> None:
    made = plan_of(a_boot(), REBUILT, machine)
    assert origins(made) == BUILT
    assert made.unknown == ()
    (change,) = json.loads(json.dumps(plan_report(made)))["changes"]
    assert change["origin"] == {"kind": "built", "detail": "built here just now"}


def test_only_of_the_roles_that_were_built() -> None:
    boot = REBUILT.with_module(1, image=b"another kernel")
    assert origins(plan_of(a_boot(), boot)) == BUILT | {"kernel": OriginKind.UNKNOWN}
    measured = running(LEGACY, a_boot()).measured
    prediction = next_boot(running(LEGACY, a_boot()), REBUILT)
    assert origins(plan(measured, prediction, measured)) == UNKNOWN


@pytest.mark.parametrize(
    "following",
    {
        "under another name": REBUILT.with_module(2, path="/boot/other.img"),
        "with another command line": REBUILT.with_module(2, cmdline=b"more"),
    }.values(),
    ids=["under another name", "with another command line"],
)
def test_it_is_unknown(following: Boot) -> None:
    assert origins(plan_of(a_boot(), following)) == UNKNOWN


def test_another_file_in_its_place_is_unknown() -> None:
    xen, kernel, initramfs = REBUILT.modules
    following = replace(a_boot(), modules=(xen, initramfs, kernel))
    assert set(origins(plan_of(a_boot(), following)).values()) == {OriginKind.UNKNOWN}


def test_one_that_was_not_there_or_is_there_no_more_is_unknown() -> None:
    without = replace(a_boot(), modules=a_boot().modules[:2])
    assert origins(plan_of(without, REBUILT)) == UNKNOWN
    assert origins(plan_of(a_boot(), without)) == UNKNOWN


def test_headers_that_no_hook_measured_are_told_as_such() -> None:
    calibration = running(DA, a_boot(), with_luks=False)
    measured = calibration.measured
    made = plan(measured, next_boot(calibration, a_boot()), measured)
    (change,) = made.unknown
    assert (change.name, change.before) == ("luks", None)
    assert change.origin.detail == "no hook measured it in this boot: taken as it is"
