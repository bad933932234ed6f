# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of publish and settle do to a vault, and hold refusals to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attacker import Attacker
from unsealer import connected
from vault_world import NEW, OLD, Boot, World

from aemseal.flows.moves import stage
from aemseal.flows.owner import OWNER_FILE
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError


def do_stage(world: World, following: Boot = NEW) -> VaultState:
    with world.vault() as vault:
        return stage(vault, vault.require(), OLD.policy, following.sealed)


def file(world: World, path: str) -> Path:
    return world.root / path.lstrip("/")


def unchanged_after(
    world: World, attempt: Callable[[Vault], object], error: type[AemsealError]
) -> AemsealError:
    """Run an attempt that is refused; nothing durable may have changed by it."""
    before = world.fingerprint()
    with world.vault() as vault, pytest.raises(error) as told:
        attempt(vault)
    assert world.fingerprint() == before
    return told.value


def publish_again(vault: Vault) -> object:
    return vault.publish(vault.require(), "test")


def count_on(world: World) -> None:
    owner = file(world, OWNER_FILE).read_bytes()
    with connected(world.chip.tcti) as esapi:
        attacker = Attacker(esapi, owner)
        attacker.increment(attacker.index(0x01A10AE0))
