# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks with the TPM's hierarchies: owner, lockout, platform, and the null one.

The worst case throughout: a firmware that leaves the platform's authorisation empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import Attacker
from hierarchy_commands import (
    ANY_POLICY,
    CHANGE_EPS,
    CHANGE_PPS,
    CLEAR,
    CLEAR_CONTROL,
    HIERARCHY_CHANGE_AUTH,
    HIERARCHY_CONTROL,
    LOCK_PARAMETERS,
    LOCK_RESET,
    LOCKOUT,
    NV_GLOBAL_WRITE_LOCK,
    NV_UNDEFINE_SPACE,
    OWNER,
    PLATFORM,
    SET_PRIMARY_POLICY,
    send,
)
from vault_world import EVIL, NEW, NEWER, World, called
from victim import (
    COUNTER,
    RC_INTEGRITY,
    RC_POLICY_FAIL,
    attacking,
    code_of,
    in_force,
    unsealing,
    victim,
)

from aemseal.flows.moves import stage
from aemseal.flows.owner import OWNER_FILE
from aemseal.formats.slot import AcceptedBranch, approved_policy
from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.formats.tpm_policy import approval_digest, counter_name, name_of
from aemseal.words.errors import TpmChangedError
from aemseal.world.signing import SigningKey
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ST,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMT_TK_VERIFIED,
)

pytestmark = pytest.mark.tpm

BAD_OWNER = 0x9A2
BAD_LOCKOUT = 0x98E
LOCKED_OUT = 0x921
NOT_THAT_HIERARCHY = (0x184, 0x185)
NV_AUTHORIZATION = 0x149
RC_TICKET = 0x4C4


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


# --- owner and lockout: ours ---


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        (SET_PRIMARY_POLICY, ANY_POLICY),
        (HIERARCHY_CHANGE_AUTH, bytes(2)),
        (NV_GLOBAL_WRITE_LOCK, b""),
        (HIERARCHY_CONTROL, struct.pack(">IB", OWNER, 0)),
    ],
    ids=["SetPrimaryPolicy", "HierarchyChangeAuth", "GlobalWriteLock", "off"],
)
def test_the_owner_does_nothing_for_an_empty_authorisation(
    world: World, command: int, parameters: bytes
) -> None:
    assert send(world, command, OWNER, parameters) == BAD_OWNER
    assert world.opening_for_attacker() == called(NEW)


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        (LOCK_RESET, b""),
        (LOCK_PARAMETERS, struct.pack(">III", 1 << 20, 1, 1)),
        (SET_PRIMARY_POLICY, ANY_POLICY),
        (HIERARCHY_CHANGE_AUTH, bytes(2)),
        (CLEAR, b""),
        (CLEAR_CONTROL, b"\1"),
    ],
    ids=["LockReset", "Parameters", "SetPrimaryPolicy", "ChangeAuth", "Clear", "off"],
)
def test_the_lockout_authorisation_is_not_empty_and_a_wrong_one_locks_itself(
    world: World, command: int, parameters: bytes
) -> None:
    """So who guesses PINs cannot reset the count of guesses, nor raise its limit."""
    assert send(world, command, LOCKOUT, parameters) == BAD_LOCKOUT
    assert send(world, command, LOCKOUT, parameters) == LOCKED_OUT
    assert world.opening_for_attacker() == called(NEW)


def test_the_owner_evicts_the_storage_key_only_with_the_owners_value(
    world: World,
) -> None:
    with attacking(world) as attacker:
        assert code_of(attacker.clear_persistent, SRK_HANDLE) == BAD_OWNER
    assert world.opening_for_attacker() == called(NEW)


def test_with_the_owners_value_the_storage_key_is_another_and_opens_nothing(
    world: World,
) -> None:
    value = (world.root / OWNER_FILE.lstrip("/")).read_bytes()
    with attacking(world) as attacker:
        owner = Attacker(attacker.esapi, value)
        owner.clear_persistent(SRK_HANDLE)
    with world.vault() as vault, pytest.raises(TpmChangedError, match="storage key"):
        stage(vault, vault.require(), NEW.policy, NEWER.sealed)
    with attacking(world) as attacker:
        Attacker(attacker.esapi, value).plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
    world.launch(NEW)
    with unsealing(world) as hook:
        assert code_of(hook.load) == RC_INTEGRITY
    with world.vault() as vault, pytest.raises(TpmChangedError, match="another one"):
        stage(vault, vault.require(), NEW.policy, NEWER.sealed)


# --- the platform ---


def undefined_by_platform(world: World) -> int:
    handles = struct.pack(">I", COUNTER)
    return send(world, NV_UNDEFINE_SPACE, PLATFORM, handles=handles)


def test_the_counter_undefined_by_the_platform_only_shuts_the_vault(
    world: World,
) -> None:
    assert undefined_by_platform(world) == 0
    assert world.opening_for_attacker() == set()
    with attacking(world) as attacker:
        # what the platform defines says so in its attributes, and so in its Name
        area = struct.pack(">IHIHH", COUNTER, 0x000B, 1 << 30 | 0x02040011, 0, 8)
        parameters = bytes(2) + struct.pack(">H", len(area)) + area
        assert send(world, 0x12A, PLATFORM, parameters) == 0
        index = attacker.index(COUNTER)
        attacker.do("nv_increment", nv_index=index, auth_handle=ESYS_TR.PLATFORM)
    assert world.opening_for_attacker() == set()
    told = pytest.raises(TpmChangedError, match="is not the counter made at enrol")
    with world.vault() as vault, told:
        stage(vault, vault.require(), NEW.policy, NEWER.sealed)


