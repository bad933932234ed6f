# SPDX-License-Identifier: GPL-2.0-or-later
"""No order of moves, reboots, cuts and thefts breaks a promise of the vault."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from vault_machine import VaultMachine
from vault_world import World

pytestmark = pytest.mark.tpm

EXAMPLES = 12
STEPS = 12


def search(folder: Path, examples: int, steps: int, *, seed: int = 0) -> None:
    """Look for an order that breaks a promise; AssertionError, which tells it.

    It is told as found: to make it shorter would take minutes.
    """
    with World(folder) as world:
        VaultMachine.world = world
        run_state_machine_as_test(
            hypothesis.seed(seed)(VaultMachine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                phases=[Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_no_order_of_events_breaks_a_promise(tmp_path: Path) -> None:
    search(tmp_path, EXAMPLES, STEPS)
