# SPDX-License-Identifier: GPL-2.0-or-later
"""publish and settle: what they refuse, what they leave, and whom they tell."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import Attacker
from hypothesis import given
from hypothesis import strategies as st
from power_cuts import PowerCut, PowerCutError
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
    enrol,
)

from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.flows.vault import (
    JOURNAL_FILE,
    LOCKOUT_FILE,
    OWNER_FILE,
    Journal,
    Vault,
    key_file,
)
from aemseal.words.errors import AemsealError, TpmChangedError, VaultError
from aemseal.world.seam import Seam
from aemseal.world.tpm import Hierarchy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there on two media."""
    with World(tmp_path) as world:
        world.boot(OLD)
        world.enrol(OLD, media=(INTERNAL, STICK))
        yield world


def called(*boots: Boot) -> set[str]:
    return {boot.name for boot in boots}


def do_stage(world: World, following: Boot = NEW) -> VaultState:
    with world.vault() as vault:
        return stage(vault, vault.require(), OLD.policy, following.sealed)


def file(world: World, path: str) -> Path:
    return world.root / path.lstrip("/")


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


def unchanged_after(
    world: World, attempt: Callable[[Vault], object], error: type[AemsealError]
) -> AemsealError:
    """Run an attempt that is refused; nothing durable may have changed by it."""
    before = world.fingerprint()
    with world.vault() as vault, pytest.raises(error) as told:
        attempt(vault)
    assert world.fingerprint() == before
    return told.value


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


def publish_again(vault: Vault) -> object:
    return vault.publish(vault.require(), "test")


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


def count_on(world: World) -> None:
    owner = file(world, OWNER_FILE).read_bytes()
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi, owner)
        attacker.increment(attacker.index(0x01A10AE0))


def test_once_somebody_counted_on_the_vault_is_shut_for_good(world: World) -> None:
    count_on(world)
    assert world.opening() == set()
    told = unchanged_after(world, publish_again, VaultError)
    assert told.message.startswith("the vault is shut: the TPM's counter is 3, ours")


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
    assert "and was 7 before" in told.message


# --- the journal ---


def cut_before_count(world: World) -> None:
    """Leave a stage half done, with its acceptance written and nothing counted."""

    class AtCount(PowerCut):
        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            if what == "NV_Increment":
                self.at = len(self.steps)
            with super().step(what):
                yield

    with pytest.raises(PowerCutError), world.vault(AtCount()) as vault:
        stage(vault, vault.require(), OLD.policy, NEW.sealed)
    world.boot(OLD)


def test_no_move_is_made_over_one_that_was_cut_short(world: World) -> None:
    cut_before_count(world)
    told = unchanged_after(world, publish_again, VaultError)
    assert told.message == "an earlier move was cut short"


def test_settling_says_what_was_undone_and_goes_past_its_number(world: World) -> None:
    cut_before_count(world)
    with world.vault() as vault:
        before = vault.require()
        assert vault.settle() == "stage was cut short: undid it"
        after = vault.require()
        assert vault.settle() is None
    assert after == replace(before, count=before.count + 2)
    assert world.opening() == world.opening_for_attacker() == called(OLD)


def test_undoing_makes_an_absent_medium_stale(world: World) -> None:
    cut_before_count(world)
    folder = world.file("", STICK)
    folder.rename(world.folder / "in a drawer")
    with world.vault() as vault:
        vault.settle()
        assert vault.require().stale == (STICK.label,)
    (world.folder / "in a drawer").rename(folder)
    world.look()
    assert world.opening_for_attacker() == called(OLD)


def test_settling_waits_for_a_medium(world: World) -> None:
    cut_before_count(world)
    kept = world.folder / "kept"
    world.file("").rename(kept)
    shutil.rmtree(world.file("", STICK))
    told = unchanged_after(world, Vault.settle, VaultError)
    assert "no medium is at hand" in told.message
    kept.rename(world.file(""))
    with world.vault() as vault:
        assert vault.settle() == "stage was cut short: undid it"


def test_a_counter_that_went_elsewhere_is_not_settled(world: World) -> None:
    cut_before_count(world)
    count_on(world)
    count_on(world)
    told = unchanged_after(world, Vault.settle, VaultError)
    assert told.message.startswith("the vault is shut")


def test_a_tpm_that_was_cleared_is_not_settled(world: World) -> None:
    cut_before_count(world)
    lockout = file(world, LOCKOUT_FILE).read_bytes()
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, lockout)
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)
    unchanged_after(world, Vault.settle, TpmChangedError)


def test_a_count_by_somebody_else_in_the_middle_is_noticed(world: World) -> None:
    class Counting(Seam):
        vault: Vault | None = None

        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            yield
            if what == "NV_Increment" and self.vault is not None:
                vault, self.vault = self.vault, None
                with vault.owner_session(vault.require()) as session:
                    vault.tpm.increment(0x01A10AE0, session)

    seam = Counting()
    with world.vault(seam) as vault:
        seam.vault = vault
        with pytest.raises(TpmChangedError, match="went from 2 to 4 instead of 3"):
            publish_again(vault)
    assert world.opening() == set()


def test_what_cannot_be_removed_from_a_medium_does_not_stop_a_move(
    world: World,
) -> None:
    world.file("acceptance.0").mkdir()
    state = do_stage(world)
    assert not file(world, JOURNAL_FILE).exists()
    assert not world.file(f"acceptance.{state.count - 1}", STICK).exists()
    world.file("acceptance.0").rmdir()
    assert world.opening() == called(OLD, NEW)


def test_a_fifo_where_the_acceptance_goes_does_not_stop_a_move(world: World) -> None:
    os.mkfifo(world.file(".acceptance.3.new"))
    os.mkfifo(world.file("acceptance.3"))
    do_stage(world)
    assert world.opening() == called(OLD, NEW)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    with World(tmp_path_factory.mktemp("journal")) as world:
        world.boot(OLD)
        state = world.enrol(OLD)
    return Journal("stage", 2, 3, state, enrolling=False)


def test_a_journal_comes_back_as_it_was_written(journal: Journal) -> None:
    assert Journal.parse(journal.to_bytes()) == journal
    enrolling = replace(journal, enrolling=True, after=0)
    assert Journal.parse(enrolling.to_bytes()) == enrolling


@pytest.mark.parametrize("field", ["move", "before", "after", "state", "enrolling"])
def test_a_journal_without_a_field_is_damaged(journal: Journal, field: str) -> None:
    fields = json.loads(journal.to_bytes())
    del fields[field]
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        Journal.parse(json.dumps(fields).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
def test_a_journal_with_any_field_changed_is_read_or_damaged(
    journal: Journal, data: st.DataObject
) -> None:
    fields = json.loads(journal.to_bytes())
    place = fields
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(JSON)
    try:
        Journal.parse(json.dumps(fields).encode())
    except VaultError as refused:
        assert "damaged" in refused.message  # noqa: PT017 - it may also be read


@given(st.binary(max_size=60))
def test_any_bytes_are_a_damaged_journal(data: bytes) -> None:
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        Journal.parse(data)


def test_a_journal_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        Journal.parse(b"[" * 100_000)


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
