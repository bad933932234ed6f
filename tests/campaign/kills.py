# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills: a process that makes a move is killed at a step, then the power is cut."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from campaign_cases import Case, Move
from power_cuts import Watching
from vault_world import World

from aemseal.world.seam import Seam


@dataclass(frozen=True)
class Point:
    """Where to kill: before or after the step of this number."""

    step: int
    after: bool
    name: str

    def __str__(self) -> str:
        return f"killed {'after' if self.after else 'before'} {self.name}"


class Kill(Seam):
    """Kills its own process, as nothing in it can notice or handle."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self.steps = 0

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        number = self.steps
        self.steps += 1
        if number == self.point.step:
            assert what == self.point.name, "a move takes the same steps each time"
            if not self.point.after:
                os.kill(os.getpid(), signal.SIGKILL)
        yield
        if number == self.point.step:
            os.kill(os.getpid(), signal.SIGKILL)


def points_of(world: World, case: Case, *, every: bool) -> list[Point]:
    """The points of a move: `every` one, or one for each durable state on the way.

    The world is left where the move has been made.
    """
    world.boot(case.running)
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault, vault.files.lock():
        case.move(vault)
    cuts = [(at, after) for at, after, _ in seam.points] if every else seam.cuts()
    return [Point(at, after, seam.steps[at]) for at, after in cuts]


def kill(world: World, move: Move, point: Point) -> None:
    """Make a move in a process of its own, which is killed at the point."""
    child = os.fork()
    if child == 0:
        _be_killed(world, move, point)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point}: it was not reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _be_killed(world: World, move: Move, point: Point) -> None:
    try:
        with world.vault(Kill(point)) as vault, vault.files.lock():
            move(vault)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # no handler of the parent's may run here


def cut_off(world: World, case: Case, point: Point) -> None:
    """Begin the move, have it killed, and the power cut; then boot again."""
    world.restore("start")
    world.boot(case.running)
    kill(world, case.move, point)
    world.boot(case.running)
