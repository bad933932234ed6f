# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts for the tests of the vault: before or after any lasting effect.

PowerCut raises in the process that makes a move; `kill` kills a process of its own,
which no `finally` and no exit of libtss2 survives.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vault_world import World

from aemseal.flows.vault import Vault
from aemseal.world.seam import Seam


class PowerCutError(BaseException):
    """The power fails here. No handler of errors may see it, so no Exception."""


class PowerCut(Seam):
    """Cuts the power before or after the k-th effect; after that nothing works."""

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after = at, after
        self.steps: list[str] = []
        self.off = False

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if self.off:
            raise PowerCutError(what)
        number = len(self.steps)
        self.steps.append(what)
        if number == self.at and not self.after:
            self.off = True
            raise PowerCutError(f"before {what}")
        yield
        if number == self.at:
            self.off = True
            raise PowerCutError(f"after {what}")


class Watching(PowerCut):
    """Takes a fingerprint of everything durable before and after every effect."""

    def __init__(self, fingerprint: Callable[[], bytes]) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.points: list[tuple[int, bool, bytes]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        number = len(self.steps)
        self.points.append((number, False, self.fingerprint()))
        with super().step(what):
            yield
        self.points.append((number, True, self.fingerprint()))

    def cuts(self) -> list[tuple[int, bool]]:
        """Where to cut: each second durable state on the way, and all that decide.

        The journal and the counter decide which side a move is on. EVERY_CUT=1 in the
        environment asks for all of them; `make campaign` kills at every step besides.
        """
        found = self.all_cuts()
        if os.environ.get("EVERY_CUT"):
            return found
        decide = ("NV_", "journal.json", "HierarchyChangeAuth", "luksHeader")
        return [
            (number, after)
            for at, (number, after) in enumerate(found)
            if at % 2 == 0 or any(word in self.steps[number] for word in decide)
        ]

    def all_cuts(self) -> list[tuple[int, bool]]:
        """Where to cut so that every durable state on the way is met once.

        A state that a cut leaves is what is on the disk and in the TPM's memory: two
        cuts with nothing durable between them leave the same one.
        """
        found: list[tuple[int, bool]] = []
        last = b""
        for number, after, fingerprint in self.points:
            if fingerprint != last:
                assert after or not found, f"an effect before {self.steps[number]}"
                found.append((number, after))
            last = fingerprint
        return found


@dataclass(frozen=True)
class Point:
    """Where to kill: before or after the step of this number."""

    step: int
    name: str
    after: bool

    def __str__(self) -> str:
        return f"killed {'after' if self.after else 'before'} {self.name}"


class Kill(Seam):
    """Kills its own process, as nothing in it can notice or handle."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self.steps = 0

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        number = self.steps
        self.steps += 1
        if number == self.point.step:
            assert what == self.point.name, "a move takes the same steps each time"
            if not self.point.after:
                os.kill(os.getpid(), signal.SIGKILL)
        yield
        if number == self.point.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill(world: World, move: Callable[[Vault], object], point: Point) -> None:
    """Make a move in a process of its own, which is killed at the point."""
    child = os.fork()
    if child == 0:
        _be_killed(world, move, point)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point}: it was not reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _be_killed(world: World, move: Callable[[Vault], object], point: Point) -> None:
    try:
        with world.vault(Kill(point)) as vault, vault.files.lock():
            move(vault)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # no handler of the parent's may run here
