# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with a real LUKS device, whose boots measure what is in its header now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from luks_disks import PASSPHRASE, UUID, LuksDisk
from unsealer import SHA256, NoAcceptanceError, RefusedError, unseal
from vault_world import INTERNAL, OLD, SINIT, Boot, World, enrol

from aemseal.flows.keyfile import Drafted, draft_key, enrol_keyfile_beside
from aemseal.flows.secret import Pin
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role, luks_wanted
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.words.digest import Digest
from aemseal.world.seam import Seam

PIN = Pin(b"246810")
NOW = "2026-02-02"


@dataclass(frozen=True)
class RealBoot(Boot):
    """A boot with its measurements on record, as the vault keeps them."""

    uuid: str = UUID

    @property
    def sealed(self) -> SealedBoot:
        measured = (
            extend(17, SHA256.hash(SINIT), Role.SINIT),
            extend(17, SHA256.hash(b"policy"), Role.POLICY),
            extend(18, SHA256.hash(self.xen), Role.XEN, "/boot/xen.gz", self.name),
            extend(
                13, Digest(SHA256, self.luks), Role.LUKS, luks_wanted(self.uuid).path
            ),
        )
        boot = Baseline(self.name, "tboot", "da", measured)
        return SealedBoot(self.name, NOW, self.policy, boot)


def extend(
    pcr: int, digest: Digest, role: Role, path: str | None = None, name: str = ""
) -> Measurement:
    digests = {digest.algorithm: digest}
    source = Source(SourceKind.CONSTANT)
    if path is not None:
        version = name.removeprefix("Xen ") or None
        source = Source(SourceKind.FILE, path, version=version, file_digests=digests)
    return Measurement(pcr, digests, role, source, Calibrated.NOW)


class LuksWorld(World):
    """A machine whose root lies on a LUKS device."""

    @property
    def disk(self) -> LuksDisk:
        return LuksDisk(self.root)

    def real(self, boot: Boot) -> RealBoot:
        """This boot with the header that is on the device now."""
        luks = hashlib.sha256(self.disk.header).digest()
        return RealBoot(boot.name, boot.xen, luks)

    def boot_real(self, boot: Boot) -> RealBoot:
        """Boot it, the hook measuring the header by cryptsetup."""
        found = self.real(boot)
        self.boot(found)
        return found

    def key(self) -> bytes | None:
        """Unseal the keyfile with its PIN, on whatever runs now; None where refused."""
        try:
            return unseal(self.chip.tcti, self.file(""), "keyfile", PIN.value)
        except (RefusedError, NoAcceptanceError):
            return None

    def text(self) -> bytes | None:
        try:
            return unseal(self.chip.tcti, self.file(""), "text")
        except (RefusedError, NoAcceptanceError):
            return None


@contextmanager
def enrolled_on_luks(folder: Path, *fallbacks: Boot) -> Iterator[LuksWorld]:
    """A machine that runs the old Xen from a LUKS device, enrolled with a text."""
    with LuksWorld(folder) as world:
        world.disk.make()
        running = world.boot_real(OLD)
        with world.vault() as vault:
            enrol(vault, running, *map(world.real, fallbacks), media=(INTERNAL,))
        yield world


def draft(vault: Vault, passphrase: bytes = PASSPHRASE) -> Drafted:
    return draft_key(vault, UUID, passphrase, PIN)


def add_key(vault: Vault, running: Boot) -> VaultState:
    """Enrol a keyfile beside, as the command does."""
    host = SimpleNamespace(now=lambda: NOW)
    following: Any = SimpleNamespace(
        look=SimpleNamespace(host=host, running_policy=running.policy)
    )
    return enrol_keyfile_beside(vault, vault.require(), following, draft(vault))


def key_added(world: LuksWorld, running: Boot, seam: Seam | None = None) -> VaultState:
    with world.vault(seam) as vault:
        return add_key(vault, running)
