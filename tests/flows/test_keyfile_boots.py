# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of every boot of a disk when a key of ours changes its LUKS header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from luks_disks import OTHER_UUID
from luks_world import (
    NOW,
    LuksWorld,
    RealBoot,
    add_key,
    draft,
    enrolled_on_luks,
    extend,
    key_added,
)
from unsealer import SELECTION, SHA256
from vault_world import NEW, NEWER, OLD, SECRET, Boot

from aemseal.flows.keyfile import (
    require_shown_next,
    with_new_header,
)
from aemseal.flows.luks_boots import (
    differ_in_header_alone,
    has_headers_of,
)
from aemseal.flows.moves import Circumstances, cancel, confirm, stage
from aemseal.flows.reseal import NextBoot
from aemseal.flows.sealing import seal_beside
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.words.errors import PredictionError, VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    with enrolled_on_luks(tmp_path) as world:
        yield world


def before_install(vault: Vault, running: Boot) -> VaultState:
    """Return the state with the boots staged, and the draft still a draft."""
    _, change = draft(vault)
    return with_new_header(vault, vault.require(), change, running.policy, NOW)


# --- every boot of this disk ---


def test_every_accepted_and_staged_boot_gets_its_twin(tmp_path: Path) -> None:
    with enrolled_on_luks(tmp_path, NEWER) as world:
        running = world.real(OLD)
        with world.vault() as vault:
            waiting = world.real(NEW).sealed
            stage(vault, vault.require(), running.policy, waiting)
        state = key_added(world, running)
        for each in (OLD, NEW, NEWER):
            world.boot_real(each)
            assert world.text() == SECRET, each.name
            assert world.real(each).policy in {boot.policy for boot in state.staged}


def test_a_twin_of_a_fallback_is_a_fallback(world: LuksWorld) -> None:
    running = world.real(OLD)
    with world.vault() as vault:
        state = vault.require()
        fallback = replace(world.real(NEW).sealed, fallback=True)
        state = replace(state, accepted=(*state.accepted, fallback))
        _, change = draft(vault)
        after = with_new_header(vault, state, change, running.policy, NOW)
    assert [each.fallback for each in after.staged] == [False, True]


def test_a_boot_of_another_disk_stays_as_it_is(world: LuksWorld) -> None:
    other = RealBoot("rescue", b"rescue", b"o" * 32, OTHER_UUID)
    running = world.real(OLD)
    with world.vault() as vault:
        state = vault.require()
        state = replace(state, staged=(other.sealed,))
        _, change = draft(vault)
        after = with_new_header(vault, state, change, running.policy, NOW)
    assert len(after.staged) == 2
    assert after.staged[0] == other.sealed


def test_a_draft_that_came_to_nothing_costs_no_place(world: LuksWorld) -> None:
    """Cut between staging and sealing: the boot with that header can never come."""
    running = world.real(OLD)
    with world.vault() as vault:
        vault.publish(before_install(vault, running), "stage")
        [lost] = vault.require().staged
        state = add_key(vault, running)
    assert len(state.staged) == 1
    assert lost.policy != state.staged[0].policy
    world.boot_real(OLD)
    assert world.text() == SECRET


def test_a_draft_that_came_to_nothing_is_taken_back_or_gives_way(
    world: LuksWorld,
) -> None:
    """Its header is not on the disk, so nothing is lost with the boots that have it."""
    running = world.real(OLD)
    with world.vault() as vault:
        drafted = vault.publish(before_install(vault, running), "stage")
        vault.settle()
        assert cancel(vault, drafted, running.policy).staged == ()
        again = vault.publish(before_install(vault, running), "stage")
        vault.settle()
        new = world.real(NEW).sealed
        assert stage(vault, again, running.policy, new).staged == (new,)
    world.boot_real(OLD)
    assert world.text() == SECRET


