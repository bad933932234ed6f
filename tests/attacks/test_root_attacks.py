# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the encrypted root from below, and with what was once taken from it.

An encrypted disk without integrity lets whoever holds it put old sectors back, one
file at a time; and code that ran on the decrypted root may hold the old key for ever.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import COUNTER_LIKE_OURS, Attacker
from unsealer import RefusedError, connected
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
    enrol,
)
from victim import COUNTER, attacking, in_force, unsealing, victim

from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.owner import OWNER_FILE
from aemseal.flows.publishing import kept_vault_file, key_file
from aemseal.flows.sealing import ToSeal, seal_generation
from aemseal.flows.secret import Secret
from aemseal.flows.vault import Vault
from aemseal.formats.slot import Acceptance, AcceptedBranch, VaultFile, approved_policy
from aemseal.formats.tpm_policy import approval_digest, counter_name
from aemseal.words.errors import AemsealError, NotAcceptedError, VaultError
from aemseal.world.seam import Seam
from aemseal.world.signing import SigningKey
from aemseal.world.tpm import NV_RANGE, TpmRefusedError

pytestmark = pytest.mark.tpm

ROOT = "/var/lib/aemseal"
NEW_SECRET = b"another secret, made after the blind boot"


def folder(world: World) -> Path:
    return world.root / ROOT.lstrip("/")


