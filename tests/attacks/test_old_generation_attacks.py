# SPDX-License-Identifier: GPL-2.0-or-later
"""After recover: what code on the decrypted root took along gives nothing new.

It has the key that signed, every file of every medium, and the TPM's authorisations.
What it knows already stays known: that is why nothing of it is sealed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from anew import ANEW, CARRIED, recovered, shown, to_seal
from attacker import COUNTER_LIKE_OURS, Attacker
from unsealer import RefusedError, Unsealer, connected, unseal
from vault_world import BOOTS, EVIL, INTERNAL, NEWER, OLD, World, enrol
from victim import RC_POLICY_FAIL, code_of, in_force, unsealing, victim

from aemseal.flows.generation import change_pin
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.flows.publishing import key_file, load_key
from aemseal.flows.secret import Pin
from aemseal.formats.slot import AcceptedBranch, VaultFile, approved_policy
from aemseal.formats.tpm_policy import approval_digest, counter_name
from aemseal.world.signing import SigningKey
from aemseal.world.store import Files

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

RC_BAD_AUTH = 0x9A2
RC_AUTH_FAIL = 0x98E
RC_NO_INDEX = 0x18B


@dataclass(frozen=True)
class Loot:
    """What was taken along while the old generation was in force."""

    key: SigningKey
    owner: bytes
    lockout: bytes
    vault: VaultFile


def loot_of(world: World) -> Loot:
    files = Files(world.root)
    owner, lockout = files.read(OWNER_FILE), files.read(LOCKOUT_FILE)
    assert owner is not None
    assert lockout is not None
    return Loot(load_key(files, 1), owner, lockout, in_force(world)[0])


@pytest.fixture
def robbed(tmp_path: Path) -> Iterator[tuple[World, Loot]]:
    """A machine that was recovered on a newer Xen, and what was taken before."""
    with victim(tmp_path) as world:
        loot = loot_of(world)
        world.boot(NEWER)
        with world.vault() as vault:
            recovered(vault)
        yield world, loot


def test_the_stolen_key_signs_for_no_object_of_the_new_generation(
    robbed: tuple[World, Loot],
) -> None:
    world, loot = robbed
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    signature = loot.key.sign(approval_digest(policy, vault.policy_ref))
    signed = replace(now, branches=branches, policy=policy, signature=signature)
    world.boot(EVIL)
    forged = replace(vault, key=loot.key.public)
    with unsealing(world, vault=forged, acceptance=signed) as hook:
        session = hook.satisfied()  # approved, by a key that nothing here obeys
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_with_the_stolen_key_the_old_secret_opens_anywhere_and_the_new_nowhere(
    robbed: tuple[World, Loot],
) -> None:
    """Why a text that was sealed before must not be sealed again."""
    world, loot = robbed
    _, now = in_force(world)
    counter = in_force(world)[0].counter
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(counter), now.count)
    signature = loot.key.sign(approval_digest(policy, loot.vault.policy_ref))
    signed = replace(now, branches=branches, policy=policy, signature=signature)
    world.boot(EVIL)
    old = replace(loot.vault, counter=counter)
    with (
        connected(world.chip.tcti) as esapi,
        Unsealer(esapi, old, signed) as unsealer,
    ):
        assert unsealer.secret() not in (b"", ANEW)
    assert shown(world) == {NEWER.name: ANEW}


def test_every_file_of_the_old_media_is_dead(robbed: tuple[World, Loot]) -> None:
    world, loot = robbed
    assert world.opening_for_attacker() == {NEWER.name}
    for boot in BOOTS:
        world.boot(boot)
        with connected(world.chip.tcti) as esapi:
            gone = Attacker(esapi)
            assert code_of(gone.index, loot.vault.counter) == RC_NO_INDEX


def test_the_old_owners_value_moves_nothing(robbed: tuple[World, Loot]) -> None:
    world, loot = robbed
    world.boot(EVIL)
    counter = in_force(world)[0].counter
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi, loot.owner)
        again = (loot.vault.counter, COUNTER_LIKE_OURS)
        assert code_of(attacker.define, *again) == RC_BAD_AUTH
        assert code_of(attacker.undefine, counter) == RC_BAD_AUTH
        assert code_of(attacker.increment, attacker.index(counter)) == RC_BAD_AUTH


def test_the_old_lockout_value_forgets_no_try(robbed: tuple[World, Loot]) -> None:
    world, loot = robbed
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi)
        esapi.tr_set_auth(esys_handle=ESYS_TR.LOCKOUT, auth_value=loot.lockout)
        reset = "dictionary_attack_lock_reset"
        assert code_of(attacker.do, reset) == RC_AUTH_FAIL


def test_nothing_of_the_old_generation_is_left_on_the_disk(
    robbed: tuple[World, Loot],
) -> None:
    world, loot = robbed
    assert not (world.root / key_file(1).lstrip("/")).exists()
    kept = [each for each in world.root.rglob("*") if each.is_file()]
    for secret in (loot.owner, loot.lockout, loot.key.to_bytes()):
        assert not any(secret in each.read_bytes() for each in kept)


def test_an_old_pin_opens_nothing_with_the_copied_media(tmp_path: Path) -> None:
    """ObjectChangeAuth leaves the old blob, which its old PIN opens for ever."""
    old, new = Pin(b"first-one"), Pin(b"second-one")
    with World(tmp_path) as world:
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, media=CARRIED[:1], pin=old)
        world.snapshot("before")
        world.boot(OLD)
        with world.vault() as vault:
            before = vault.require()
            done = change_pin(vault, before, OLD.policy, to_seal(new), before.media)
        assert done.state.accepted == before.accepted
        assert not done.left
        folder = world.file("")
        world.boot(OLD)
        assert unseal(world.chip.tcti, folder, pin=new.value) == ANEW
        world.boot(OLD)
        with pytest.raises(RefusedError):
            unseal(world.chip.tcti, folder, pin=old.value)
        copied = world.folder / "before/root" / INTERNAL.path.lstrip("/")
        for pin in (old, new):
            world.boot(OLD)
            with pytest.raises(RefusedError) as no:
                unseal(world.chip.tcti, copied, pin=pin.value)
            assert no.value.code == RC_NO_INDEX
