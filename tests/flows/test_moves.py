# SPDX-License-Identifier: GPL-2.0-or-later
"""stage, confirm, cancel: which boots get the secret after each, on a real TPM.

`opening` asks the TPM: every boot is launched and the hook's whole policy is run.
`opening_for_attacker` does so with every file that ever lay on a medium.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from power_cuts import PowerCut, PowerCutError, Watching
from unsealer import NoAcceptanceError, RefusedError
from vault_world import EVIL, NEW, NEWER, OLD, Boot, World

from aemseal.flows.moves import (
    ACCEPTED,
    RETIRED,
    STAGED,
    UNKNOWN,
    cancel,
    confirm,
    require_accepted,
    stage,
    standing,
)
from aemseal.flows.state import RETIRED_KEPT, VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, NotAcceptedError, VaultError

pytestmark = pytest.mark.tpm

Move = Callable[[Vault, VaultState], object]


def staging(running: Boot, following: Boot, *, new_only: bool = False) -> Move:
    def move(vault: Vault, state: VaultState) -> object:
        return stage(vault, state, running.policy, following.sealed, new_only=new_only)

    return move


def confirming(running: Boot) -> Move:
    return lambda vault, state: confirm(vault, state, running.sealed)


def cancelling(running: Boot) -> Move:
    return lambda vault, state: cancel(vault, state, running.policy)


def do(world: World, move: Move) -> VaultState:
    """Settle what was cut short, as every command does, then make a move."""
    with world.vault() as vault:
        vault.settle()
        move(vault, vault.require())
        return vault.require()


def settled(world: World) -> str | None:
    with world.vault() as vault:
        return vault.settle()


def state_of(world: World) -> VaultState:
    with world.vault() as vault:
        return vault.require()


def names(state: VaultState) -> set[str]:
    return {boot.name for boot in (*state.accepted, *state.staged)}


def called(*boots: Boot) -> set[str]:
    return {boot.name for boot in boots}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there."""
    with World(tmp_path) as world:
        world.boot(OLD)
        world.enrol(OLD)
        yield world


# --- what each move does ---


def test_an_accepted_boot_opens_and_no_other(world: World) -> None:
    assert world.opening() == world.opening_for_attacker() == called(OLD)


def test_a_staged_boot_opens_beside_the_accepted_one(world: World) -> None:
    state = do(world, staging(OLD, NEW))
    assert world.opening() == world.opening_for_attacker() == called(OLD, NEW)
    assert names(state) == called(OLD, NEW)
    assert standing(state, OLD.policy) == ACCEPTED
    assert standing(state, NEW.policy) == STAGED
    assert standing(state, EVIL.policy) == UNKNOWN


def test_a_confirmed_boot_opens_and_the_retired_one_does_not(world: World) -> None:
    do(world, staging(OLD, NEW))
    state = do(world, confirming(NEW))
    assert world.opening() == world.opening_for_attacker() == called(NEW)
    assert standing(state, NEW.policy) == ACCEPTED
    assert standing(state, OLD.policy) == RETIRED
    assert state.baseline == NEW.sealed.boot


def test_a_cancelled_boot_does_not_open(world: World) -> None:
    do(world, staging(OLD, NEW))
    state = do(world, cancelling(OLD))
    assert world.opening() == world.opening_for_attacker() == called(OLD)
    assert standing(state, NEW.policy) == UNKNOWN


def test_an_earlier_staged_boot_gives_way_to_a_later_one(world: World) -> None:
    do(world, staging(OLD, NEW))
    do(world, staging(OLD, NEWER))
    assert world.opening() == world.opening_for_attacker() == called(OLD, NEWER)


def test_new_only_leaves_the_running_boot_out_and_says_it_is_retired(
    world: World,
) -> None:
    state = do(world, staging(OLD, NEW, new_only=True))
    assert world.opening() == world.opening_for_attacker() == called(NEW)
    assert standing(state, OLD.policy) == RETIRED
    state = do(world, confirming(NEW))
    assert standing(state, OLD.policy) == RETIRED


def test_new_only_on_a_staged_boot_leaves_out_both_old_ones(world: World) -> None:
    do(world, staging(OLD, NEW))
    state = do(world, staging(NEW, NEWER, new_only=True))
    assert world.opening() == world.opening_for_attacker() == called(NEWER)
    assert standing(state, OLD.policy) == standing(state, NEW.policy) == RETIRED


def test_new_only_on_the_accepted_boot_leaves_out_the_staged_one(
    world: World,
) -> None:
    do(world, staging(OLD, NEW))
    state = do(world, staging(OLD, OLD, new_only=True))
    assert world.opening() == world.opening_for_attacker() == called(OLD)
    assert standing(state, OLD.policy) == ACCEPTED


