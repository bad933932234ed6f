# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks with old files of Xen and old files of ours: what is retired stays so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from vault_world import NEW, OLD, SECRET, STICK, World
from victim import (
    RC_APPROVED,
    RC_BRANCH,
    RC_COUNT,
    RC_POLICY_FAIL,
    RC_SIGNATURE,
    code_of,
    in_force,
    kept,
    unsealing,
    victim,
)

from aemseal.flows.revoke import revoke

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


def test_without_any_attack_the_accepted_boot_opens_and_no_other(world: World) -> None:
    assert world.opening_for_attacker() == {NEW.name}
    world.boot(NEW)
    assert world.unseal() == SECRET


def test_old_files_of_xen_get_nothing(world: World) -> None:
    world.boot(OLD)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH


@pytest.mark.parametrize("count", [1, 2])
def test_old_files_of_xen_with_old_files_of_ours_get_nothing(
    world: World, count: int
) -> None:
    world.boot(OLD)
    with unsealing(world, acceptance=kept(world, count)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_nv, session) == RC_COUNT


def test_an_old_acceptance_under_the_new_number_gets_nothing(world: World) -> None:
    _, now = in_force(world)
    renamed = replace(kept(world, 2), count=now.count)
    world.boot(OLD)
    with unsealing(world, acceptance=renamed) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED


def test_leaving_the_counter_out_gets_nothing(world: World) -> None:
    world.boot(OLD)
    with unsealing(world, acceptance=kept(world, 2)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_a_revoked_medium_opens_nothing_though_it_was_copied_before(
    world: World,
) -> None:
    vault_file, acceptance = in_force(world, STICK)
    with world.vault() as vault:
        revoke(vault, vault.require(), STICK.label)
    world.boot(NEW)
    with unsealing(world, vault=vault_file, acceptance=acceptance) as hook:
        assert code_of(hook.satisfied) == RC_COUNT
    renamed = replace(acceptance, count=in_force(world)[1].count)
    with unsealing(world, vault=vault_file, acceptance=renamed) as hook:
        assert code_of(hook.satisfied) == RC_APPROVED
    _, ours = in_force(world)
    with unsealing(world, vault=vault_file, acceptance=ours) as hook:
        assert code_of(hook.satisfied) == RC_SIGNATURE
    assert world.unseal() == SECRET
