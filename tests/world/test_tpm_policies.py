# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies of hierarchies: taken away while the authorisation is empty."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from unsealer import connected
from vault_world import World

from aemseal.world.tpm import Hierarchy, Tpm, TpmRefusedError
from aemseal.world.tpm_policies import clear_policy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_ALG

pytestmark = pytest.mark.tpm

OWNER = 0x40000001


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def tpm(world: World) -> Iterator[Tpm]:
    with Tpm(world.chip.tcti) as tpm:
        yield tpm


def owner_policy(world: World) -> bytes:
    """TPM2_GetCapability of TPM_CAP_AUTH_POLICIES, which tpm2-pytss 2.3 has not."""
    command = struct.pack(">HIIIII", 0x8001, 22, 0x17A, 9, OWNER, 1)
    return world.chip.send(command)[10:]


def test_a_policy_is_gone_and_there_may_have_been_none(world: World) -> None:
    nothing = owner_policy(world)
    with connected(world.chip.tcti) as esapi:
        esapi.set_primary_policy(
            auth_handle=ESYS_TR.OWNER, auth_policy=bytes(32), hash_alg=TPM2_ALG.SHA256
        )
    assert owner_policy(world) != nothing
    for _ in range(2):
        with Tpm(world.chip.tcti) as tpm:
            clear_policy(tpm, Hierarchy.OWNER)
            clear_policy(tpm, Hierarchy.LOCKOUT)
        assert owner_policy(world) == nothing


@pytest.mark.parametrize("hierarchy", list(Hierarchy))
def test_where_the_authorisation_is_not_empty_it_is_refused(
    tpm: Tpm, hierarchy: Hierarchy
) -> None:
    with tpm.session() as session:
        tpm.change_auth(hierarchy, b"a value", session)
    with pytest.raises(TpmRefusedError) as told:
        clear_policy(tpm, hierarchy)
    assert told.value.is_wrong_authorisation


@pytest.mark.parametrize("code", [0x184, 0x185])
def test_a_tpm_that_gives_a_hierarchy_no_policy_has_none_to_take(
    tpm: Tpm, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As before TPM 2.0 1.16, which gave lockout one."""
    response = bytes.fromhex("8001 0000000a") + code.to_bytes(4, "big")
    line = SimpleNamespace(transmit=lambda _: None, receive=lambda: response)
    monkeypatch.setattr(tpm.esapi, "get_tcti", lambda: line)
    clear_policy(tpm, Hierarchy.LOCKOUT)
