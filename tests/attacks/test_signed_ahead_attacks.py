# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks with acceptances for numbers that the counter has not come to yet.

A move that is cut short leaves one on the medium, and whoever copied it waits for a
counter of the same Name to get there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from anew import recovered
from attacker import COUNTER_LIKE_OURS
from power_cuts import PowerCutError
from vault_world import NEW, NEWER, OLD, World, called
from victim import COUNTER, attacking, code_of, victim
from wire_moves import BeforeCounting

from aemseal.flows.moves import stage
from aemseal.flows.remove import remove
from aemseal.words.errors import VaultError

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

TIMES = 6


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A victim that was cut before a count, and again in each settling of it."""
    with victim(tmp_path) as world:
        with suppress(PowerCutError), world.vault(BeforeCounting()) as vault:
            stage(vault, vault.require(), NEW.policy, NEWER.sealed)
        for _ in range(2):
            with suppress(PowerCutError), world.vault(BeforeCounting()) as vault:
                vault.settle()
        assert "/boot/aemseal/acceptance.6" in world.seen
        world.boot(NEW)
        yield world


def test_while_the_move_is_settled_no_number_signed_ahead_comes_into_force(
    world: World,
) -> None:
    with world.vault() as vault:
        vault.settle()
    assert world.opening_for_attacker() == called(NEW)


def test_a_counter_made_by_the_attacker_after_a_remove_is_past_all_numbers(
    world: World,
) -> None:
    """The owner's value is given back, so they may define what they like."""
    with world.vault() as vault:
        remove(vault)
    with attacking(world) as attacker:
        attacker.define(COUNTER, COUNTER_LIKE_OURS)
    for _ in range(TIMES):
        with attacking(world) as attacker:
            attacker.increment(attacker.index(COUNTER))
        assert world.opening_for_attacker() == set()


def test_enrolling_again_after_a_remove_brings_no_number_signed_ahead_back(
    world: World,
) -> None:
    with world.vault() as vault:
        remove(vault)
    before = {path: set(versions) for path, versions in world.seen.items()}
    world.boot(OLD)
    world.enrol(OLD)
    ours = world.seen
    for _ in range(TIMES):
        world.seen = before
        assert world.opening_for_attacker() == set()
        world.seen = ours
        with world.vault() as vault:
            vault.publish(vault.require(), "refresh")


def test_a_removed_vault_whose_counter_is_gone_is_taken_down_all_the_same(
    world: World,
) -> None:
    with world.vault() as vault:
        state = vault.require()
        with vault.owner_session(state) as session:
            vault.tpm.undefine_counter(state.counter, session)
        remove(vault)
        assert vault.load() is None
    with attacking(world) as attacker:
        assert code_of(attacker.index, COUNTER) == 0x18B
    assert world.opening_for_attacker() == set()


def taken_away_by_the_platform(world: World) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)
        attacker.do("nv_undefine_space", nv_index=index, auth_handle=ESYS_TR.PLATFORM)


def test_recovering_without_the_counter_brings_no_number_signed_ahead_back(
    world: World,
) -> None:
    """The new counter is at the same index, and starts just past the one that went."""
    taken_away_by_the_platform(world)
    with world.vault() as vault, suppress(PowerCutError):
        recovered(vault)
    ours = world.seen
    before = {
        path: {each for each in versions if b"generation 1\n" in each}
        for path, versions in world.seen.items()
    }
    for _ in range(TIMES):
        world.seen = before
        assert world.opening_for_attacker() == set()
        world.seen = ours
        with world.vault() as vault:
            vault.publish(vault.require(), "refresh")


def test_a_recover_that_is_cut_short_does_not_forget_what_was_signed_ahead(
    world: World,
) -> None:
    taken_away_by_the_platform(world)
    with suppress(PowerCutError), world.vault(BeforeCounting()) as vault:
        recovered(vault)
    with world.vault() as vault:
        assert vault.settle() == "recover was cut short: undid it"
        assert recovered(vault).state.count > 6


def test_a_counter_made_after_a_remove_without_one_is_past_all_numbers(
    world: World,
) -> None:
    taken_away_by_the_platform(world)
    with world.vault() as vault:
        remove(vault)
    with attacking(world) as attacker:
        attacker.define(COUNTER, COUNTER_LIKE_OURS)
    for _ in range(TIMES):
        with attacking(world) as attacker:
            attacker.increment(attacker.index(COUNTER))
        assert world.opening_for_attacker() == set()


def test_no_generation_is_begun_while_a_move_can_still_be_settled(
    world: World,
) -> None:
    with world.vault() as vault:
        with pytest.raises(VaultError, match="was cut short"):
            recovered(vault)
        assert vault.require().generation == 1
