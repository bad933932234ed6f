# SPDX-License-Identifier: GPL-2.0-or-later
"""The baseline as JSON: what is kept of a boot comes back, or is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from predictions import boots, machines, next_boot, running
from tboot_boots import DA, Boot, Machine, a_boot

from aemseal.measure.baseline import Baseline
from aemseal.words.errors import EvidenceError


@given(machines, boots())
@settings(max_examples=30, deadline=None)
def test_a_baseline_survives_json(machine: Machine, boot: Boot) -> None:
    kept = running(machine, boot).baseline(boot.title)
    assert Baseline.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_a_staged_boot_is_kept_like_a_measured_one() -> None:
    prediction = next_boot(running(DA, a_boot()), a_boot())
    kept = Baseline.of_prediction(prediction)
    assert (kept.title, kept.stack, kept.map) == ("Qubes with tboot", "tboot", "da")
    assert kept.measurements == prediction.measurements


def spoilt(*path: str | int, value: object) -> object:
    data = json.loads(json.dumps(running(DA, a_boot()).baseline("t").to_json()))
    target = data
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return data


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"title": "t", "stack": "tboot", "map": "da"},
        {1: 2},
        spoilt("title", value=1),
        spoilt("measurements", value=[1]),
        spoilt("measurements", 0, "pcr", value=24),
        spoilt("measurements", 0, "pcr", value=True),
        spoilt("measurements", 0, "pcr", value="17"),
        spoilt("measurements", 0, "role", value="hostile"),
        spoilt("measurements", 0, "calibrated", value=None),
        spoilt("measurements", 0, "digests", value={"sha256": "00"}),
        spoilt("measurements", 0, "digests", value={"md5": "00"}),
        spoilt("measurements", 0, "digests", value={"sha256": 1}),
        spoilt("measurements", 0, "digests", value=[]),
        spoilt("measurements", 0, "source", value=None),
        spoilt("measurements", 0, "source", value={"kind": "rumour"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "path": 1}),
        spoilt("measurements", 0, "source", value={"kind": "file", "event": "1"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "cmdline_hex": "x"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "view": "blurred"}),
        spoilt("measurements", value=[spoilt("title", value=1)] * 2000),
    ],
)
def test_a_malformed_baseline_is_refused(data: object) -> None:
    with pytest.raises(EvidenceError):
        Baseline.from_json(data)


def test_a_boot_of_a_thousand_measurements_is_not_kept() -> None:
    kept = running(DA, a_boot()).baseline("t")
    with pytest.raises(EvidenceError, match="measurements"):
        replace(kept, measurements=kept.measurements * 60)