def test_more_boots_than_fit_with_both_headers_are_refused(world: LuksWorld) -> None:
    running = world.real(OLD)
    more = tuple(
        replace(running, name=f"Xen {number}", xen=b"xen %d" % number).sealed
        for number in range(4)
    )
    with world.vault() as vault:
        state = vault.require()
        state = replace(state, accepted=(*state.accepted, *more))
        _, change = draft(vault)
        with pytest.raises(VaultError, match="10 do not fit, 8 do"):
            with_new_header(vault, state, change, running.policy, NOW)
        fewer = replace(state, accepted=state.accepted[:4])
        with_new_header(vault, fewer, change, running.policy, NOW)


def test_a_header_that_this_boot_did_not_measure_is_refused(world: LuksWorld) -> None:
    running = world.real(OLD)
    world.disk.add(b"somebody's key")
    with world.vault() as vault:
        _, change = draft(vault)
        with pytest.raises(VaultError, match="not the one that this boot measured"):
            with_new_header(vault, vault.require(), change, running.policy, NOW)


@pytest.mark.parametrize("damage", ["another digest", "fewer PCRs", "another bank"])
def test_a_boot_whose_record_does_not_give_its_policy_is_refused(
    world: LuksWorld, damage: str
) -> None:
    """Else its twin would be staged for nothing, and the boot itself be blind."""
    running = world.real(OLD)
    measured = running.sealed.boot.measurements
    xen = next(each for each in measured if each.pcr == 18)
    others = tuple(each for each in measured if each is not xen)
    changed = {
        "another digest": (*others, replace(xen, digests=measured[0].digests)),
        "fewer PCRs": others,
        "another bank": (*others, replace(xen, digests={})),
    }[damage]
    with world.vault() as vault:
        state = vault.require()
        [boot] = state.accepted
        boot = replace(boot, boot=Baseline("", "tboot", "da", changed))
        _, change = draft(vault)
        with pytest.raises(PredictionError, match=f"on record of {boot.name} does not"):
            with_new_header(
                vault, replace(state, accepted=(boot,)), change, running.policy, NOW
            )


def test_boots_are_told_apart_by_their_headers(world: LuksWorld) -> None:
    old, new = world.real(OLD).sealed, world.real(NEW).sealed
    later = replace(world.real(OLD), luks=b"l" * 32).sealed
    other = replace(world.real(OLD), luks=b"l" * 32, uuid=OTHER_UUID).sealed
    assert differ_in_header_alone(old, later)
    assert not differ_in_header_alone(old, old)
    assert not differ_in_header_alone(new, later)
    assert not differ_in_header_alone(old, other)
    assert has_headers_of(old, new)
    assert not has_headers_of(old, later)
    assert has_headers_of(old, other)


def next_boot_that(standing: str, problem: PredictionError | None = None) -> NextBoot:
    nothing: Any = None
    return NextBoot(nothing, nothing, nothing, None, problem, standing, is_next=True)


def test_a_next_boot_that_is_not_shown_anything_is_none_to_start_from() -> None:
    require_shown_next(next_boot_that("accepted"))
    require_shown_next(next_boot_that("staged"))
    with pytest.raises(VaultError, match="not an accepted one"):
        require_shown_next(next_boot_that("retired"))
    with pytest.raises(PredictionError, match="PCR 18"):
        require_shown_next(next_boot_that("unknown", PredictionError("PCR 18 is new")))


# --- moves between the key and the reboot ---


def test_cancel_does_not_take_back_what_the_next_boot_needs(world: LuksWorld) -> None:
    running = world.real(OLD)
    state = key_added(world, running)
    with world.vault() as vault:
        with pytest.raises(VaultError, match="nothing is taken back") as told:
            cancel(vault, state, running.policy)
        assert "aemseal confirm" in (told.value.hint or "")
    world.boot_real(OLD)
    assert world.text() == SECRET


