# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody sets the TPM's lockout value before its owner enrols.

They can then have the TPM forget every wrong PIN it counted, and guess for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from vault_world import INTERNAL, OLD, SECRET, World, enrol

from aemseal.flows.enrol_beside import enrol_beside
from aemseal.flows.generation import change_pin
from aemseal.flows.owner import LOCKOUT_FILE
from aemseal.flows.provision import LOCKOUT
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.vault import Vault
from aemseal.words.errors import VaultError
from aemseal.world.tpm import Hierarchy
from aemseal.world.tpm_lockout import set_lockout

pytestmark = pytest.mark.tpm

THEIRS = b"the evil maid's lockout value"
PIN = Pin(b"246810")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen; the attacker was at its TPM before."""
    with World(tmp_path) as world:
        with world.vault() as vault, vault.tpm.session() as session:
            vault.tpm.change_auth(Hierarchy.LOCKOUT, THEIRS, session)
            set_lockout(vault.tpm, LOCKOUT, THEIRS)  # as ours would be
        world.boot(OLD)
        yield world


def test_no_pin_is_sealed_that_they_could_guess_at_for_ever(world: World) -> None:
    with world.vault() as vault:
        with pytest.raises(VaultError, match="guessed at without end") as told:
            enrol(vault, OLD, pin=PIN)
        assert LOCKOUT_FILE in (told.value.hint or "")
        assert vault.load() is None


def test_a_text_without_a_pin_needs_no_lockout_value(world: World) -> None:
    world.enrol(OLD)
    assert world.unseal() == SECRET


def beside(vault: Vault) -> object:
    seed = ToSeal(Secret("totp", "totp", bytes(20)), PIN)
    return enrol_beside(vault, vault.require(), seed)


def another_pin(vault: Vault) -> object:
    text = ToSeal(Secret("text", "text", SECRET), PIN)
    before = vault.require()
    return change_pin(vault, before, OLD.policy, (text,), (INTERNAL,))


@pytest.mark.parametrize("move", [beside, another_pin])
def test_nor_is_one_sealed_later(world: World, move: Callable[[Vault], object]) -> None:
    state = world.enrol(OLD)
    with world.vault() as vault, pytest.raises(VaultError, match="without end"):
        move(vault)
    with world.vault() as vault:
        assert replace(vault.require(), checked=state.checked) == state
    assert world.unseal() == SECRET


def test_whoever_knows_the_value_may_hand_it_over(world: World) -> None:
    path = world.root / LOCKOUT_FILE.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(THEIRS)
    with world.vault() as vault:
        state = enrol(vault, OLD, pin=PIN)
    assert state.secrets[0].pin


def test_a_value_that_is_not_the_tpms_is_tried_once(world: World) -> None:
    path = world.root / LOCKOUT_FILE.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not the attacker's")
    for _ in range(3):
        with world.vault() as vault, pytest.raises(VaultError, match="without end"):
            enrol(vault, OLD, pin=PIN)
