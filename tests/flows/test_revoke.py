# SPDX-License-Identifier: GPL-2.0-or-later
"""Revoking a medium: it is dead wherever it is, and the others go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from power_cuts import PowerCut, PowerCutError, Watching
from publishing import do_stage, file, unchanged_after
from unsealer import NoAcceptanceError, unseal
from vault_world import EVIL, INTERNAL, NEW, OLD, SECRET, STICK, World, called, enrolled

from aemseal.flows.publishing import kept_vault_file
from aemseal.flows.revoke import Revocation, revoke
from aemseal.flows.state import VaultState
from aemseal.words.errors import UsageError, VaultError
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine with two media, on which the old Xen is accepted and runs."""
    with enrolled(tmp_path, media=(INTERNAL, STICK)) as world:
        yield world


def revoked(
    world: World, label: str = STICK.label, seam: Seam | None = None
) -> Revocation:
    with world.vault(seam) as vault:
        return revoke(vault, vault.require(), label, (INTERNAL, STICK))


def state_of(world: World) -> VaultState:
    with world.vault() as vault:
        return vault.require()


def lost(world: World) -> Path:
    """Have the stick lost; return where whoever found it has it."""
    place = world.folder / "found"
    world.file("", STICK).rename(place)
    return place


def test_a_lost_medium_is_dead_and_the_other_opens(world: World) -> None:
    found = lost(world)
    done = revoked(world)
    assert not done.removed_files
    assert done.state.media == (INTERNAL,)
    assert state_of(world) == done.state
    assert world.opening() == world.opening_for_attacker() == called(OLD)
    world.boot(OLD)
    with pytest.raises(NoAcceptanceError):
        unseal(world.chip.tcti, found)


def test_a_copy_of_a_medium_is_dead_and_its_files_go_where_it_is_at_hand(
    world: World,
) -> None:
    copied = world.folder / "copy"
    shutil.copytree(world.file("", STICK), copied)
    assert revoked(world).removed_files
    assert not list(world.file("", STICK).iterdir())
    assert not file(world, kept_vault_file(STICK.label)).exists()
    shutil.copytree(copied, world.file("", STICK), dirs_exist_ok=True)
    assert world.opening(STICK) == set()
    assert world.opening_for_attacker() == called(OLD)


def test_what_is_staged_stays_staged(world: World) -> None:
    do_stage(world)
    revoked(world)
    assert world.opening() == called(OLD, NEW)


def test_it_needs_no_accepted_boot(world: World) -> None:
    world.boot(EVIL)
    revoked(world)
    assert world.opening() == world.opening_for_attacker() == called(OLD)


def test_an_absent_medium_is_stale_afterwards_and_the_revoked_one_is_not(
    world: World,
) -> None:
    shutil.rmtree(world.file("", STICK))
    with world.vault() as vault:
        vault.publish(vault.require(), "refresh")
    assert state_of(world).stale == (STICK.label,)
    assert revoked(world).state.stale == ()


def test_it_comes_back_with_no_move_of_this_generation(world: World) -> None:
    revoked(world)
    do_stage(world)
    assert not list(world.file("", STICK).iterdir())
    assert world.opening(STICK) == set()


def test_the_last_medium_is_not_revoked(world: World) -> None:
    revoked(world)

    def again(vault: object) -> None:
        revoked(world, INTERNAL.label)

    told = unchanged_after(world, again, VaultError)
    assert "internal is the last medium" in told.message
    assert "aemseal remove" in (told.hint or "")
    assert world.unseal() == SECRET


@pytest.mark.parametrize("label", ["cd-rom", "x/../state.json", ""])
def test_an_unknown_medium_is_told_with_those_that_there_are(
    world: World, label: str
) -> None:
    file(world, kept_vault_file("x")).mkdir()
    told = unchanged_after(world, lambda vault: revoked(world, label), UsageError)
    assert told.hint == "there are: internal, stick"


def test_with_no_other_medium_at_hand_nothing_is_revoked(world: World) -> None:
    shutil.rmtree(world.file(""))
    with pytest.raises(VaultError, match="no medium is at hand"):
        revoked(world)
    assert world.opening(STICK) == called(OLD)


def test_wherever_the_power_fails_it_is_revoked_at_the_second_try(
    world: World,
) -> None:
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    revoked(world, seam=seam)
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(OLD)
        with pytest.raises(PowerCutError):
            revoked(world, seam=PowerCut(at, after=after))
        world.boot(OLD)
        assert world.opening() == called(OLD), where
        with world.vault() as vault:
            outcomes.add(vault.settle())
        try:
            state = revoked(world).state
        except UsageError:  # all was done before the cut
            state = state_of(world)
        assert state.media == (INTERNAL,), where
        assert not list(world.file("", STICK).iterdir()), where
        assert not file(world, kept_vault_file(STICK.label)).exists(), where
        assert world.opening_for_attacker() == called(OLD), where
    assert outcomes == {
        None,
        "revoke was cut short: undid it",
        "revoke was cut short: finished it",
    }


def test_a_medium_that_left_the_configuration_loses_its_kept_copy(
    world: World,
) -> None:
    revoked(world)
    copy = file(world, kept_vault_file(STICK.label))
    copy.write_bytes(b"left by a cut")
    with world.vault() as vault:
        done = revoke(vault, vault.require(), STICK.label)
    assert not done.removed_files
    assert not copy.exists()