def test_the_tpm_names_why_a_retired_boot_gets_nothing(world: World) -> None:
    do(world, staging(OLD, NEW))
    kept = {each.name: each.read_bytes() for each in world.file("").iterdir()}
    do(world, confirming(NEW))
    world.boot(OLD)
    with pytest.raises(RefusedError) as refused:
        world.unseal()
    # TPM_RC_VALUE, parameter 1: the PCRs fit none of the branches
    assert (refused.value.command, refused.value.code) == ("policy_or", 0x1C4)
    world.boot(EVIL)
    with pytest.raises(RefusedError) as refused:
        world.unseal()
    assert (refused.value.command, refused.value.code) == ("policy_or", 0x1C4)
    for each in world.file("").iterdir():
        each.unlink()
    for name, data in kept.items():
        world.file(name).write_bytes(data)
    world.boot(OLD)
    with pytest.raises(NoAcceptanceError):
        world.unseal()


# --- what each move refuses ---


@pytest.mark.parametrize(
    "move", [staging(EVIL, NEW), confirming(EVIL), cancelling(EVIL)]
)
def test_a_boot_that_is_not_accepted_makes_no_move(world: World, move: Move) -> None:
    before = state_of(world)
    with pytest.raises(NotAcceptedError, match="is not an accepted one") as told:
        do(world, move)
    assert told.value.exit_code == 6
    assert state_of(world) == before
    assert world.opening() == called(OLD)


def test_a_retired_boot_makes_no_move_and_is_never_staged_again(world: World) -> None:
    do(world, staging(OLD, NEW))
    do(world, confirming(NEW))
    with pytest.raises(NotAcceptedError):
        do(world, staging(OLD, NEWER))
    with pytest.raises(VaultError, match=r"^Xen 4.17.5 is retired$"):
        do(world, staging(NEW, OLD))
    assert world.opening() == world.opening_for_attacker() == called(NEW)


def test_staging_an_accepted_boot_changes_nothing(world: World) -> None:
    before = state_of(world)
    assert do(world, staging(OLD, OLD)) == before


def test_confirming_an_accepted_boot_changes_nothing(world: World) -> None:
    do(world, staging(OLD, NEW))
    before = state_of(world)
    with world.vault() as vault:
        confirmation = confirm(vault, before, OLD.sealed)
    assert confirmation.state == before == state_of(world)
    assert (confirmation.accepted_as, confirmation.retired) == (OLD.name, ())
    assert not confirmation.was_staged


def test_confirm_says_who_was_accepted_and_who_was_retired(world: World) -> None:
    state = do(world, staging(OLD, NEW))
    with world.vault() as vault:
        confirmation = confirm(vault, state, NEW.sealed)
    assert confirmation.accepted_as == NEW.name
    assert confirmation.retired == (OLD.name,)
    assert confirmation.was_staged


def test_the_running_staged_boot_is_not_cancelled(world: World) -> None:
    do(world, staging(OLD, NEW))
    with pytest.raises(VaultError, match="running now") as told:
        do(world, cancelling(NEW))
    assert told.value.hint is not None
    assert "aemseal confirm" in told.value.hint
    assert world.opening() == called(OLD, NEW)


def test_the_retired_are_remembered_up_to_a_bound(world: World) -> None:
    state = state_of(world)
    many = tuple(Boot(f"Xen {number}", b"%d" % number).sealed for number in range(40))
    do(world, staging(OLD, NEW))
    with world.vault() as vault:
        state = replace(vault.require(), retired=many)
        confirmed = confirm(vault, state, NEW.sealed).state
    assert len(confirmed.retired) == RETIRED_KEPT
    assert confirmed.retired[-1].policy == OLD.policy


def test_require_accepted_takes_the_accepted_and_the_staged(world: World) -> None:
    state = do(world, staging(OLD, NEW))
    require_accepted(state, OLD.policy)
    require_accepted(state, NEW.policy)
    with pytest.raises(NotAcceptedError):
        require_accepted(state, NEWER.policy)


# --- the running boot stays accepted at every point ---


def test_stage_reboot_stage(world: World) -> None:
    do(world, staging(OLD, NEW))
    world.boot(NEW)
    do(world, staging(NEW, NEWER))
    assert world.opening() == world.opening_for_attacker() == called(OLD, NEW, NEWER)


def test_stage_reboot_cancel(world: World) -> None:
    do(world, staging(OLD, NEW))
    world.boot(NEW)
    with pytest.raises(VaultError):
        do(world, cancelling(NEW))
    assert world.opens(NEW)
    world.boot(OLD)
    do(world, cancelling(OLD))
    assert world.opening() == called(OLD)


def test_stage_reboot_stage_confirm(world: World) -> None:
    do(world, staging(OLD, NEW))
    world.boot(NEW)
    do(world, staging(NEW, NEWER))
    assert world.opens(NEW)
    state = do(world, confirming(NEW))
    assert world.opening() == world.opening_for_attacker() == called(NEW, NEWER)
    assert standing(state, NEWER.policy) == STAGED
    world.boot(NEWER)
    do(world, confirming(NEWER))
    assert world.opening() == world.opening_for_attacker() == called(NEWER)


def test_staging_the_boot_that_runs_staged_keeps_it(world: World) -> None:
    do(world, staging(OLD, NEW))
    do(world, staging(NEW, NEW))
    assert world.opening() == called(OLD, NEW)


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
    max_examples=20,
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
