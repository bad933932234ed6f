# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills of the campaign: where in a move, and how a point is come to."""

from __future__ import annotations

from campaign_cases import Case
from power_cuts import Point, Watching, kill
from vault_world import World


def points_of(world: World, case: Case, *, every: bool) -> list[Point]:
    """The points of a move: `every` one, or one for each durable state on the way.

    The world is left where the move has been made.
    """
    world.boot(case.running)
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault, vault.files.lock():
        case.move(vault)
    cuts = [(at, after) for at, after, _ in seam.points] if every else seam.all_cuts()
    return [Point(at, seam.steps[at], after=after) for at, after in cuts]


def cut_off(world: World, case: Case, point: Point) -> None:
    """Begin the move, have it killed, and the power cut; then boot again."""
    world.restore("start")
    world.boot(case.running)
    kill(world, case.move, point)
    world.boot(case.running)
