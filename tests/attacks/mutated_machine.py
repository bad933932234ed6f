# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine to mutate: it is put back as it was found before each mutation.

The attacker has its media, every older version of every file on them, and its TPM;
not its encrypted root. What a mutation left is tried as the boot hook does.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tpm_sim.swtpm import LOCALITY_LAUNCHED, LOCALITY_OS
from unsealer import NoAcceptanceError, RefusedError, unseal
from vault_world import (
    INTERNAL,
    LUKS_HEADER,
    NEW,
    OLD,
    SECRET,
    SINIT,
    STICK,
    World,
    enrol,
)

from aemseal.flows.moves import confirm, stage
from aemseal.flows.owner import OWNER_FILE
from aemseal.flows.secret import Pin
from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile
from aemseal.words.errors import AemsealError
from aemseal.world.config import Medium

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import TSS2_Exception

MEDIA = (INTERNAL, STICK)
PIN = b"260717"


@dataclass
class Inputs:
    """What is measured in the boot that is tried: at first, the accepted one's.

    `more` are extends after the launch: PCR, value, locality.
    """

    sinit: bytes = SINIT
    policy: bytes = b"policy"
    xen: bytes = NEW.xen
    headers: list[bytes] = field(default_factory=lambda: [LUKS_HEADER])
    is_launched: bool = True
    more: list[tuple[int, bytes, int]] = field(default_factory=list)

    def measure(self, world: World) -> None:
        for header in self.headers:
            world.extend(13, header)
        if self.is_launched:
            world.chip.hash_sequence(self.sinit)
        else:
            world.extend(17, hashlib.sha256(self.sinit).digest(), LOCALITY_LAUNCHED)
        for pcr, data in ((17, self.policy), (18, self.xen)):
            world.extend(pcr, hashlib.sha256(data).digest(), LOCALITY_LAUNCHED)
        for pcr, value, locality in self.more:
            world.extend(pcr, value, LOCALITY_OS if pcr < 16 else locality)


Folder = dict[str, bytes]
"""A medium: file names and contents."""


class Mutant:
    """One machine in the attacker's hands: what they change is in these fields."""

    def __init__(self, machine: MutatedMachine) -> None:
        self.machine = machine
        self.world = machine.world
        self.inputs = Inputs()
        self.media = {each.label: dict(machine.media[each.label]) for each in MEDIA}
        self.found: Medium = INTERNAL
        self.pin = machine.pin
        self.owner = b""
        self.done: list[str] = []
        self.is_on = False

    def switch_on(self) -> World:
        """Run the attacker's own system, unless it does already."""
        if not self.is_on:
            self.world.power_cycle()
            self.is_on = True
        return self.world

    @property
    def folder(self) -> Folder:
        return self.media[self.found.label]


class MutatedMachine:
    """The victim of so many mutations, enrolled once; `pin` is empty without one."""

    def __init__(self, world: World, pin: bytes = b"") -> None:
        self.world, self.pin = world, pin
        world.boot(OLD)
        with world.vault() as vault:
            media = (INTERNAL, STICK)
            enrol(vault, OLD, media=media, pin=Pin(pin) if pin else None)
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault() as vault:
            confirm(vault, vault.require(), NEW.sealed)
        world.chip.power_cut()
        self.chip = world._chip_state.read_bytes()
        self.media = {each.label: self._read(each) for each in MEDIA}
        self.owner = (world.root / OWNER_FILE.lstrip("/")).read_bytes()
        self.older: list[tuple[str, bytes]] = [
            (path.rpartition("/")[2], data)
            for path, versions in sorted(world.seen.items())
            for data in sorted(versions)
        ]

    def _read(self, medium: Medium) -> Folder:
        return {each.name: each.read_bytes() for each in self._files(medium)}

    def _files(self, medium: Medium) -> list[Path]:
        return sorted(self.world.file("", medium).iterdir())

    @contextmanager
    def mutant(self) -> Iterator[Mutant]:
        """Put the machine back, switched off, and hand it to the attacker."""
        self.world.chip.power_cut()
        self.world._chip_state.write_bytes(self.chip)
        yield Mutant(self)

    def boot(self, mutant: Mutant) -> None:
        """Boot what the mutation left, up to where the hook asks for the secret."""
        for medium in MEDIA:
            folder = self.world.file("", medium)
            shutil.rmtree(folder)
            folder.mkdir()
            for name, data in mutant.media[medium.label].items():
                (folder / name).write_bytes(data)
        self.world.power_cycle()
        mutant.inputs.measure(self.world)

    def released(self, mutant: Mutant) -> bool:
        """Whether the hook's way gets the secret; the machine must be booted."""
        folder = self.world.file("", mutant.found)
        try:
            return unseal(self.world.chip.tcti, folder, pin=mutant.pin) == SECRET
        except (RefusedError, NoAcceptanceError, TSS2_Exception):
            return False
        except (AemsealError, FileNotFoundError):  # what a reader says of bad files
            return False

    def is_accepted(self, mutant: Mutant) -> bool:
        """Whether what was measured is the accepted boot, by the TPM's own PCRs."""
        read = self.world.chip.read_pcrs(NEW.pcrs[13].algorithm)
        return all(read[pcr] == value for pcr, value in NEW.pcrs.items())

    def is_genuine(self, mutant: Mutant) -> bool:
        """Whether all that the TPM judges in the files was published for one medium."""
        found = judged(mutant.folder)
        return any(found == judged(folder) for folder in self.media.values())


def judged(folder: Folder) -> object:
    """What of a medium's files the TPM sees; the names in them are for people."""
    vault = VaultFile.parse(folder[VAULT_FILE])
    newest = Acceptance.parse(folder["acceptance.3"])
    return (
        vault.counter,
        vault.key,
        vault.policy_ref,
        vault.secrets[0].parts,
        [each.policy for each in newest.branches],
        newest.policy,
        newest.signature,
    )
