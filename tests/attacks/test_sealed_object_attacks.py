# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the storage key, on the sealed objects, and past their policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacker import COUNTER_LIKE_OURS
from vault_world import NEW, OLD, SECRET, World
from victim import (
    COUNTER,
    RC_AUTH_TYPE,
    RC_AUTH_UNAVAILABLE,
    RC_INTEGRITY,
    RC_POLICY_FAIL,
    attacking,
    code_of,
    in_force,
    unsealing,
    victim,
)

from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_CC, TPM2_SE, TPMT_SYM_DEF_OBJECT

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


def test_a_planted_storage_key_gets_nothing_to_open(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        with attacking(world) as attacker:
            attacker.plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
        world.boot(OLD)
        state = world.enrol(OLD)
        assert state.storage.handle != SRK_HANDLE
        with unsealing(world) as hook:
            assert code_of(lambda: hook.load(parent=SRK_HANDLE)) == RC_INTEGRITY
        assert world.unseal(parent=state.storage.handle) == SECRET


def test_a_cleared_tpm_has_forgotten_everything(world: World) -> None:
    """The platform's authorisation is empty before the firmware has set it."""
    with attacking(world) as attacker:
        attacker.do("clear", auth_handle=ESYS_TR.PLATFORM)
        attacker.persist(attacker.primary(OWN_TEMPLATE.public), SRK_HANDLE)
        index = attacker.define(COUNTER, COUNTER_LIKE_OURS)
        attacker.increment(index)
        assert attacker.read(index) > in_force(world)[1].count
    world.launch(NEW)
    with unsealing(world) as hook:
        assert code_of(hook.load) == RC_INTEGRITY
    assert world.opening_for_attacker() == set()


def test_the_sealed_object_opens_with_no_password(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item = hook.load()
        assert code_of(hook.take, item, ESYS_TR.PASSWORD) == RC_AUTH_UNAVAILABLE


def test_the_sealed_object_opens_with_no_hmac_session(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item = hook.load()
        session = hook.esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=item,
            session_type=TPM2_SE.HMAC,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
        assert code_of(hook.take, item, session) == RC_AUTH_UNAVAILABLE
        hook.esapi.flush_context(flush_handle=session)


@pytest.mark.parametrize("steps", range(4))
def test_no_part_of_the_policy_is_enough(world: World, steps: int) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        session = hook.session()
        for step in (hook.policy_pcr, hook.policy_or, hook.policy_nv)[:steps]:
            step(session)
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL


def test_a_trial_session_opens_nothing(world: World) -> None:
    with unsealing(world) as hook:
        session = hook.esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.TRIAL,
            symmetric="null",
            auth_hash=TPM2_ALG.SHA256,
        )
        hook.policy_pcr(session)
        # TPM_RC_ATTRIBUTES of session 1: a trial authorises nothing
        assert code_of(hook.take, hook.load(), session) == 0x982
        hook.esapi.flush_context(flush_handle=session)


def test_the_sealed_objects_authorisation_is_not_changed_even_on_an_accepted_boot(
    world: World,
) -> None:
    """It would be an oracle for a PIN, and a way around it."""
    world.boot(NEW)
    with unsealing(world) as hook:

        def change(session: Any) -> object:
            return hook.do(
                "object_change_auth",
                object_handle=item,
                parent_handle=hook.esapi.tr_from_tpmpublic(handle=SRK_HANDLE),
                new_auth=b"the attacker's",
                session1=session,
            )

        item = hook.load()
        assert code_of(change, ESYS_TR.PASSWORD) == RC_AUTH_TYPE
        assert code_of(change, hook.satisfied()) == RC_POLICY_FAIL


def test_the_sealed_object_leaves_its_parent_for_no_other(world: World) -> None:
    """So there is no duplicate that could be rewrapped or imported either."""
    world.boot(NEW)
    with unsealing(world) as hook:

        def duplicate(session: Any) -> object:
            return hook.do(
                "duplicate",
                object_handle=item,
                new_parent_handle=ESYS_TR.NULL,
                encryption_key_in=b"",
                symmetric_alg=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
                session1=session,
            )

        item = hook.load()
        session = hook.satisfied()
        hook.do("policy_command_code", policy_session=session, code=TPM2_CC.Duplicate)
        assert code_of(duplicate, ESYS_TR.PASSWORD) == RC_AUTH_TYPE
        assert code_of(duplicate, session) == RC_POLICY_FAIL
        assert code_of(duplicate, hook.satisfied()) == RC_POLICY_FAIL


@pytest.mark.parametrize(
    "bit", [6, 1, 4, 7], ids=["userWithAuth", "fixedTPM", "fixedParent", "admin"]
)
def test_a_sealed_object_with_changed_attributes_does_not_load(
    world: World, bit: int
) -> None:
    vault, _ = in_force(world)
    part = vault.secrets[0].parts[0]
    area = bytearray(part.public)
    attributes = int.from_bytes(area[6:10], "big") ^ 1 << bit
    area[6:10] = attributes.to_bytes(4, "big")
    secret = replace(vault.secrets[0], parts=(replace(part, public=bytes(area)),))
    with unsealing(world, vault=replace(vault, secrets=(secret,))) as hook:
        # TPM_RC_ATTRIBUTES where the bits exclude one another, else TPM_RC_INTEGRITY
        assert code_of(hook.load) in (RC_INTEGRITY, 0x2C2)
