# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts for the tests of the vault: before or after any lasting effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
