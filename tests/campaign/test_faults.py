# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM that answers anything of a move with an error: told, and nothing is lost.

Here some commands of each move, codes taking turns; `make campaign` takes all of both.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_cases import CASES, beginning, case_called, spread
from faults import commands_of, endured, some_faults

pytestmark = pytest.mark.tpm


FAULTS_EACH = 8


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_move_that_meets_an_error_loses_nothing_and_gives_nothing_away(
    tmp_path: Path, name: str
) -> None:
    case = case_called(name)
    with beginning(case, tmp_path) as world:
        commands = commands_of(world, case)
        world.restore("start")
        world.boot(case.running)
        faults = spread(list(some_faults(commands)), FAULTS_EACH)
        outcomes = {endured(world, case, fault, commands[fault.at]) for fault in faults}
    assert len(outcomes) > 1 or not commands
