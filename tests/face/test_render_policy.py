# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose policy a prediction shows: tboot's default one, or one of the owner's."""

from __future__ import annotations

import pytest
from custom_policies import explained, with_policy
from tboot_boots import DA, SHA256, a_boot, facts_of
from tboot_policies import ANY, NONE, NV_RAW, Entry

from aemseal.face.render import prediction_lines
from aemseal.measure.plan import plan
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrBank, PcrSelection

DEFAULT = [Entry(0, NONE), Entry(ANY, 17), Entry(NV_RAW, 22, nv_index=0x40000010)]
OWN = [Entry(0, NONE), Entry(ANY, 19)]


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        (DEFAULT, ["tboot's default policy", "tboot's default policy"]),
        (OWN, ["your policy for tboot, event 16", "your policy for tboot, event 17"]),
    ],
    ids=["default", "own"],
)
def test_the_policys_lines_say_whose_it_is(
    entries: list[Entry], shown: list[str]
) -> None:
    boot = a_boot()
    calibration = explained(with_policy(DA, entries), boot)
    prediction = predict(
        calibration, boot.entry, facts_of(boot), hook_measures_luks=True
    )
    lines = prediction_lines(
        prediction,
        PcrSelection(SHA256, (13, 17, 18)),
        PcrBank(SHA256, {}),
        plan(calibration.measured, prediction),
    )
    policies = [each for each in lines if each.split()[1:2] == ["policy"]]
    assert [each.split(maxsplit=4)[4] for each in policies] == shown
