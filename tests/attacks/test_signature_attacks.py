# SPDX-License-Identifier: GPL-2.0-or-later
"""Acceptances signed without the vault's key, changed, or from another medium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from vault_world import EVIL, INTERNAL, NEW, SECRET, STICK, World
from victim import (
    RC_APPROVED,
    RC_COUNT,
    RC_POLICY_FAIL,
    RC_SIGNATURE,
    code_of,
    in_force,
    unsealing,
    victim,
)

from aemseal.formats.slot import Acceptance, AcceptedBranch, VaultFile, approved_policy
from aemseal.formats.tpm_policy import approval_digest, counter_name
from aemseal.world.signing import SigningKey

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


def forged(world: World, key: SigningKey) -> tuple[VaultFile, Acceptance]:
    """An acceptance of the evil boot, signed by the attacker's own key."""
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    signature = key.sign(approval_digest(policy, vault.policy_ref))
    return vault, replace(now, branches=branches, policy=policy, signature=signature)


def test_an_acceptance_signed_by_another_key_is_not_believed(world: World) -> None:
    _, acceptance = forged(world, SigningKey.generate())
    world.boot(EVIL)
    with unsealing(world, acceptance=acceptance) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_SIGNATURE


def test_the_attackers_key_in_the_vault_file_opens_nothing(world: World) -> None:
    key = SigningKey.generate()
    vault, acceptance = forged(world, key)
    changed = replace(vault, key=key.public)
    world.boot(EVIL)
    with unsealing(world, vault=changed, acceptance=acceptance) as hook:
        session = hook.satisfied()  # a policy, approved: only not the object's
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_another_branch_list_in_policy_or_is_not_the_approved_policy(
    world: World,
) -> None:
    world.boot(EVIL)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session, [EVIL.policy, NEW.policy])
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_a_ticket_for_one_policy_approves_no_other(world: World) -> None:
    """The branch list is changed and the policy field with it, the signature kept."""
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"), *now.branches[1:])
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    changed = replace(now, branches=branches, policy=policy)
    world.boot(EVIL)
    with unsealing(world, acceptance=changed) as hook:
        assert code_of(hook.satisfied) == RC_SIGNATURE


def test_an_acceptance_of_another_medium_opens_nothing(world: World) -> None:
    """A medium's policy-ref is in its objects' policy and under its signatures."""
    _, from_stick = in_force(world, STICK)
    vault, _ = in_force(world)
    world.boot(NEW)
    with unsealing(world, acceptance=from_stick) as hook:
        assert code_of(hook.satisfied) == RC_SIGNATURE
    stick_vault, _ = in_force(world, STICK)
    mixed = replace(vault, policy_ref=stick_vault.policy_ref)
    with unsealing(world, vault=mixed, acceptance=from_stick) as hook:
        session = hook.satisfied()
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL
    assert world.opening(STICK) == world.opening(INTERNAL) == {NEW.name}


def test_a_medium_that_is_left_out_of_a_move_opens_nothing_any_more(
    world: World,
) -> None:
    world.file("", STICK).rename(world.folder / "lost")
    with world.vault() as vault:
        vault.publish(vault.require(), "refresh")
    (world.folder / "lost").rename(world.file("", STICK))
    world.boot(NEW)
    vault_file, acceptance = in_force(world, STICK)
    with unsealing(world, vault=vault_file, acceptance=acceptance) as hook:
        assert code_of(hook.satisfied) == RC_COUNT
    assert world.unseal() == SECRET
