# SPDX-License-Identifier: GPL-2.0-or-later
"""Field failure 29 of docs/field-failures.md: a TPM that answers with an error.

The driver of the time gave up on a slow TPM in the middle of sealing, after the old
blob had been put away. Here every command of a move fails in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vault_world import NEW, OLD, World, called, enrolled

from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError, TpmError
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm

Move = Callable[[Vault, VaultState], object]


class FailingTpm(Seam):
    """Lets the k-th command to the TPM fail, before it is carried out or after it."""

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after = at, after
        self.commands: list[str] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if " " in what:  # a step on the disk names its file
            yield
            return
        number = len(self.commands)
        self.commands.append(what)
        if number == self.at and not self.after:
            raise TpmError(f"the TPM does not answer to {what}")
        yield
        if number == self.at:
            raise TpmError(f"the TPM's answer to {what} was lost")


def staging(vault: Vault, state: VaultState) -> object:
    return stage(vault, state, OLD.policy, NEW.sealed)


def staging_new_only(vault: Vault, state: VaultState) -> object:
    return stage(vault, state, OLD.policy, NEW.sealed, new_only=True)


def confirming(vault: Vault, state: VaultState) -> object:
    return confirm(vault, state, NEW.sealed)


def cancelling(vault: Vault, state: VaultState) -> object:
    return cancel(vault, state, OLD.policy)


MOVES = {
    "stage": (False, staging, called(OLD), called(OLD, NEW)),
    "stage, new only": (False, staging_new_only, called(OLD), called(NEW)),
    "confirm": (True, confirming, called(OLD, NEW), called(NEW)),
    "cancel": (True, cancelling, called(OLD, NEW), called(OLD)),
}


def attempt(world: World, move: Move, seam: Seam | None = None) -> None:
    """Settle what was left half done, as every command does, then make a move."""
    with world.vault(seam) as vault:
        vault.settle()
        move(vault, vault.require())


@pytest.mark.parametrize("name", MOVES)
def test_whichever_command_fails_the_boots_of_before_or_after_open(
    tmp_path: Path, name: str
) -> None:
    is_staged, move, before_it, after_it = MOVES[name]
    with enrolled(tmp_path) as world:
        if is_staged:
            attempt(world, staging)
        running = NEW if name == "confirm" else OLD
        world.boot(running)
        world.snapshot("start")
        world.boot(running)
        watching = FailingTpm()
        attempt(world, move, watching)
        assert world.opening() == after_it
        commands, outcomes = watching.commands, set()
        # An answer that is lost is as bad as the next command not being carried out.
        for at, after in [(0, False), *((n, True) for n in range(len(commands)))]:
            where = f"{'after' if after else 'before'} {commands[at]}"
            world.restore("start")
            world.boot(running)
            with pytest.raises(TpmError, match=commands[at]):
                attempt(world, move, FailingTpm(at, after=after))
            found = world.opening()
            assert found in (before_it, after_it), where
            outcomes.add(found == after_it)
            world.boot(running)
            try:
                attempt(world, move)
            except AemsealError:  # it was made, and is made no second time
                assert found == after_it, where
            assert world.opening() == after_it, f"{where}, then once more"
        assert False in outcomes
