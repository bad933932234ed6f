# SPDX-License-Identifier: GPL-2.0-or-later
"""A key of ours for a LUKS device: sealed, installed, and taken out again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from luks_disks import OTHER_UUID, PASSPHRASE, UUID, LuksDisk
from luks_world import (
    NOW,
    PIN,
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

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.keyfile import (
    draft_key_anew,
    forget_draft,
    kept_slot,
    remove_keys,
    require_shown_next,
    with_new_header,
)
from aemseal.flows.luks_boots import (
    differ_in_header_alone,
    has_headers_of,
    is_lost,
    lost_key,
)
from aemseal.flows.moves import Circumstances, cancel, confirm, stage
from aemseal.flows.reseal import NextBoot
from aemseal.flows.sealing import seal_beside, seal_generation
from aemseal.flows.secret import KEYFILE
from aemseal.flows.state import LuksSlot, SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.words.errors import AemsealError, PredictionError, UsageError, VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    with enrolled_on_luks(tmp_path) as world:
        yield world


def before_install(vault: Vault, running: Boot) -> VaultState:
    """Return the state with the boots staged, and the draft still a draft."""
    _, change = draft(vault)
    return with_new_header(vault, vault.require(), change, running.policy, NOW)


def names(boots: tuple[SealedBoot, ...]) -> list[str]:
    return [each.name for each in boots]


def state_files(world: LuksWorld) -> list[str]:
    folder = world.root / "var/lib/aemseal"
    return sorted(each.name for each in folder.iterdir())


# --- a key is added ---


def test_the_sealed_key_opens_the_disk_and_the_passphrase_still_does(
    world: LuksWorld,
) -> None:
    data = world.disk.data
    state = key_added(world, world.real(OLD))
    assert kept_slot(state) == LuksSlot(UUID, 1)
    assert lost_key(state) is None
    world.boot_real(OLD)
    key = world.key()
    assert key is not None
    assert len(key) == 64
    assert world.disk.opens(key)
    assert world.disk.opens(PASSPHRASE)
    assert world.disk.data == data
    assert world.text() == SECRET


def test_the_boot_with_the_new_header_was_staged(world: LuksWorld) -> None:
    old = world.real(OLD)
    state = key_added(world, old)
    new = world.boot_real(OLD)
    assert new.luks != old.luks
    assert [each.policy for each in state.accepted] == [old.policy]
    assert [each.policy for each in state.staged] == [new.policy]
    assert names(state.staged) == [f"{OLD.name} (2)"]
    with world.vault() as vault:
        done = confirm(vault, vault.require(), new.sealed)
    assert done.was_staged
    assert [each.policy for each in done.state.accepted] == [new.policy]


def test_after_the_confirm_the_old_header_opens_nothing(world: LuksWorld) -> None:
    """Who puts the old header back brings back every slot that was killed since."""
    old = world.real(OLD)
    key_added(world, old)
    new = world.boot_real(OLD)
    with world.vault() as vault:
        confirm(vault, vault.require(), new.sealed)
    world.boot(old)
    assert (world.text(), world.key()) == (None, None)


def test_no_draft_is_left_and_no_key_on_the_disk_of_ours(world: LuksWorld) -> None:
    key_added(world, world.real(OLD))
    assert not [each for each in state_files(world) if "luks" in each]
    world.boot_real(OLD)
    key = world.key()
    assert key
    for path in world.root.rglob("*"):
        if path.is_file():
            assert key[:16] not in path.read_bytes()
            assert key[:16].hex().encode() not in path.read_bytes()


def test_a_wrong_passphrase_leaves_nothing_behind(world: LuksWorld) -> None:
    before = world.fingerprint()
    with world.vault() as vault, pytest.raises(UsageError, match="passphrase does not"):
        draft(vault, b"wrong")
    assert world.fingerprint() == before


def test_a_second_keyfile_is_refused_and_its_draft_forgotten(world: LuksWorld) -> None:
    key_added(world, world.real(OLD))
    world.boot_real(OLD)
    with world.vault() as vault:
        secret, change = draft(vault)
        with pytest.raises(VaultError, match="a keyfile is sealed on this machine"):
            seal_beside(vault, vault.require(), secret, (change,))
        forget_draft(vault, UUID)
    assert not [each for each in state_files(world) if "luks" in each]


def test_a_promised_draft_is_not_forgotten(world: LuksWorld) -> None:
    with world.vault() as vault:
        draft(vault)
        vault.files.write(JOURNAL_FILE, b"{}")
        forget_draft(vault, UUID)
        assert vault.files.read(vault.headers.draft_file(UUID)) is not None


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


def test_fallbacks_go_on_with_the_new_header_alone(world: LuksWorld) -> None:
    """A fallback is the same launcher and Xen, here with another kernel."""

    def fallback(boot: RealBoot, kernel: bytes) -> SealedBoot:
        measured = (
            *boot.sealed.boot.measurements,
            extend(18, SHA256.hash(kernel), Role.KERNEL, "/boot/vmlinuz-old"),
        )
        baseline = Baseline("older", "tboot", "da", measured)
        pcrs = dict(boot.pcrs)
        pcrs[18] = pcrs[18].extended(SHA256.hash(kernel))
        policy = policy_pcr(SELECTION, pcrs)
        return SealedBoot("fallback", NOW, policy, baseline, fallback=True)

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
        seal_beside(vault, state, secret, (change,))
    new = world.boot_real(OLD)
    about = Circumstances(titles=frozenset({"older"}))
    with world.vault() as vault:
        state = confirm(vault, vault.require(), new.sealed, about).state
    assert [each.policy for each in state.accepted] == [
        new.policy,
        fallback(new, b"6.1").policy,
        fallback(new, b"6.6").policy,
    ]
    assert [each.fallback for each in state.accepted] == [False, True, True]
    assert state.staged == ()


# --- the header changed meanwhile ---


def test_a_header_changed_before_it_is_installed_is_kept_and_told(
    world: LuksWorld,
) -> None:
    running = world.real(OLD)
    with world.vault() as vault:
        secret, change = draft(vault)
        state = with_new_header(vault, vault.require(), change, running.policy, NOW)
        state = vault.publish(state, "stage")
        world.disk.add(b"somebody's key")
        state = seal_beside(vault, state, secret, (change,))
        assert vault.settle() is None
        assert vault.require() == state
    assert world.disk.opens(b"somebody's key")
    [keyfile] = [each for each in state.secrets if each.kind == KEYFILE]
    assert is_lost(keyfile)
    lost = lost_key(state)
    assert lost is not None
    assert "opens no disk" in lost.message
    assert "aemseal enrol keyfile" in (lost.hint or "")
    assert not [each for each in state_files(world) if "luks" in each]


def test_a_lost_keyfile_gives_way_to_a_new_one(world: LuksWorld) -> None:
    test_a_header_changed_before_it_is_installed_is_kept_and_told(world)
    running = world.real(OLD)
    with world.vault() as vault:
        stage(vault, vault.require(), world_policy(vault), running.sealed)
    world.boot(running)
    with world.vault() as vault:
        confirm(vault, vault.require(), running.sealed)
        state = add_key(vault, running)
    assert lost_key(state) is None
    assert [each.kind for each in state.secrets] == ["text", KEYFILE]
    world.boot_real(OLD)
    key = world.key()
    assert key
    assert world.disk.opens(key)
    assert world.disk.opens(b"somebody's key")


def world_policy(vault: Vault) -> bytes:
    return vault.require().accepted[0].policy


def test_an_absent_device_is_waited_for(world: LuksWorld) -> None:
    running = world.real(OLD)
    aside = world.folder / "aside"
    with world.vault() as vault:
        secret, change = draft(vault)
        state = with_new_header(vault, vault.require(), change, running.policy, NOW)
        state = vault.publish(state, "stage")
        world.disk.path.rename(aside)
        with pytest.raises(VaultError, match="is not at hand"):
            seal_beside(vault, state, secret, (change,))
        with pytest.raises(VaultError, match="is not at hand"):
            vault.settle()
        aside.rename(world.disk.path)
        assert vault.settle() == "enrol was cut short: finished it"
    world.boot_real(OLD)
    key = world.key()
    assert key
    assert world.disk.opens(key)


# --- a new generation, and the end ---


def test_a_new_generation_puts_a_new_key_in_the_place_of_the_old(
    world: LuksWorld,
) -> None:
    key_added(world, world.real(OLD))
    running = world.boot_real(OLD)
    old_key = world.key()
    with world.vault() as vault:
        confirm(vault, vault.require(), running.sealed)
        before = vault.require()
        secret, change = draft_key_anew(vault, before, PASSPHRASE, PIN)
        state = with_new_header(vault, before, change, running.policy, NOW)
        state = replace(state, generation=2, counter=before.counter + 1)
        seal_generation(
            vault, state, (secret,), "pin", before=before, headers=(change,)
        )
    world.boot_real(OLD)
    key = world.key()
    assert key
    assert old_key
    assert world.disk.opens(key)
    assert not world.disk.opens(old_key)
    assert world.disk.slots == [0, 1]


def test_no_key_is_drafted_anew_where_none_is_sealed(world: LuksWorld) -> None:
    with world.vault() as vault, pytest.raises(VaultError, match="no key of a LUKS"):
        draft_key_anew(vault, vault.require(), PASSPHRASE, PIN)


def test_removing_kills_our_slot_and_no_other(world: LuksWorld) -> None:
    state = key_added(world, world.real(OLD))
    world.boot_real(OLD)
    key = world.key()
    assert key
    world.disk.add(b"somebody's key")
    with world.vault() as vault:
        assert remove_keys(vault, [state, state]) == []
        assert remove_keys(vault, [state]) == [], "and again"
    assert not world.disk.opens(key)
    assert world.disk.opens(b"somebody's key")
    assert world.disk.opens(PASSPHRASE)


def test_removing_goes_on_without_the_device(world: LuksWorld) -> None:
    state = key_added(world, world.real(OLD))
    world.disk.path.unlink()
    with world.vault() as vault:
        vault.files.write(vault.headers.draft_file(UUID), b"left by a cut")
        [left] = remove_keys(vault, [state])
    assert left.startswith(f"the key in slot 1 of the LUKS device {UUID}")
    assert "is not at hand" in left
    assert not [each for each in state_files(world) if "luks" in each]


def test_removing_where_no_keyfile_is_sealed_touches_no_device(
    world: LuksWorld,
) -> None:
    before = world.disk.path.read_bytes()
    with world.vault() as vault:
        assert remove_keys(vault, [vault.require()]) == []
    assert world.disk.path.read_bytes() == before


def test_no_value_is_in_the_journal_or_the_state(world: LuksWorld) -> None:
    with world.vault() as vault:
        secret, _ = draft(vault)
        assert secret.secret.value.hex() not in repr(secret)
        assert secret.kept.disk == LuksSlot(UUID, 1)
    key_added(world, world.real(OLD))
    told = (world.root / "var/lib/aemseal/state.json").read_text()
    [kept] = [each for each in json.loads(told)["secrets"] if each["kind"] == KEYFILE]
    assert kept == {
        "name": "keyfile",
        "kind": "keyfile",
        "pin": True,
        "disk": {"uuid": UUID, "slot": 1},
    }


def test_a_disk_that_is_full_leaves_no_draft(world: LuksWorld) -> None:
    for number in range(3):
        world.disk.add(b"key %d" % number)
    before = world.fingerprint()
    with world.vault() as vault, pytest.raises(AemsealError, match="No space"):
        draft(vault)
    assert world.fingerprint() == before
    assert LuksDisk(world.root).slots == [0, 1, 2, 3]
