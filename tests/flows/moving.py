# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves as values, for the tests that make them in any order or cut them short."""

from __future__ import annotations

from collections.abc import Callable

from vault_world import Boot, World

from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault

Move = Callable[[Vault, VaultState], object]


def staging(running: Boot, following: Boot, *, new_only: bool = False) -> Move:
    def move(vault: Vault, state: VaultState) -> object:
        return stage(vault, state, running.policy, following.sealed, new_only=new_only)

    return move


def confirming(running: Boot) -> Move:
    return lambda vault, state: confirm(vault, state, running.sealed)


def cancelling(running: Boot) -> Move:
    return lambda vault, state: cancel(vault, state, running.policy)


def do(world: World, move: Move) -> VaultState:
    """Settle what was cut short, as every command does, then make a move."""
    with world.vault() as vault:
        vault.settle()
        move(vault, vault.require())
        return vault.require()


def settled(world: World) -> str | None:
    with world.vault() as vault:
        return vault.settle()


def state_of(world: World) -> VaultState:
    with world.vault() as vault:
        return vault.require()


def names(state: VaultState) -> set[str]:
    return {boot.name for boot in (*state.accepted, *state.staged)}