class Sectors:
    """Every version that a file of the encrypted root ever had."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.versions: dict[Path, set[bytes]] = {}
        self.media: dict[str, set[bytes]] = {}

    def look(self) -> None:
        for each in folder(self.world).rglob("*"):
            if each.is_file():
                self.versions.setdefault(each, set()).add(each.read_bytes())


class Looking(Seam):
    """Copies the root at every effect: also journals are caught in flight."""

    def __init__(self, sectors: Sectors) -> None:
        self.sectors = sectors

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        yield
        self.sectors.look()


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[World, Sectors]]:
    """A life with every kind of file in it; the old Xen is retired since."""
    with World(tmp_path_factory.mktemp("lived")) as world:
        sectors = Sectors(world)
        seam = Looking(sectors)
        world.boot(OLD)
        world.enrol(OLD, media=(INTERNAL, STICK), seam=seam)
        with world.vault(seam) as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault(seam) as vault:
            confirm(vault, vault.require(), NEW.sealed)
            stage(vault, vault.require(), NEW.policy, NEWER.sealed)
            cancel(vault, vault.require(), NEW.policy)
        sectors.look()
        sectors.media = dict(world.seen)
        world.snapshot("now")
        yield world, sectors


def moves(vault: Vault) -> list[Callable[[], object]]:
    """What a person may do on the accepted boot, after a boot settled the journal."""
    return [
        vault.settle,
        lambda: cancel(vault, vault.require(), NEW.policy),
        lambda: stage(vault, vault.require(), NEW.policy, NEWER.sealed),
        lambda: confirm(vault, vault.require(), NEW.sealed),
        lambda: vault.publish(vault.require(), "refresh"),
    ]


def test_a_root_with_one_file_put_back_accepts_no_retired_boot(
    lived: tuple[World, Sectors],
) -> None:
    world, sectors = lived
    tried = 0
    for path, versions in sectors.versions.items():
        now = path.read_bytes() if path.exists() else b""
        for old in versions - {now}:
            world.restore("now")
            world.seen = {each: set(data) for each, data in sectors.media.items()}
            world.boot(NEW)
            path.write_bytes(old)
            with world.vault() as vault:
                for move in moves(vault):
                    with suppress(AemsealError):
                        move()
            assert world.opening_for_attacker() <= called(NEW, NEWER), path
            tried += 1
    assert tried >= 12
    assert {path.name for path in sectors.versions} >= {
        *("state.json", "journal.json", "owner.auth", "key-1.pem", "vault-internal"),
    }


def test_an_older_copy_of_the_whole_disk_accepts_no_retired_boot(
    tmp_path: Path,
) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        world.enrol(OLD)
        shutil.copytree(world.root, tmp_path / "older")
        with world.vault() as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
            confirm(vault, vault.require(), NEW.sealed)
        shutil.rmtree(world.root)
        shutil.copytree(tmp_path / "older", world.root)
        with world.vault() as vault:
            for move in moves(vault)[1:]:
                with pytest.raises((VaultError, NotAcceptedError)):
                    move()
        assert world.opening_for_attacker() == called(NEW)


def test_a_kept_copy_put_in_place_of_ours_opens_for_nobody(tmp_path: Path) -> None:
    """The next move puts it on the medium: its key is theirs, its objects are not."""
    with victim(tmp_path) as world:
        theirs = SigningKey.generate()
        vault, _ = in_force(world)
        planted = replace(vault, key=theirs.public).to_bytes()
        (world.root / kept_vault_file("internal").lstrip("/")).write_bytes(planted)
        with world.vault() as vault_now:
            vault_now.publish(vault_now.require(), "refresh")
        changed, now = in_force(world)
        assert changed.key == theirs.public
        forged = forge(changed, now, theirs)
        world.boot(EVIL)
        assert refused(world, changed, forged)
        assert world.opening_for_attacker() <= called(NEW)


def forge(vault: VaultFile, now: Acceptance, key: SigningKey) -> Acceptance:
    """Accept the evil boot with this key for the number in force."""
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    signature = key.sign(approval_digest(policy, vault.policy_ref))
    return replace(
        now,
        generation=vault.generation,
        branches=branches,
        policy=policy,
        signature=signature,
    )


def refused(world: World, vault: VaultFile, acceptance: Acceptance) -> bool:
    with unsealing(world, vault=vault, acceptance=acceptance) as hook:
        try:
            hook.secret()
        except RefusedError:
            return True
    return False


# --- an index between looking for a free one and defining it ---


class PlantsAnIndex(Seam):
    """Somebody defines the index that was free, just before we do."""

    def __init__(self, world: World) -> None:
        self.world = world

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if what == "NV_DefineSpace":
            value = (self.world.root / OWNER_FILE.lstrip("/")).read_bytes()
            with connected(self.world.chip.tcti) as esapi:
                attacker = Attacker(esapi, value)
                index = attacker.define(COUNTER, COUNTER_LIKE_OURS)
                attacker.increment(index)
        yield


def test_an_index_planted_between_the_look_and_the_definition_is_not_taken(
    tmp_path: Path,
) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        with (
            world.vault(PlantsAnIndex(world)) as vault,
            pytest.raises(TpmRefusedError) as told,
        ):
            enrol(vault, OLD)
        assert told.value.code == 0x14C  # TPM_RC_NV_DEFINED
        assert not any(world.file("").iterdir())
        with world.vault() as vault:
            assert vault.settle() == "enrol was cut short: undid it"
            assert vault.load() is None
            enrol(vault, OLD)
        assert world.opening_for_attacker() == called(OLD)


# --- recover: the old key is known ---


def recovered(world: World) -> World:
    """A new generation: another key, counter and secret; the old ones are known."""
    with world.vault() as vault:
        before = vault.require()
        used = vault.tpm.handles(NV_RANGE.start, len(NV_RANGE))
        counter = next(each for each in NV_RANGE if each not in used)
        state = replace(before, generation=2, counter=counter, staged=())
        secret = ToSeal(Secret("text", "text", NEW_SECRET))
        seal_generation(vault, state, [secret], "recover", before=before)
    return world


def secret_of(world: World, vault: VaultFile, acceptance: Acceptance) -> bytes:
    with unsealing(world, vault=vault, acceptance=acceptance) as hook:
        try:
            return hook.secret()
        except RefusedError:
            return b""


def test_after_a_recover_the_old_key_opens_nothing(tmp_path: Path) -> None:
    with victim(tmp_path) as world:
        old_key = SigningKey.load((world.root / key_file(1).lstrip("/")).read_bytes())
        old_vault, old_now = in_force(world)
        recovered(world)
        new_vault, new_now = in_force(world)
        assert not (world.root / key_file(1).lstrip("/")).exists()
        world.boot(NEW)
        assert secret_of(world, new_vault, new_now) == NEW_SECRET
        world.boot(EVIL)
        as_theirs = replace(new_vault, key=old_key.public)
        for vault, now in (
            (new_vault, new_now),
            (as_theirs, new_now),
            (old_vault, old_now),
            (old_vault, new_now),
        ):
            assert secret_of(world, vault, forge(vault, now, old_key)) == b""


def test_with_the_old_key_and_the_owners_value_only_the_old_secret_is_lost(
    tmp_path: Path,
) -> None:
    """Why nothing is reused: the old counter can be made again, and counts on.

    The new secret stays where the old key does not sign.
    """
    with victim(tmp_path) as world:
        value = (world.root / OWNER_FILE.lstrip("/")).read_bytes()
        old_key = SigningKey.load((world.root / key_file(1).lstrip("/")).read_bytes())
        old_vault, old_now = in_force(world)
        recovered(world)
        new_vault, new_now = in_force(world)
        with attacking(world) as attacker:
            owner = Attacker(attacker.esapi, value)
            index = owner.define(old_vault.counter, COUNTER_LIKE_OURS)
            owner.increment(index)
            count = owner.read(index)
        assert count >= new_now.count
        world.boot(EVIL)
        old_again = forge(old_vault, replace(old_now, count=count), old_key)
        assert secret_of(world, old_vault, old_again) == SECRET
        for vault in (new_vault, replace(new_vault, key=old_key.public)):
            forged = forge(vault, new_now, old_key)
            assert secret_of(world, vault, forged) == b""


def test_a_kept_copy_of_the_generation_before_opens_no_retired_boot(
    tmp_path: Path,
) -> None:
    with victim(tmp_path) as world:
        path = world.root / kept_vault_file("internal").lstrip("/")
        older = path.read_bytes()
        recovered(world)
        path.write_bytes(older)
        with world.vault() as vault:
            vault.publish(vault.require(), "refresh")
        assert in_force(world)[0].generation == 1
        for boot in (OLD, NEW, EVIL):
            world.boot(boot)
            for name, versions in world.seen.items():
                if name.startswith(f"{INTERNAL.path}/acceptance."):
                    for each in map(Acceptance.parse, versions):
                        assert secret_of(world, in_force(world)[0], each) == b""
