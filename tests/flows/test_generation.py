# SPDX-License-Identifier: GPL-2.0-or-later
"""A new generation: what it takes, what it takes down, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from anew import ANEW, CARRIED, recovered, shown, to_seal
from enrolling import file
from publishing import do_stage, unchanged_after
from vault_world import (
    EVIL,
    INTERNAL,
    NEW,
    NEWER,
    OLD,
    SECRET,
    STICK,
    World,
    called,
    enrolled,
)

from aemseal.flows.generation import (
    change_pin,
    require_settled,
    retired_by,
)
from aemseal.flows.journal import JOURNAL_FILE, Journal, Sealing
from aemseal.flows.moves import standing
from aemseal.flows.owner import LOCKOUT_FILE, NEXT_OWNER_FILE, OWNER_FILE
from aemseal.flows.provision import LOCKOUT, own_the_tpm
from aemseal.flows.publishing import kept_vault_file, key_file
from aemseal.flows.state import RETIRED_KEPT, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.slot import VAULT_FILE
from aemseal.words.errors import (
    NotAcceptedError,
    TpmChangedError,
    UsageError,
    VaultError,
)
from aemseal.world.config import Medium
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_lockout import LockoutSettings, lockout_state, set_lockout

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

THIRD = Medium("third", "/media/third/aemseal", carried=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine with two media, on which the old Xen is accepted and runs."""
    with enrolled(tmp_path, media=(INTERNAL, STICK)) as world:
        yield world


def with_new_pin(
    vault: Vault, running: bytes = OLD.policy, media: tuple[Medium, ...] = CARRIED
) -> VaultState:
    return change_pin(vault, vault.require(), running, to_seal(), media).state


def boots(state: VaultState) -> dict[str, str]:
    return {each.name: standing(state, each.policy) for each in (OLD, NEW, NEWER)}


def clear(world: World) -> None:
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, file(world, LOCKOUT_FILE))
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)


# --- which boots ---


def test_recover_accepts_the_running_boot_alone_and_retires_the_others(
    world: World,
) -> None:
    do_stage(world)
    world.boot(NEWER)
    with world.vault() as vault:
        state = recovered(vault).state
        assert vault.require() == state
    assert boots(state) == {
        OLD.name: "retired",
        NEW.name: "retired",
        NEWER.name: "accepted",
    }
    assert state.baseline == NEWER.sealed.boot
    assert shown(world) == shown(world, STICK) == {NEWER.name: ANEW}


def test_a_retired_boot_that_is_recovered_is_no_retired_one_any_more(
    world: World,
) -> None:
    for running in (NEWER, OLD):
        world.boot(running)
        with world.vault() as vault:
            state = recovered(vault, running).state
    assert boots(state)[OLD.name] == "accepted"
    assert boots(state)[NEWER.name] == "retired"
    assert world.opening_for_attacker() == called(OLD)


def test_no_more_retired_boots_are_kept_than_elsewhere(world: World) -> None:
    with world.vault() as vault:
        before = vault.require()
    many = tuple(
        replace(NEW.sealed, policy=number.to_bytes(32, "big"))
        for number in range(RETIRED_KEPT)
    )
    kept = retired_by(replace(before, retired=many), NEWER.policy)
    assert len(kept) == RETIRED_KEPT
    assert kept[-1].policy == OLD.policy


def test_another_pin_leaves_the_accepted_staged_and_retired_boots(
    world: World,
) -> None:
    do_stage(world)
    with world.vault() as vault:
        before = vault.require()
        state = with_new_pin(vault)
    for boot in (OLD, NEW):
        assert standing(state, boot.policy) == standing(before, boot.policy)
    assert shown(world) == {OLD.name: ANEW, NEW.name: ANEW}


# --- refused, and nothing written ---


def test_a_pin_is_changed_on_an_accepted_boot_alone(world: World) -> None:
    def on_evil(vault: Vault) -> None:
        with_new_pin(vault, EVIL.policy)

    unchanged_after(world, on_evil, NotAcceptedError)


def test_a_pin_is_not_changed_on_a_tpm_that_changed(world: World) -> None:
    clear(world)
    unchanged_after(world, with_new_pin, TpmChangedError)


def test_with_a_medium_absent_nothing_begins(world: World) -> None:
    def to_a_third(vault: Vault) -> None:
        with_new_pin(vault, media=(*CARRIED, THIRD))

    told = unchanged_after(world, to_a_third, VaultError)
    assert told.message == f"the medium third is not at hand: {THIRD.path}"


def test_without_the_pin_that_a_medium_calls_for_nothing_begins(world: World) -> None:
    def without(vault: Vault) -> None:
        with_new_pin(vault, media=(INTERNAL,))

    unchanged_after(world, without, UsageError)


# --- what goes, and what stays ---


def test_nothing_of_the_generation_before_is_left(world: World) -> None:
    with world.vault() as vault:
        before = vault.require()
        state = with_new_pin(vault)
        counters = vault.tpm.handles(NV_RANGE.start, len(NV_RANGE))
    assert (state.generation, before.generation) == (2, 1)
    assert counters == {state.counter} != {before.counter}
    names = {each.name for each in (world.root / "var/lib/aemseal").iterdir()}
    assert key_file(1).rpartition("/")[2] not in names
    assert key_file(2).rpartition("/")[2] in names


def test_a_medium_that_is_not_configured_any_more_is_cleared(world: World) -> None:
    with world.vault() as vault:
        state = with_new_pin(vault, media=CARRIED[:1])
    assert state.media == CARRIED[:1]
    assert not list(world.file("", STICK).iterdir())
    assert not (world.root / kept_vault_file("stick").lstrip("/")).exists()


def test_a_medium_with_another_label_keeps_what_was_just_sealed_to_it(
    world: World,
) -> None:
    renamed = replace(CARRIED[1], label="usb")
    with world.vault() as vault:
        with_new_pin(vault, media=(CARRIED[0], renamed))
    assert shown(world, renamed) == {OLD.name: ANEW}


def test_a_new_medium_is_sealed_to_with_the_others(world: World) -> None:
    (world.root / "media/third").mkdir()
    with world.vault() as vault:
        with_new_pin(vault, media=(*CARRIED, THIRD))
    for medium in (*CARRIED, THIRD):
        assert shown(world, medium) == {OLD.name: ANEW}


def test_the_next_initramfs_is_told_of_other_media(world: World) -> None:
    third = replace(THIRD, device="UUID=1234-ABCD")
    (world.root / "media/third").mkdir()
    with world.vault() as vault:
        before = vault.require()
        for media, must_build in ((CARRIED, False), ((*CARRIED, third), True)):
            done = change_pin(vault, before, OLD.policy, to_seal(), media)
            assert done.must_build is must_build
            before = done.state
    conf = file(world, "/var/lib/aemseal/hook/boot.conf")
    assert b"UUID=1234-ABCD" in conf


def test_what_locks_the_tpm_is_as_enrol_set_it(world: World) -> None:
    """Whoever had the lockout value may have had the TPM count nothing."""
    with world.vault() as vault:
        loose = LockoutSettings(2**31, 1, 1)
        set_lockout(vault.tpm, loose, file(world, LOCKOUT_FILE))
        with_new_pin(vault)
        assert lockout_state(vault.tpm).settings == LOCKOUT


def test_another_tools_owner_is_left_and_told(world: World) -> None:
    value = file(world, OWNER_FILE)
    with world.vault() as vault:
        done = recovered(vault, OLD, foreign_owner=value)
    assert done.left == ("the TPM's owner authorisation: another tool keeps it",)
    assert file(world, OWNER_FILE) == value
    assert shown(world) == {OLD.name: ANEW}


# --- a TPM that is not as we left it ---


def test_on_a_cleared_tpm_the_new_counter_stays_where_the_old_one_was(
    world: World,
) -> None:
    clear(world)
    world.boot(NEWER)
    with world.vault() as vault:
        before = vault.require()
        key = own_the_tpm(vault, None)
        state = replace(before, storage=key)
        vault.files.write("/var/lib/aemseal/state.json", state.to_bytes())
        after = recovered(vault).state
    assert after.counter == before.counter
    assert shown(world) == {NEWER.name: ANEW}


def test_an_owners_value_that_waits_is_known_where_the_storage_key_went(
    world: World,
) -> None:
    """The change was cut short; then somebody evicted the key by the old value."""
    new = b"the value that the TPM has by now"
    with world.vault() as vault:
        state = vault.require()
        with vault.owner_session(state) as session:
            vault.storage.evict(state.storage, session)
            vault.tpm.change_auth(Hierarchy.OWNER, new, session)
        vault.files.write(NEXT_OWNER_FILE, new)
        own_the_tpm(vault, None)
    assert file(world, OWNER_FILE) == new


# --- a journal that cannot be settled ---


def test_a_publish_whose_counter_went_elsewhere_is_no_hindrance(
    world: World,
) -> None:
    with world.vault() as vault:
        journal = Journal("stage", 7, 8, vault.require())
        vault.files.write(JOURNAL_FILE, journal.to_bytes())
        require_settled(vault)
        recovered(vault)
        assert vault.settle() is None
    assert shown(world) == {NEWER.name: ANEW}


def test_a_publish_on_a_cleared_tpm_is_no_hindrance(world: World) -> None:
    with world.vault() as vault:
        journal = Journal("stage", 1, 2, vault.require())
        vault.files.write(JOURNAL_FILE, journal.to_bytes())
    clear(world)
    with world.vault() as vault:
        require_settled(vault)


def test_a_publish_that_can_be_settled_is_not_forgotten(world: World) -> None:
    """A number that it signed for must not be signed for again (docs/adr/0005)."""
    with world.vault() as vault:
        state = vault.require()
        for before, after in ((state.count, state.count + 1), (0, state.count)):
            journal = Journal("stage", before, after, state)
            vault.files.write(JOURNAL_FILE, journal.to_bytes())
            with pytest.raises(VaultError, match="stage was cut short"):
                require_settled(vault)
        vault.files.write(JOURNAL_FILE, b"{}")
        with pytest.raises(VaultError, match="what was cut short is not known"):
            require_settled(vault)


def test_a_sealing_that_was_cut_short_is_settled_first(world: World) -> None:
    with world.vault() as vault:
        require_settled(vault)
        sealing = Sealing("enrol", vault.require(), is_new=True)
        vault.files.write(JOURNAL_FILE, sealing.to_bytes())
        with pytest.raises(VaultError, match="enrol was cut short") as told:
            require_settled(vault)
    assert "aemseal remove" in (told.value.hint or "")
    assert world.file(VAULT_FILE).exists()
    assert world.unseal() == SECRET
