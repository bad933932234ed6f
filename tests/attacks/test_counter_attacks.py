# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the counter of the vault, and with what is put in its place.

Where the owner's authorisation matters each is made twice: against ours, which the
attacker does not know, and with an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacker import (
    AUTHREAD,
    AUTHWRITE,
    COUNTER_LIKE_OURS,
    NO_DA,
    NT_BITS,
    NT_COUNTER,
    NT_EXTEND,
    OWNERWRITE,
)
from unsealer import NoAcceptanceError
from vault_world import NEW, OLD, World
from victim import (
    COUNTER,
    RC_APPROVED,
    RC_AUTH_UNAVAILABLE,
    attacking,
    code_of,
    in_force,
    kept,
    unsealing,
    victim,
)

from aemseal.flows.moves import confirm, stage
from aemseal.flows.owner import OWNER_FILE
from aemseal.world.tpm import Hierarchy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

BAD_OWNER = 0x9A2
"""TPM_RC_BAD_AUTH for session 1: the owner's authorisation is another."""

RC_ATTRIBUTES = (0x082, 0x182, 0x282)
"""TPM_RC_ATTRIBUTES, of the command or of its first or second handle."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


@pytest.fixture(params=["owner ours", "owner empty"])
def owner_is_empty(request: pytest.FixtureRequest, world: World) -> bool:
    """Whether the owner's authorisation was emptied; the attacker tries no other."""
    if request.param == "owner ours":
        return False
    value = (world.root / OWNER_FILE.lstrip("/")).read_bytes()
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        vault.tpm.change_auth(Hierarchy.OWNER, b"", session)
    return True


def test_the_counter_undefined_and_defined_again_only_shuts_the_vault(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        before = attacker.read(attacker.index(COUNTER))
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        index = attacker.define(COUNTER, COUNTER_LIKE_OURS)
    for _ in range(4):
        with attacking(world) as attacker:
            index = attacker.index(COUNTER)
            attacker.increment(index)
            assert attacker.read(index) > before
        assert world.opening_for_attacker() == set()


def test_a_counter_never_counted_has_no_value_to_compare(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        attacker.define(COUNTER, COUNTER_LIKE_OURS)
    world.launch(NEW)
    with unsealing(world) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        assert code_of(hook.policy_nv, session) == 0x14A  # TPM_RC_NV_UNINITIALIZED
    assert world.opening_for_attacker() == set()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["ordinary", "bits"])
def test_another_index_with_the_right_number_in_it_gets_nothing(
    world: World, kind: str, count: int, *, owner_is_empty: bool
) -> None:
    """The old acceptance's number, written where the counter was."""
    attributes = OWNERWRITE | AUTHREAD | NO_DA
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        if kind == "ordinary":
            index = attacker.define(COUNTER, attributes)
            data = count.to_bytes(8, "big")
            attacker.do(
                "nv_write", nv_index=index, data=data, auth_handle=ESYS_TR.OWNER
            )
        else:
            index = attacker.define(COUNTER, attributes | NT_BITS)
            attacker.do(
                "nv_set_bits", nv_index=index, bits=count, auth_handle=ESYS_TR.OWNER
            )
        assert attacker.read(index) == count
    world.launch(OLD)
    with unsealing(world, acceptance=kept(world, count)) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        hook.policy_or(session)
        hook.policy_nv(session)  # the number is right, the Name in the policy is not
        assert code_of(hook.policy_authorize, session) == RC_APPROVED
    assert world.opening_for_attacker() == set()


@pytest.mark.parametrize(
    "attributes",
    [
        NT_COUNTER | AUTHWRITE | AUTHREAD | NO_DA,
        COUNTER_LIKE_OURS | AUTHWRITE,
        COUNTER_LIKE_OURS & ~NO_DA,
        NT_EXTEND | OWNERWRITE | AUTHREAD | NO_DA,
    ],
    ids=["counted by anyone", "counted by both", "guarded", "extended"],
)
def test_an_index_with_other_attributes_only_shuts_the_vault(
    world: World, attributes: int, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        if not owner_is_empty:
            assert code_of(attacker.undefine, COUNTER) == BAD_OWNER
            return
        attacker.undefine(COUNTER)
        is_extended = attributes & 0xF0 == NT_EXTEND
        attacker.define(COUNTER, attributes, 32 if is_extended else 8)
    for number in range(4):
        with attacking(world) as attacker:
            index = attacker.index(COUNTER)
            writer = ESYS_TR.OWNER if attributes & OWNERWRITE else index
            if is_extended:
                data = number.to_bytes(8, "big")
                attacker.do("nv_extend", nv_index=index, data=data, auth_handle=writer)
            else:
                attacker.do("nv_increment", nv_index=index, auth_handle=writer)
        assert world.opening_for_attacker() == set()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("nv_write", {"data": (2).to_bytes(8, "big")}),
        ("nv_set_bits", {"bits": 3}),
        ("nv_extend", {"data": b"\0"}),
    ],
)
def test_the_counter_takes_no_other_command_than_counting(
    world: World, command: str, arguments: dict[str, Any], *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)
        before = attacker.read(index)

        def write(writer: Any) -> object:
            return attacker.do(command, nv_index=index, auth_handle=writer, **arguments)

        by_owner = code_of(write, ESYS_TR.OWNER)
        assert by_owner in (RC_ATTRIBUTES if owner_is_empty else (BAD_OWNER,))
        assert code_of(write, index) == RC_AUTH_UNAVAILABLE
        assert attacker.read(index) == before
    assert world.opening_for_attacker() == {NEW.name}


def test_counting_on_only_shuts_the_vault(
    world: World, *, owner_is_empty: bool
) -> None:
    with attacking(world) as attacker:
        index = attacker.index(COUNTER)
        if not owner_is_empty:
            assert code_of(attacker.increment, index) == BAD_OWNER
            return
        attacker.increment(index)
    assert world.opening_for_attacker() == set()
    with pytest.raises(NoAcceptanceError):
        world.unseal()


def test_an_index_planted_before_enrolling_is_not_the_counter(tmp_path: Path) -> None:
    """Named in the vault file later, it holds any number the attacker likes."""
    with World(tmp_path) as world:
        with attacking(world) as attacker:
            planted = attacker.define(COUNTER, OWNERWRITE | AUTHWRITE | AUTHREAD)
        world.boot(OLD)
        state = world.enrol(OLD)
        assert state.counter != COUNTER
        with world.vault() as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault() as vault:
            confirm(vault, vault.require(), NEW.sealed)
        with attacking(world) as attacker:
            planted = attacker.index(COUNTER)
            data = (2).to_bytes(8, "big")
            attacker.do("nv_write", nv_index=planted, data=data, auth_handle=planted)
        world.boot(OLD)
        changed = replace(in_force(world)[0], counter=COUNTER)
        with unsealing(world, vault=changed, acceptance=kept(world, 2)) as hook:
            session = hook.session()
            hook.policy_pcr(session)
            hook.policy_or(session)
            hook.policy_nv(session)
            assert code_of(hook.policy_authorize, session) == RC_APPROVED
        assert world.opening_for_attacker() == {NEW.name}
