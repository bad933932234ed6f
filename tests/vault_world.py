# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine for the tests of the vault: a TPM, a disk, boots, and a power switch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tpm_sim.swtpm import LOCALITY_LAUNCHED, LOCALITY_OS, Swtpm
from unsealer import (
    SELECTION,
    SHA256,
    NoAcceptanceError,
    RefusedError,
    Unsealer,
    connected,
    read_count,
)

from aemseal.flows.provision import own_the_tpm, seal, write_hook_files
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile, acceptance_file
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.world.config import Medium
from aemseal.world.seam import Seam
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import PyTCTI, TCTILdr

INTERNAL = Medium("internal", "/boot/aemseal")
STICK = Medium("stick", "/media/stick/aemseal")
SECRET = b"the quick brown fox of 1998 jumps over a lazy Xen"
LUKS_HEADER = hashlib.sha256(b"the LUKS header of the disk").digest()
SINIT = b"the SINIT module"

_TPM_STATE = "tpm2-00.permall"
"""What swtpm keeps over a power cut."""


@dataclass(frozen=True)
class Boot:
    """What a machine boots: a name for it, and what its launcher measures."""

    name: str
    xen: bytes
    luks: bytes = LUKS_HEADER

    @property
    def pcrs(self) -> Mapping[int, Digest]:
        zero = SHA256.zero()
        launched = zero.extended(SHA256.hash(SINIT))
        return {
            13: zero.extended(Digest(SHA256, self.luks)),
            17: launched.extended(SHA256.hash(b"policy")),
            18: zero.extended(SHA256.hash(self.xen)),
        }

    @property
    def policy(self) -> bytes:
        return policy_pcr(SELECTION, self.pcrs)

    @property
    def sealed(self) -> SealedBoot:
        return SealedBoot(
            self.name, "2026-01-01", self.policy, Baseline(self.name, "tboot", "da", ())
        )


OLD = Boot("Xen 4.17.5", b"xen 4.17.5")
NEW = Boot("Xen 4.17.7", b"xen 4.17.7")
NEWER = Boot("Xen 4.17.9", b"xen 4.17.9")
EVIL = Boot("evil", b"the evil maid's xen")
BOOTS = (OLD, NEW, NEWER, EVIL)


def called(*boots: Boot) -> set[str]:
    return {boot.name for boot in boots}


class Wire(PyTCTI):  # type: ignore[misc] # tpm2-pytss has no types
    """A listener on the TPM's bus: passes everything on and keeps a copy."""

    def __init__(self, tcti: str) -> None:
        self._line = TCTILdr.parse(tcti)
        self.heard: list[bytes] = []
        super().__init__()

    def do_transmit(self, command: bytes) -> None:
        self.heard.append(bytes(command))
        self._line.transmit(command)

    def do_receive(self, timeout: int) -> bytes:
        response = bytes(self._line.receive(timeout=timeout))
        self.heard.append(response)
        return response

    def do_finalize(self) -> None:
        self._line.close()

    def tells(self, value: bytes, window: int = 4) -> bool:
        """Whether any `window` bytes of `value` went by."""
        return any(
            value[at : at + window] in message
            for message in self.heard
            for at in range(len(value) - window + 1)
        )


