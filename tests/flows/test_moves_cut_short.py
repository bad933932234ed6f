# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails in a move: the boots of before it open, or those of after it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import Move, cancelling, confirming, do, names, settled, staging, state_of
from power_cuts import PowerCut, PowerCutError, Watching
from vault_world import NEW, NEWER, OLD, Boot, World, called, enrolled

from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there."""
    with enrolled(tmp_path) as world:
        yield world


# --- the power fails ---

MOVES: dict[str, tuple[list[Move], Boot, Move, set[str]]] = {
    "stage": ([], OLD, staging(OLD, NEW), called(OLD, NEW)),
    "stage, reboot, stage": (
        [staging(OLD, NEW)],
        NEW,
        staging(NEW, NEWER),
        called(OLD, NEW, NEWER),
    ),
    "stage another": (
        [staging(OLD, NEW)],
        OLD,
        staging(OLD, NEWER),
        called(OLD, NEWER),
    ),
    "stage, new only": ([], OLD, staging(OLD, NEW, new_only=True), called(NEW)),
    "confirm": ([staging(OLD, NEW)], NEW, confirming(NEW), called(NEW)),
    "confirm beside a staged boot": (
        [staging(OLD, NEW), staging(NEW, NEWER)],
        NEW,
        confirming(NEW),
        called(NEW, NEWER),
    ),
    "cancel": ([staging(OLD, NEW)], OLD, cancelling(OLD), called(OLD)),
}


def watched(world: World, move: Move) -> Watching:
    """Make the move, looking at every durable state on its way."""
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        move(vault, vault.require())
    return seam


def cut(world: World, move: Move, at: int, *, after: bool) -> None:
    """Make the move and cut the power there."""
    with pytest.raises(PowerCutError), world.vault(PowerCut(at, after=after)) as vault:
        move(vault, vault.require())


def settling(vault: Vault, state: VaultState) -> object:
    return vault.settle()


@pytest.mark.parametrize("name", MOVES)
def test_wherever_the_power_fails_the_boots_of_before_or_after_open(
    world: World, name: str
) -> None:
    earlier, running, move, after_it = MOVES[name]
    for each in earlier:
        do(world, each)
    before_it = names(state_of(world))
    world.snapshot("start")
    seam = watched(world, move)
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(running)
        cut(world, move, at, after=after)
        world.boot(running)
        found = world.opening()
        assert found in (before_it, after_it), f"{where}, before settling"
        world.boot(running)
        said = settled(world)
        assert world.opening() == found, f"{where}: settling takes no side"
        assert world.opening_for_attacker() == found, where
        assert names(state_of(world)) == found, where
        assert settled(world) is None
        outcomes.add((found == after_it, said is None))
        # And the same move can be made (again) from here.
        try:
            do(world, move)
        except AemsealError:
            assert found == after_it, where
        assert world.opening() == after_it, f"{where}, then the move again"
        assert world.opening_for_attacker() == after_it, where
    if before_it != after_it:
        assert {happened for happened, _ in outcomes} == {False, True}
    assert {silent for _, silent in outcomes} == {False, True}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_power_may_fail_while_settling_too(world: World, moment: str) -> None:
    do(world, staging(OLD, NEW))
    world.snapshot("start")
    steps = watched(world, confirming(NEW)).steps
    count = steps.index("NV_Increment")
    before_it, after_it = called(OLD, NEW), called(NEW)
    expected = before_it if moment == "before" else after_it

    def half_done() -> None:
        world.restore("start")
        world.boot(NEW)
        cut(world, confirming(NEW), count, after=moment == "after")
        world.boot(NEW)

    half_done()
    seam = watched(world, settling)
    assert world.opening() == expected
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        half_done()
        cut(world, settling, at, after=after)
        world.boot(NEW)
        assert world.opening() == expected, f"{where}, before settling again"
        world.boot(NEW)
        settled(world)
        assert world.opening() == expected, where
        assert world.opening_for_attacker() == expected, where
        assert names(state_of(world)) == expected, where
        do(world, confirming(NEW))
        assert world.opening_for_attacker() == after_it, where


def test_a_cancel_cut_short_does_not_bring_the_retired_boot_back(world: World) -> None:
    """Its acceptance was signed and copied, and its number has not come yet."""
    do(world, staging(OLD, NEW))
    steps = steps_of_cancel(world)
    cut(world, cancelling(OLD), steps.index("NV_Increment"), after=False)
    world.boot(NEW)
    do(world, confirming(NEW))
    assert world.opening() == called(NEW)
    assert world.opening_for_attacker() == called(NEW)


def steps_of_cancel(world: World) -> list[str]:
    world.snapshot("cancel")
    steps = watched(world, cancelling(OLD)).steps
    world.restore("cancel")
    world.boot(OLD)
    return steps


def test_nothing_is_renamed_or_removed_without_a_sync_right_behind(
    world: World,
) -> None:
    """So no effect is lasting before one that it comes after."""
    for move in (staging(OLD, NEW), cancelling(OLD)):
        steps = watched(world, move).steps
        for step, following in itertools.pairwise(steps):
            verb, _, path = step.partition(" ")
            if verb in ("rename", "remove"):
                assert following == f"sync {path}"


# --- any order of moves, reboots and power cuts ---

ACTIONS = st.one_of(
    st.tuples(st.just("boot"), st.sampled_from([OLD, NEW, NEWER])),
    st.tuples(st.just("stage"), st.sampled_from([NEW, NEWER, OLD])),
    st.tuples(st.just("confirm"), st.just(OLD)),
    st.tuples(st.just("cancel"), st.just(OLD)),
)
STEPS = st.lists(
    st.tuples(ACTIONS, st.one_of(st.none(), st.integers(0, 70))), max_size=8
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_in_any_order_the_promises_are_kept(
    world: World, steps: list[tuple[tuple[str, Boot], int | None]]
) -> None:
    if not (world.folder / "enrolled").exists():
        world.snapshot("enrolled")
    world.restore("enrolled")
    world.boot(OLD)
    running, retired = OLD, set()
    for (action, boot), at in steps:
        before = world.opening()
        if action == "boot":
            if boot.name in before:  # on another boot nothing is decrypted
                running = boot
            continue
        move = {
            "stage": staging(running, boot),
            "confirm": confirming(running),
            "cancel": cancelling(running),
        }[action]
        world.boot(running)
        try:
            with world.vault(PowerCut(-1 if at is None else at)) as vault:
                vault.settle()
                move(vault, vault.require())
        except (PowerCutError, AemsealError):
            world.boot(running)
        assert running.name in world.opening(), "the running boot stays accepted"
        settled(world)
        state = state_of(world)
        retired |= {each.name for each in state.retired}
        found = world.opening()
        assert running.name in found
        assert found == names(state) == world.opening_for_attacker()
        assert not found & retired
