# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots that tell launcher, Xen and kernel apart, and moves with fallback entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import vault_world
from moving import Move
from vault_world import Boot, World, enrolled

from aemseal.flows.moves import Circumstances, Confirmation, confirm, stage
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.words.digest import Digest, HashAlgorithm

SHA256 = HashAlgorithm.SHA256
USUAL, RESCUE, SPARE = "Qubes", "Advanced>Qubes, rescue", "Advanced>Qubes, spare"
TITLES = frozenset({RESCUE, SPARE})


@dataclass(frozen=True)
class Entry(Boot):
    """What an entry of grub.cfg boots: its parts decide, and not its title."""

    title: str = USUAL
    parts: tuple[tuple[Role, str], ...] = ()

    @property
    def sealed(self) -> SealedBoot:
        measured = tuple(measurement(role, text) for role, text in self.parts)
        boot = Baseline(self.title, "tboot", "da", measured)
        return SealedBoot(self.name, "2026-01-01", self.policy, boot)

    @property
    def fallback(self) -> SealedBoot:
        return SealedBoot(
            self.name, "2026-01-01", self.policy, self.sealed.boot, fallback=True
        )

    def under(self, title: str) -> Entry:
        """The same boot, started by another entry."""
        return Entry(self.name, self.xen, title=title, parts=self.parts)


def measurement(role: Role, text: str) -> Measurement:
    """A measured file with a command line: "bytes command line"."""
    file = Digest(SHA256, SHA256.hash(text.partition(" ")[0].encode()).value)
    source = Source(SourceKind.FILE, path=f"/boot/{role}", file_digests={SHA256: file})
    digest = SHA256.hash(text.encode())
    return Measurement(17, {SHA256: digest}, role, source, Calibrated.NOW)


def entry(title: str, xen: str, kernel: str, mle: str = "tboot") -> Entry:
    parts = ((Role.MLE, mle), (Role.XEN, xen), (Role.KERNEL, kernel))
    name = ", ".join(text for _, text in parts if text != "tboot")
    return Entry(name, name.encode(), title=title, parts=parts)


OLD = entry(USUAL, "xen-5", "kernel-1")
OLD_SPARE = entry(SPARE, "xen-5", "kernel-0")
NEW_KERNEL = entry(USUAL, "xen-5", "kernel-2")
NEWER_KERNEL = entry(USUAL, "xen-5", "kernel-3")
NEW_XEN = entry(USUAL, "xen-7", "kernel-1")
NEW_SPARE = entry(SPARE, "xen-7", "kernel-0")
NEW_BOTH = entry(USUAL, "xen-7", "kernel-2")
NEW_RESCUE = entry(RESCUE, "xen-7", "kernel-1 rescue")
NEWEST = entry(USUAL, "xen-9", "kernel-2")
NEWEST_SPARE = entry(SPARE, "xen-9", "kernel-0")
ENTRIES = (
    *(OLD, OLD_SPARE, NEW_KERNEL, NEWER_KERNEL, NEW_XEN, NEW_SPARE),
    *(NEW_BOTH, NEW_RESCUE, NEWEST, NEWEST_SPARE),
)


@contextmanager
def entry_world(folder: Path) -> Iterator[World]:
    """A machine with these entries, that runs the old one and is enrolled there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault_world, "BOOTS", ENTRIES)
        patch.setattr(vault_world, "OLD", OLD)
        with enrolled(folder) as world:
            yield world


def staging(
    running: Boot,
    following: Boot,
    *fallbacks: Entry,
    new_only: bool = False,
    is_next: bool = True,
) -> Move:
    """Stage with fallbacks; each is given marked, as reseal does."""

    def move(vault: Vault, state: VaultState) -> object:
        beside = tuple(each.fallback for each in fallbacks)
        return stage(
            *(vault, state, running.policy, following.sealed, beside),
            new_only=new_only,
            is_next=is_next,
        )

    return move


def confirming(running: Boot, titles: frozenset[str] = TITLES) -> Move:
    known = Circumstances(titles=titles)
    return lambda vault, state: confirm(vault, state, running.sealed, known)


def confirmed(
    world: World, running: Boot, known: Circumstances | None = None
) -> Confirmation:
    """Confirm, and return what is told of it."""
    with world.vault() as vault:
        known = known or Circumstances(titles=TITLES)
        return confirm(vault, vault.require(), running.sealed, known)


def fallbacks_of(state: VaultState) -> set[str]:
    """The accepted boots that are marked as fallbacks, by name."""
    return {boot.name for boot in state.accepted if boot.fallback}