def test_an_update_before_the_reboot_keeps_the_boot_of_before(world: LuksWorld) -> None:
    running = world.real(OLD)
    key_added(world, running)
    with world.vault() as vault:
        update = world.real(NEW).sealed
        state = stage(vault, vault.require(), running.policy, update)
        assert len(state.staged) == 2
        state = cancel(vault, state, running.policy)
        assert len(state.staged) == 1, "the update alone is taken back"
        stage(vault, state, running.policy, update)
    for each in (OLD, NEW):
        world.boot_real(each)
        assert world.text() == SECRET, each.name
    with world.vault() as vault:
        state = confirm(vault, vault.require(), world.real(NEW).sealed).state
    assert [each.policy for each in state.accepted] == [world.real(NEW).policy]
    assert state.staged == ()


def test_a_waiting_update_waits_on_with_the_new_header_alone(world: LuksWorld) -> None:
    running = world.real(OLD)
    with world.vault() as vault:
        stage(vault, vault.require(), running.policy, world.real(NEW).sealed)
    key_added(world, running)
    new = world.boot_real(OLD)
    with world.vault() as vault:
        state = confirm(vault, vault.require(), new.sealed).state
    assert [each.policy for each in state.accepted] == [new.policy]
    assert [each.policy for each in state.staged] == [world.real(NEW).policy]


def test_a_boot_staged_for_an_older_header_goes_with_the_confirm(
    world: LuksWorld,
) -> None:
    """As after the first enrolment, where nothing is accepted yet."""
    old = world.real(OLD)
    key_added(world, old)
    new = world.boot_real(OLD)
    with world.vault() as vault:
        state = vault.require()
        state = replace(state, accepted=(), staged=(*state.accepted, *state.staged))
        state = confirm(vault, state, new.sealed).state
    assert [each.policy for each in state.accepted] == [new.policy]
    assert state.staged == ()


def fallback(boot: RealBoot, kernel: bytes) -> SealedBoot:
    """A fallback: the same launcher and Xen with another kernel."""
    measured = (
        *boot.sealed.boot.measurements,
        extend(18, SHA256.hash(kernel), Role.KERNEL, "/boot/vmlinuz-old"),
    )
    baseline = Baseline("older", "tboot", "da", measured)
    pcrs = dict(boot.pcrs)
    pcrs[18] = pcrs[18].extended(SHA256.hash(kernel))
    policy = policy_pcr(SELECTION, pcrs)
    return SealedBoot("fallback", NOW, policy, baseline, fallback=True)


def key_beside_fallbacks(world: LuksWorld) -> VaultState:
    """Add a key where one fallback is accepted and another one staged."""
    old = world.real(OLD)
    with world.vault() as vault:
        state = vault.require()
        state = replace(
            state,
            accepted=(*state.accepted, fallback(old, b"6.1")),
            staged=(fallback(old, b"6.6"),),
        )
        secret, change = draft(vault)
        state = with_new_header(vault, state, change, old.policy, NOW)
        state = vault.publish(state, "stage")
        return seal_beside(vault, state, secret, (change,))


NAMED = Circumstances(titles=frozenset({"older"}))


def test_fallbacks_go_on_with_the_new_header_alone(world: LuksWorld) -> None:
    key_beside_fallbacks(world)
    new = world.boot_real(OLD)
    with world.vault() as vault:
        state = confirm(vault, vault.require(), new.sealed, NAMED).state
    assert [each.policy for each in state.accepted] == [
        new.policy,
        fallback(new, b"6.1").policy,
        fallback(new, b"6.6").policy,
    ]
    assert [each.fallback for each in state.accepted] == [False, True, True]
    assert state.staged == ()


def test_a_fallback_that_runs_first_leaves_no_boot_of_the_old_header_either(
    world: LuksWorld,
) -> None:
    state = key_beside_fallbacks(world)
    new = world.real(OLD)
    running = fallback(new, b"6.1")
    with world.vault() as vault:
        state = confirm(vault, state, running, NAMED).state
    open_ = {each.policy for each in (*state.accepted, *state.staged)}
    assert open_ == {
        running.policy,
        new.policy,
        fallback(new, b"6.6").policy,
    }