class World:
    """One machine, with everything that an attacker ever saw of its media."""

    def __init__(
        self, folder: Path, banks: Iterable[HashAlgorithm] = (SHA256,)
    ) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.chip = Swtpm(banks)
        self.seen: dict[str, set[bytes]] = {}
        for medium in (INTERNAL, STICK):
            (self.root / medium.path.lstrip("/")).mkdir(parents=True)

    def __enter__(self) -> Self:
        self.chip.power_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.chip.discard()

    # --- power and boots ---

    def power_cycle(self) -> None:
        """Cut the power and switch on again: no launch yet."""
        self.chip.power_cut()
        self.chip.power_on()

    def boot(self, boot: Boot) -> None:
        """Power-cycle, launch, and let the hook measure the LUKS header."""
        self.power_cycle()
        self.extend(13, boot.luks)
        self.launch(boot)

    def launch(self, boot: Boot) -> None:
        """Launch once more (17 to 22 start anew) without a power cycle."""
        self.chip.hash_sequence(SINIT)
        self.extend(17, hashlib.sha256(b"policy").digest(), LOCALITY_LAUNCHED)
        self.extend(18, hashlib.sha256(boot.xen).digest(), LOCALITY_LAUNCHED)

    def extend(self, pcr: int, value: bytes, locality: int = LOCALITY_OS) -> None:
        """Extend the sha256 bank."""
        self.chip.extend([(pcr, {SHA256: Digest(SHA256, value)})], locality)

    @property
    def _chip_state(self) -> Path:
        return self.chip.socket_path.with_name(_TPM_STATE)

    def snapshot(self, name: str) -> None:
        """Keep the TPM's and the disk's state; the power is cut for it."""
        self.chip.power_cut()
        kept = self.folder / name
        shutil.copytree(self.root, kept / "root")
        shutil.copy(self._chip_state, kept)
        self.chip.power_on()

    def restore(self, name: str) -> None:
        """Go back to a snapshot, with nothing seen of the media; the power is off."""
        self.chip.power_cut()
        kept = self.folder / name
        shutil.rmtree(self.root)
        shutil.copytree(kept / "root", self.root)
        shutil.copy(kept / _TPM_STATE, self._chip_state)
        self.seen.clear()
        self.look()

    @property
    def chip_state(self) -> bytes:
        """What the TPM keeps without power."""
        return self._chip_state.read_bytes()

    def put(self, files: Mapping[str, bytes | None], chip_state: bytes) -> None:
        """Replace the disk (a folder has no bytes) and the TPM; the power is cut."""
        self.chip.power_cut()
        shutil.rmtree(self.root)
        self.root.mkdir()
        for path, data in sorted(files.items()):
            if data is None:
                (self.root / path).mkdir()
            else:
                (self.root / path).write_bytes(data)
        self._chip_state.write_bytes(chip_state)

    def fingerprint(self) -> bytes:
        """Return a hash of all files and of what the TPM keeps without power."""
        running = hashlib.sha256(self.chip_state)
        for each in sorted(self.root.rglob("*")):
            running.update(repr((str(each), each.stat().st_mode)).encode())
            running.update(each.read_bytes() if each.is_file() else b"")
        return running.digest()

    # --- the vault ---

    @contextmanager
    def vault(
        self, seam: Seam | None = None, wire: PyTCTI | None = None
    ) -> Iterator[Vault]:
        """Open the vault; afterwards an attacker copies the media.

        Nobody waits before a busy TPM is asked again.
        """
        tcti: Any = self.chip.tcti if wire is None else wire
        try:
            with Tpm(tcti, seam, pause=lambda seconds: None) as tpm:
                yield Vault(Files(self.root, seam), tpm)
        finally:
            self.look()

    def enrol(
        self,
        *accepted: Boot,
        secret: bytes = SECRET,
        media: tuple[Medium, ...] = (INTERNAL,),
        seam: Seam | None = None,
    ) -> VaultState:
        with self.vault(seam) as vault:
            return enrol(vault, *accepted, secret=secret, media=media)

    def look(self) -> None:
        """Remember every version of every file that a medium ever held."""
        for medium in (INTERNAL, STICK):
            folder = self.root / medium.path.lstrip("/")
            for each in folder.iterdir() if folder.is_dir() else ():
                if each.is_file():
                    path = f"{medium.path}/{each.name}"
                    self.seen.setdefault(path, set()).add(each.read_bytes())

    def file(self, name: str, medium: Medium = INTERNAL) -> Path:
        return self.root / medium.path.lstrip("/") / name

    # --- the secret ---

    def unseal(self, medium: Medium = INTERNAL, parent: int = 0x81000001) -> bytes:
        """Do what the hook does, on whatever runs now."""
        vault = VaultFile.parse(self.file(VAULT_FILE, medium).read_bytes())
        with connected(self.chip.tcti) as esapi:
            path = self.file(acceptance_file(read_count(esapi, vault.counter)), medium)
            if not path.exists():
                raise NoAcceptanceError(path.name)
            acceptance = Acceptance.parse(path.read_bytes())
            with Unsealer(esapi, vault, acceptance) as unsealer:
                return unsealer.secret(parent)

    def opens(self, boot: Boot, medium: Medium = INTERNAL) -> bool:
        """Whether the hook gets the secret when this boots."""
        self.launch(boot)
        try:
            return self.unseal(medium) == SECRET
        except (RefusedError, NoAcceptanceError, FileNotFoundError):
            return False

    def opening(self, medium: Medium = INTERNAL) -> set[str]:
        """The boots that get the secret now, by name."""
        return {boot.name for boot in BOOTS if self.opens(boot, medium)}

    def opening_for_attacker(self) -> set[str]:
        """The boots that get the secret with any files that were ever seen."""
        return {boot.name for boot in BOOTS if self._opens_for_attacker(boot)}

    def _opens_for_attacker(self, boot: Boot) -> bool:
        self.launch(boot)
        vaults = self._every(VAULT_FILE, VaultFile.parse)
        acceptances = self._every("acceptance.", Acceptance.parse)
        with connected(self.chip.tcti) as esapi:
            for vault in vaults:
                for acceptance in acceptances:
                    with Unsealer(esapi, vault, acceptance) as unsealer:
                        try:
                            unsealer.secret()
                        except RefusedError:
                            continue
                        return True
        return False

    def _every(self, prefix: str, parse: Any) -> list[Any]:
        return [parse(each) for each in self.ever_seen(prefix)]

    def ever_seen(self, prefix: str) -> set[bytes]:
        """Every version of the files so named, also of those never renamed to that."""
        return {
            version
            for path, versions in self.seen.items()
            if path.rpartition("/")[2].removeprefix(".").startswith(prefix)
            for version in versions
        }


@contextmanager
def enrolled(folder: Path, media: tuple[Medium, ...] = (INTERNAL,)) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there."""
    with World(folder) as world:
        world.boot(OLD)
        world.enrol(OLD, media=media)
        yield world


def enrol(
    vault: Vault,
    *accepted: Boot,
    secret: bytes = SECRET,
    media: tuple[Medium, ...] = (INTERNAL,),
    staged: tuple[Boot, ...] = (),
    foreign_owner: bytes | None = None,
    pin: Pin | None = None,
) -> VaultState:
    """Enrol from nothing, as the command does."""
    key = own_the_tpm(vault, foreign_owner)
    write_hook_files(vault, key, SELECTION)
    state = VaultState(
        generation=1,
        selection=SELECTION,
        storage=key,
        counter=0,
        count=0,
        media=media,
        secrets=(),
        baseline=OLD.sealed.boot,
        accepted=tuple(boot.sealed for boot in accepted),
        staged=tuple(boot.sealed for boot in staged),
    )
    return seal(vault, state, (ToSeal(Secret("text", "text", secret), pin),))
