# SPDX-License-Identifier: GPL-2.0-or-later
"""publish: what it refuses, what it leaves on each medium, and what the bus carries."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import Attacker
from publishing import count_on, do_stage, file, publish_again, unchanged_after
from unsealer import NoAcceptanceError, connected
from vault_world import (
    INTERNAL,
    NEW,
    NEWER,
    OLD,
    SECRET,
    STICK,
    Boot,
    Wire,
    World,
    called,
    enrol,
    enrolled,
)

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.flows.publishing import key_file
from aemseal.flows.state import STATE_FILE
from aemseal.flows.vault import Vault
from aemseal.words.errors import TpmChangedError, VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there on two media."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        yield world


# --- loading ---


def test_where_nothing_was_enrolled_there_is_no_state(tmp_path: Path) -> None:
    with World(tmp_path) as world, world.vault() as vault:
        assert vault.load() is None
        assert vault.settle() is None
        with pytest.raises(VaultError, match="nothing is sealed") as told:
            vault.require()
    assert told.value.hint == "start with: aemseal enrol text"


def test_the_state_kept_is_the_state_returned(world: World) -> None:
    state = do_stage(world)
    with world.vault() as vault:
        assert vault.load() == vault.require() == state
        assert vault.count_now(state) == state.count


# --- files ---


def test_no_file_holds_the_secret_and_only_the_owners_files_hold_its_values(
    world: World,
) -> None:
    do_stage(world)
    values = [file(world, path).read_bytes() for path in (OWNER_FILE, LOCKOUT_FILE)]
    for each in world.root.rglob("*"):
        if each.is_file():
            assert SECRET not in each.read_bytes()
            if each.suffix != ".auth":
                assert not any(value in each.read_bytes() for value in values)


def test_what_signs_and_owns_is_roots_alone(world: World) -> None:
    for path in (OWNER_FILE, LOCKOUT_FILE, key_file(1), STATE_FILE):
        assert stat.S_IMODE(file(world, path).stat().st_mode) == 0o600


def test_a_medium_holds_the_vault_and_the_one_acceptance_in_force(
    world: World,
) -> None:
    count = do_stage(world).count
    for medium in (INTERNAL, STICK):
        found = sorted(each.name for each in world.file("", medium).iterdir())
        assert found == [f"acceptance.{count}", "vault"]


# --- media ---


def test_each_medium_opens_by_its_own_files(world: World) -> None:
    do_stage(world)
    for medium in (INTERNAL, STICK):
        assert world.opening(medium) == called(OLD, NEW)


def test_a_medium_that_was_absent_is_stale_by_name_until_it_is_refreshed(
    world: World,
) -> None:
    folder = world.file("", STICK)
    folder.rename(world.folder / "in a drawer")
    state = do_stage(world)
    assert state.stale == (STICK.label,)
    (world.folder / "in a drawer").rename(folder)
    assert world.opening(INTERNAL) == called(OLD, NEW)
    world.launch(OLD)
    with pytest.raises(NoAcceptanceError):
        world.unseal(STICK)
    state = do_stage(world, NEWER)
    assert state.stale == ()
    assert world.opening(STICK) == called(OLD, NEWER)


def test_without_any_medium_nothing_is_signed_or_counted(world: World) -> None:
    for medium in (INTERNAL, STICK):
        shutil.rmtree(world.file("", medium))
    with world.vault() as vault:
        state = vault.require()
        with pytest.raises(VaultError, match=r"no medium is at hand \(internal, stick"):
            stage(vault, state, OLD.policy, NEW.sealed)
        assert vault.count_now(state) == state.count
    assert not file(world, JOURNAL_FILE).exists()


# --- what publish refuses before it writes ---


@pytest.mark.parametrize("number", [0, 9])
def test_one_to_eight_boots_are_accepted(world: World, number: int) -> None:
    boots = tuple(Boot(f"b{each}", b"%d" % each).sealed for each in range(number))
    told = unchanged_after(
        world,
        lambda vault: vault.publish(replace(vault.require(), accepted=boots), "test"),
        VaultError,
    )
    assert told.message == f"{number} boots cannot be accepted: 1 to 8"


def test_eight_boots_are(world: World) -> None:
    boots = tuple(Boot(f"b{each}", b"%d" % each).sealed for each in range(7))
    with world.vault() as vault:
        state = vault.require()
        vault.publish(replace(state, accepted=(*state.accepted, *boots)), "test")
    assert world.opens(OLD)
    assert world.opens(Boot("b6", b"6"))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (key_file(1), "key-1.pem is missing: nothing can be signed"),
        (OWNER_FILE, "owner.auth is missing"),
    ],
)
def test_without_the_key_or_the_owners_value_nothing_moves(
    world: World, path: str, complaint: str
) -> None:
    file(world, path).unlink()
    told = unchanged_after(world, publish_again, VaultError)
    assert complaint in told.message


def test_with_a_damaged_key_nothing_moves(world: World) -> None:
    file(world, key_file(1)).write_bytes(b"-----BEGIN")
    told = unchanged_after(world, publish_again, VaultError)
    assert "the signing key's file is damaged" in told.message


def test_with_a_wrong_owners_value_nothing_is_counted(world: World) -> None:
    file(world, OWNER_FILE).write_bytes(b"a guess")
    told = unchanged_after(world, publish_again, VaultError)
    assert "owner authorisation is not the one in" in told.message
    assert OWNER_FILE in told.message
    assert world.opening() == called(OLD)


def test_a_storage_key_that_is_gone_stops_every_move(world: World) -> None:
    owner = file(world, OWNER_FILE).read_bytes()
    with connected(world.chip.tcti) as esapi:
        Attacker(esapi, owner).clear_persistent(0x81000001)
    told = unchanged_after(world, publish_again, TpmChangedError)
    assert "storage key" in told.message


def test_a_counter_that_is_gone_stops_every_move(world: World) -> None:
    owner = file(world, OWNER_FILE).read_bytes()
    with connected(world.chip.tcti) as esapi:
        Attacker(esapi, owner).undefine(0x01A10AE0)
    told = unchanged_after(world, publish_again, TpmChangedError)
    assert "counter at 0x01a10ae0 is gone" in told.message


def test_once_somebody_counted_on_the_vault_is_shut_for_good(world: World) -> None:
    count_on(world)
    assert world.opening() == set()
    told = unchanged_after(world, publish_again, VaultError)
    assert told.message.startswith("the vault is shut: the TPM's counter is 2, ours")


def test_an_older_copy_of_the_disk_signs_for_no_retired_boot(world: World) -> None:
    """The old root still calls the old Xen accepted; the counter knows better."""
    do_stage(world)
    old_root = world.folder / "older copy"
    shutil.copytree(file(world, "/var/lib/aemseal"), old_root)
    with world.vault() as vault:
        confirm(vault, vault.require(), NEW.sealed)
    shutil.rmtree(file(world, "/var/lib/aemseal"))
    shutil.copytree(old_root, file(world, "/var/lib/aemseal"))
    for attempt in (
        lambda vault: stage(vault, vault.require(), NEW.policy, NEWER.sealed),
        lambda vault: confirm(vault, vault.require(), NEW.sealed),
        lambda vault: cancel(vault, vault.require(), OLD.policy),
    ):
        told = unchanged_after(world, attempt, VaultError)
        assert "this disk is an older copy" in (told.hint or "")
    assert world.opening_for_attacker() == called(NEW)


def test_a_counter_behind_ours_is_another_tpms(world: World) -> None:
    def attempt(vault: Vault) -> object:
        state = vault.require()
        return vault.publish(replace(state, count=state.count + 5), "test")

    told = unchanged_after(world, attempt, TpmChangedError)
    assert "and was 6 before" in told.message


# --- the bus ---


def test_no_move_puts_a_secret_or_an_authorisation_on_the_bus(world: World) -> None:
    wire = Wire(world.chip.tcti)
    with world.vault(wire=wire) as vault:
        stage(vault, vault.require(), OLD.policy, NEW.sealed)
        cancel(vault, vault.require(), OLD.policy)
        stage(vault, vault.require(), OLD.policy, NEW.sealed)
        confirm(vault, vault.require(), NEW.sealed)
        vault.count_now(vault.require())
    assert len(wire.heard) > 60
    for path in (OWNER_FILE, LOCKOUT_FILE):
        value = file(world, path).read_bytes()
        assert not wire.tells(value)
        assert not wire.tells(bytes.fromhex(value.decode()))
    assert not wire.tells(SECRET)
    assert not wire.tells(file(world, key_file(1)).read_bytes()[40:-40], window=8)


def test_enrolling_puts_no_secret_or_authorisation_on_the_bus(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        wire = Wire(world.chip.tcti)
        with world.vault(wire=wire) as vault:
            enrol(vault, OLD, secret=SECRET * 6)
        assert len(wire.heard) > 60
        assert not wire.tells(SECRET)
        for path in (OWNER_FILE, LOCKOUT_FILE):
            assert not wire.tells(file(world, path).read_bytes())