def test_the_platform_does_not_count_with_the_owners_counter(world: World) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)

        def count() -> None:
            attacker.do("nv_increment", nv_index=index, auth_handle=ESYS_TR.PLATFORM)

        assert code_of(count) == NV_AUTHORIZATION
    assert world.opening_for_attacker() == called(NEW)


def test_a_global_write_lock_does_not_stop_the_counter(world: World) -> None:
    """The counter's attributes have no GLOBALLOCK."""
    assert send(world, NV_GLOBAL_WRITE_LOCK, PLATFORM) == 0
    with world.vault() as vault:
        stage(vault, vault.require(), NEW.policy, NEWER.sealed)
    assert world.opening_for_attacker() == called(NEW, NEWER)


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        (CLEAR_CONTROL, b"\1"),
        (SET_PRIMARY_POLICY, ANY_POLICY),
        (CHANGE_EPS, b""),
        (CHANGE_PPS, b""),
    ],
    ids=["ClearControl", "SetPrimaryPolicy", "ChangeEPS", "ChangePPS"],
)
def test_what_else_the_platform_may_do_changes_nothing_for_the_vault(
    world: World, command: int, parameters: bytes
) -> None:
    assert send(world, command, PLATFORM, parameters) == 0
    assert world.opening_for_attacker() == called(NEW)


def test_the_owners_hierarchy_switched_off_opens_nothing_until_it_is_back(
    world: World,
) -> None:
    switch = struct.pack(">I", OWNER)
    assert send(world, HIERARCHY_CONTROL, PLATFORM, switch + b"\0") == 0
    assert world.opening_for_attacker() == set()
    code = send(world, HIERARCHY_CONTROL, OWNER, switch + b"\1")
    assert code in NOT_THAT_HIERARCHY
    assert send(world, HIERARCHY_CONTROL, PLATFORM, switch + b"\1") == 0
    assert world.opening_for_attacker() == called(NEW)


@pytest.mark.parametrize("hierarchy", [OWNER, LOCKOUT])
def test_the_platform_is_no_way_to_the_owners_or_lockouts_value(
    world: World, hierarchy: int
) -> None:
    """Only a Clear is, which forgets all that was sealed (test_sealed_object)."""
    assert send(world, CLEAR, OWNER) in NOT_THAT_HIERARCHY
    assert send(world, HIERARCHY_CHANGE_AUTH, PLATFORM, bytes(2)) == 0
    assert send(world, HIERARCHY_CHANGE_AUTH, hierarchy, bytes(2)) in (
        BAD_OWNER,
        BAD_LOCKOUT,
    )


# --- the null hierarchy, in which anybody makes keys ---


def test_a_storage_key_planted_in_the_null_hierarchy_loads_nothing(
    world: World,
) -> None:
    world.boot(NEW)
    area, _ = TPMT_PUBLIC.unmarshal(OWN_TEMPLATE.public)
    with unsealing(world) as hook:
        parent, *_ = hook.do(
            "create_primary",
            in_sensitive=TPM2B_SENSITIVE_CREATE(),
            in_public=TPM2B_PUBLIC(publicArea=area),
            primary_handle=ESYS_TR.NULL,
        )
        part = hook.sealed.parts[0]
        public, _ = TPM2B_PUBLIC.unmarshal(part.public)
        private, _ = TPM2B_PRIVATE.unmarshal(part.private)
        code = code_of(
            lambda: hook.do(
                "load", parent_handle=parent, in_private=private, in_public=public
            )
        )
        hook.do("flush_context", flush_handle=parent)
    assert code == RC_INTEGRITY


def test_a_ticket_of_the_null_hierarchy_approves_nothing_that_k_did_not_sign(
    world: World,
) -> None:
    """Neither one made up, nor one by the attacker's key in the name of K."""
    vault, now = in_force(world)
    branches = (AcceptedBranch(EVIL.policy, "evil"),) * 2
    policy = approved_policy(branches, counter_name(vault.counter), now.count)
    theirs = SigningKey.generate()
    world.boot(EVIL)
    forged = replace(now, branches=branches, policy=policy)
    with unsealing(world, acceptance=forged) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)
        digest = approval_digest(policy, vault.policy_ref)
        area, _ = TPMT_PUBLIC.unmarshal(theirs.public)
        key = hook._kept(
            hook.do(
                "load_external",
                in_public=TPM2B_PUBLIC(publicArea=area),
                hierarchy=ESYS_TR.NULL,
            )
        )
        signature, _ = TPMT_SIGNATURE.unmarshal(theirs.sign(digest))
        of_theirs = hook.do(
            "verify_signature", key_handle=key, digest=digest, signature=signature
        )
        made_up, _ = TPMT_TK_VERIFIED.unmarshal(
            struct.pack(">HIH", TPM2_ST.VERIFIED, 0x40000007, 0)
        )
        for ticket in (of_theirs, made_up):
            code = code_of(
                lambda ticket=ticket: hook.do(
                    "policy_authorize",
                    policy_session=session,
                    approved_policy=policy,
                    policy_ref=vault.policy_ref,
                    key_sign=name_of(vault.key),
                    check_ticket=ticket,
                )
            )
            assert code == RC_TICKET
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL
