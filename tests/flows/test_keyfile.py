# SPDX-License-Identifier: GPL-2.0-or-later
"""A key of ours for a LUKS device: sealed, installed, and taken out again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from luks_disks import PASSPHRASE, UUID, LuksDisk
from luks_world import (
    NOW,
    PIN,
    LuksWorld,
    add_key,
    draft,
    enrolled_on_luks,
    key_added,
)
from vault_world import OLD, SECRET

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.keyfile import (
    draft_key_anew,
    forget_draft,
    kept_slot,
    remove_keys,
    with_new_header,
)
from aemseal.flows.luks_boots import (
    is_lost,
    lost_key,
)
from aemseal.flows.moves import confirm, stage
from aemseal.flows.sealing import seal_beside, seal_generation
from aemseal.flows.secret import KEYFILE
from aemseal.flows.state import LuksSlot
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, UsageError, VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    with enrolled_on_luks(tmp_path) as world:
        yield world


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
    assert [each.name for each in state.staged] == [f"{OLD.name} (2)"]
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
