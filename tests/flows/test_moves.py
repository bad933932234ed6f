# SPDX-License-Identifier: GPL-2.0-or-later
"""stage, confirm, cancel: which boots get the secret after each, on a real TPM.

`opening` asks the TPM: every boot is launched and the hook's whole policy is run.
`opening_for_attacker` does so with every file that ever lay on a medium.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moving import Move, cancelling, confirming, do, names, staging, state_of
from unsealer import NoAcceptanceError, RefusedError
from vault_world import EVIL, NEW, NEWER, OLD, Boot, World, called, enrolled

from aemseal.flows.moves import (
    ACCEPTED,
    RETIRED,
    STAGED,
    UNKNOWN,
    confirm,
    require_accepted,
    standing,
)
from aemseal.flows.state import RETIRED_KEPT
from aemseal.words.errors import NotAcceptedError, VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there."""
    with enrolled(tmp_path) as world:
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
