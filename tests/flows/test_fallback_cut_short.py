# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves with fallback boots, in any order and cut short: the promises hold as ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fallback_boots import (
    NEW_BOTH,
    NEW_KERNEL,
    NEW_SPARE,
    NEW_XEN,
    NEWEST,
    NEWEST_SPARE,
    OLD,
    OLD_SPARE,
    RESCUE,
    TITLES,
    Entry,
    confirming,
    entry_world,
    staging,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import Move, cancelling, do, names, settled, state_of
from power_cuts import PowerCut, PowerCutError, Watching
from vault_world import World, called

from aemseal.flows.fallback import has_launch_of, is_named, launch_parts
from aemseal.words.errors import AemsealError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen and kernel, enrolled there."""
    with entry_world(tmp_path) as world:
        yield world


# --- the power fails ---

UPDATE = staging(OLD, NEW_BOTH, NEW_SPARE)
MOVES: dict[str, tuple[list[Move], Entry, Move, set[str]]] = {
    "stage with a fallback": ([], OLD, UPDATE, called(OLD, NEW_BOTH, NEW_SPARE)),
    "confirm the usual boot": (
        [UPDATE],
        NEW_BOTH,
        confirming(NEW_BOTH),
        called(NEW_BOTH, NEW_SPARE),
    ),
    "confirm the fallback first": (
        [UPDATE],
        NEW_SPARE,
        confirming(NEW_SPARE),
        called(NEW_BOTH, NEW_SPARE),
    ),
    "cancel beside an accepted fallback": (
        [staging(OLD, OLD, OLD_SPARE), confirming(OLD), UPDATE],
        OLD,
        cancelling(OLD),
        called(OLD, OLD_SPARE),
    ),
    "confirm with a title taken out": (
        [staging(OLD, OLD, OLD_SPARE), confirming(OLD)],
        OLD,
        confirming(OLD, frozenset()),
        called(OLD),
    ),
    "confirm a fallback whose title is taken out": (
        [staging(OLD, NEW_KERNEL, OLD_SPARE, OLD.under(RESCUE)), confirming(OLD)],
        OLD,
        confirming(OLD, frozenset()),
        called(OLD, NEW_KERNEL),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_wherever_the_power_fails_the_boots_of_before_or_after_open(
    world: World, name: str
) -> None:
    earlier, running, move, after_it = MOVES[name]
    for each in earlier:
        do(world, each)
    before_it = names(state_of(world))
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        move(vault, vault.require())
    found_either = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(running)
        cut = PowerCut(at, after=after)
        with pytest.raises(PowerCutError), world.vault(cut) as vault:
            move(vault, vault.require())
        world.boot(running)
        found = world.opening()
        assert found in (before_it, after_it), where
        settled(world)
        assert names(state_of(world)) == found == world.opening(), where
        found_either.add(found == after_it)
    assert found_either == {False, True}


# --- any order of updates, reboots and power cuts ---

UPDATES: dict[str, tuple[Entry, ...]] = {
    "the old files": (OLD, OLD_SPARE),
    "a new kernel": (NEW_KERNEL, OLD_SPARE, OLD.under(RESCUE)),
    "a new Xen": (NEW_XEN, NEW_SPARE),
    "both": (NEW_BOTH, NEW_SPARE, NEW_XEN.under(RESCUE)),
    "the newest": (NEWEST, NEWEST_SPARE),
}
BOOTED = (OLD, OLD_SPARE, NEW_KERNEL, NEW_XEN, NEW_SPARE, NEW_BOTH, NEWEST)
ACTIONS = st.one_of(
    st.tuples(st.just("boot"), st.sampled_from(BOOTED)),
    st.tuples(st.just("stage"), st.sampled_from(sorted(UPDATES))),
    st.tuples(st.just("confirm"), st.sampled_from([TITLES, TITLES, frozenset()])),
    st.tuples(st.just("cancel"), st.none()),
)
STEPS = st.lists(
    st.tuples(ACTIONS, st.one_of(st.none(), st.integers(0, 70))), max_size=10
)


@dataclass
class Story:
    """What happened so far: who runs, and who was ever retired."""

    running: Entry = OLD
    retired: set[str] = field(default_factory=set)

    def move(self, action: str, argument: object) -> Move:
        if action == "stage":
            return staging(self.running, *UPDATES[str(argument)])
        if action == "confirm":
            assert isinstance(argument, frozenset)
            return confirming(self.running, argument)
        return cancelling(self.running)

    def hold(self, world: World) -> None:
        """Assert what holds after every move."""
        state = state_of(world)
        self.retired |= {each.name for each in state.retired}
        found = world.opening()
        assert self.running.name in found, "the running boot stays accepted"
        assert found == names(state) == world.opening_for_attacker()
        assert not found & self.retired

    def hold_after_confirm(self, world: World, titles: frozenset[str]) -> None:
        """Assert that nothing older than the running boot is left by its confirm."""
        state = state_of(world)
        here = self.running.sealed
        for boot in state.accepted:
            assert has_launch_of(boot, (here,)), "no other launcher or Xen stays"
            assert (
                not boot.fallback
                or is_named(boot, titles)
                or boot.policy == (here.policy)
            )
        old = launch_parts(state.retired) - launch_parts((here,))
        assert not any(launch_parts((boot,)) & old for boot in state.staged)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_in_any_order_the_promises_are_kept(
    world: World, steps: list[tuple[tuple[str, object], int | None]]
) -> None:
    if not (world.folder / "enrolled").exists():
        world.snapshot("enrolled")
    world.restore("enrolled")
    world.boot(OLD)
    story = Story()
    for (action, argument), at in steps:
        if action == "boot":
            assert isinstance(argument, Entry)
            if argument.name in world.opening():  # else nothing is decrypted
                story.running = argument
            continue
        world.boot(story.running)
        is_done = False
        try:
            with world.vault(PowerCut(-1 if at is None else at)) as vault:
                vault.settle()
                story.move(action, argument)(vault, vault.require())
                is_done = True
        except (PowerCutError, AemsealError):
            world.boot(story.running)
        settled(world)
        story.hold(world)
        if is_done and action == "confirm":
            assert isinstance(argument, frozenset)
            story.hold_after_confirm(world, argument)
