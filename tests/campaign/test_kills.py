# SPDX-License-Identifier: GPL-2.0-or-later
"""Killed anywhere in any move: no secret is lost, and none is given away.

Here at some points of each move; `make campaign` takes all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_cases import CASES, beginning, case_called, spread
from kills import cut_off, points_of
from power_cuts import Point, kill
from vault_world import World
from verdict import held

pytestmark = pytest.mark.tpm

POINTS_EACH = 10
NAMES = [case.name for case in CASES]
SHORT = {"settle (finish)": 5, "settle (undo an enrolment)": 4, "lockout settings": 2}
"""Moves with fewer durable states on their way, and how many."""


@pytest.mark.parametrize("name", NAMES)
def test_a_move_that_is_killed_loses_nothing_and_gives_nothing_away(
    tmp_path: Path, name: str
) -> None:
    case = case_called(name)
    with beginning(case, tmp_path) as world:
        points = spread(points_of(world, case, every=False), POINTS_EACH)
        assert len(points) == SHORT.get(name, POINTS_EACH)
        for point in points:
            cut_off(world, case, point)
            held(world, case, str(point))


def test_there_are_over_two_hundred_points() -> None:
    assert sum(SHORT.get(name, POINTS_EACH) for name in NAMES) > 200


def test_a_process_that_is_not_killed_is_noticed(tmp_path: Path) -> None:
    with World(tmp_path) as world, pytest.raises(AssertionError, match="not reached"):
        kill(world, lambda vault: None, Point(10_000, "nothing", after=False))
