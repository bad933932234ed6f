# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM that answers anything of a move with an error: told, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_cases import CASES, beginning
from faults import commands_of, endured, some_faults

pytestmark = pytest.mark.tpm


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_move_that_meets_an_error_loses_nothing_and_gives_nothing_away(
    tmp_path: Path, name: str
) -> None:
    case = next(each for each in CASES if each.name == name)
    with beginning(case, tmp_path) as world:
        commands = commands_of(world, case)
        world.restore("start")
        world.boot(case.running)
        outcomes = [
            endured(world, case, fault, commands[fault.at])
            for fault in some_faults(commands)
        ]
    assert len(set(outcomes)) > 1 or not commands
