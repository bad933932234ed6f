# SPDX-License-Identifier: GPL-2.0-or-later
"""Killed anywhere in any move: no secret is lost, and none is given away."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_cases import CASES, Case, beginning
from kills import cut_off, points_of
from verdict import held

pytestmark = pytest.mark.tpm


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_move_that_is_killed_loses_nothing_and_gives_nothing_away(
    tmp_path: Path, case: Case
) -> None:
    with beginning(case, tmp_path) as world:
        points = points_of(world, case, every=False)
        for point in points:
            cut_off(world, case, point)
            held(world, case, str(point))
