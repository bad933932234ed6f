# SPDX-License-Identifier: GPL-2.0-or-later
"""Key slots of LUKS devices, by cryptsetup, changed so that no boot is blind for it.

The hook measures the whole header, and cryptsetup salts each header that it writes: a
slot changed in place is a boot that nobody could accept before. So a slot is changed in
a draft, a copy of the header on the encrypted root; the boot with that header is
accepted; only then it is put on the device, where the header is still the one that was
copied. Keys and passphrases reach cryptsetup by pipes, never by argv, environment or a
file.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aemseal.words.errors import AemsealError, UsageError, VaultError
from aemseal.world.rooted import why
from aemseal.world.store import STATE_FOLDER, Files

BY_UUID = "/dev/disk/by-uuid"
SLOTS = 32
"""Key slots of a LUKS2 header (LUKS2 On-Disk Format 1.1.0, section 3.2)."""

_TIME_LIMIT = 300
"""Seconds; a passphrase's Argon2 takes two on the machine that made it."""

_WRONG_PASSPHRASE = 2
"""cryptsetup(8), RETURN CODES: no permission (bad passphrase)."""


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """A header for a LUKS device: SHA-256 of the one on it, and of the draft."""

    uuid: str
    before: bytes
    after: bytes


class LuksHeaders:
    """The LUKS devices of this machine, by UUID, and the drafts of their headers."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.seam = files.seam

    # --- the draft ---

    def draft_file(self, uuid: str) -> str:
        """Return where the draft of a device's header lies."""
        return f"{STATE_FOLDER}/luks-{uuid}.header"

    def begin(self, uuid: str) -> None:
        """Copy the device's header into a new draft."""
        self.discard(uuid)
        with self.seam.step(f"luksHeaderBackup {uuid}"):
            self._backup(uuid, self._draft(uuid))

    def discard(self, uuid: str) -> None:
        """Throw the draft away, if there is one."""
        self.files.remove(self.draft_file(uuid))

    def free_slot(self, uuid: str) -> int:
        """Return the draft's first free key slot; VaultError where all are in use."""
        used = {int(each) for each in self._metadata(uuid)["keyslots"]}
        free = next((each for each in range(SLOTS) if each not in used), None)
        if free is None:
            raise VaultError(
                f"all key slots of the LUKS device {uuid} are in use",
                "remove one that nobody needs: cryptsetup luksKillSlot",
            )
        return free

    def add(self, uuid: str, slot: int, key: bytes, passphrase: bytes) -> None:
        """Put a key into a free slot of the draft.

        It is random, so no slow derivation has to guard it. UsageError where the
        passphrase is wrong.
        """
        words = (
            *("luksAddKey", "--batch-mode", "--key-slot", str(slot)),
            *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
        )
        with self.seam.step(f"luksAddKey {uuid}"):
            done = _cryptsetup(words, self._draft(uuid), passphrase, key)
        if done.returncode == _WRONG_PASSPHRASE:
            raise UsageError(f"the passphrase does not open the LUKS device {uuid}")
        _require(done, "luksAddKey", uuid)

    def drop(self, uuid: str, slot: int) -> None:
        """Take a slot out of the draft; nothing when it is not in use."""
        if str(slot) not in self._metadata(uuid)["keyslots"]:
            return
        with self.seam.step(f"luksKillSlot {uuid}"):
            done = _cryptsetup(
                ("luksKillSlot", "--batch-mode"), self._draft(uuid), last=str(slot)
            )
        _require(done, "luksKillSlot", uuid)

    def change(self, uuid: str) -> HeaderChange:
        """Return what installing the draft will change."""
        return HeaderChange(uuid, self._on_device(uuid), _sha256(self._draft(uuid)))

    def install(self, change: HeaderChange) -> None:
        """Put the draft on the device, if it is not there already.

        VaultError where the device has a third header by now: somebody changed a key
        slot meanwhile, and that change would be lost.
        """
        found = self._on_device(change.uuid)
        if found != change.after:
            draft = self._draft(change.uuid)
            if found != change.before or _sha256(draft) != change.after:
                raise VaultError(
                    f"somebody changed the header of the LUKS device {change.uuid}",
                    "its key slots are as somebody else left them: cryptsetup luksDump",
                )
            words = ("luksHeaderRestore", "--batch-mode")
            with self.seam.step(f"luksHeaderRestore {change.uuid}"):
                done = _cryptsetup(
                    (*words, "--header-backup-file", str(draft)),
                    self._device(change.uuid),
                )
            _require(done, "luksHeaderRestore", change.uuid)
        self.discard(change.uuid)

    # --- cryptsetup ---

    def _device(self, uuid: str) -> Path:
        return self.files.below_root(f"{BY_UUID}/{uuid}")

    def _draft(self, uuid: str) -> Path:
        return self.files.below_root(self.draft_file(uuid))

    def _backup(self, uuid: str, target: Path) -> None:
        words = ("luksHeaderBackup", "--batch-mode", "--header-backup-file")
        _require(_cryptsetup((*words, str(target)), self._device(uuid)), words[0], uuid)

    def _on_device(self, uuid: str) -> bytes:
        """Return the SHA-256 of what luksHeaderBackup gives now."""
        copy = self._draft(uuid).with_suffix(".now")
        copy.unlink(missing_ok=True)
        try:
            self._backup(uuid, copy)
            return _sha256(copy)
        finally:
            copy.unlink(missing_ok=True)

    def _metadata(self, uuid: str) -> dict[str, Any]:
        done = _cryptsetup(("luksDump", "--dump-json-metadata"), self._draft(uuid))
        _require(done, "luksDump", uuid)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise VaultError(f"the LUKS device {uuid} has no LUKS2 header") from None
        return found


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _cryptsetup(
    words: Sequence[str],
    device: Path,
    passphrase: bytes | None = None,
    key: bytes | None = None,
    last: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    with ExitStack() as stack:
        arguments = ["cryptsetup", *words]
        descriptors = []
        if passphrase is not None:
            descriptors.append(_pipe_with(passphrase, stack))
            arguments += ["--key-file", f"/dev/fd/{descriptors[-1]}"]
        arguments.append(str(device))
        if key is not None:
            descriptors.append(_pipe_with(key, stack))
            arguments.append(f"/dev/fd/{descriptors[-1]}")
        if last is not None:
            arguments.append(last)
        try:
            return subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=descriptors,
                timeout=_TIME_LIMIT,
                check=False,
            )
        except OSError as error:
            raise AemsealError(f"cryptsetup cannot be run: {why(error)}") from None
        except subprocess.TimeoutExpired:
            raise AemsealError(
                f"cryptsetup did not end within {_TIME_LIMIT} seconds"
            ) from None


def _require(done: subprocess.CompletedProcess[bytes], command: str, uuid: str) -> None:
    if done.returncode != 0:
        raise AemsealError(
            f"cryptsetup {command} failed for the LUKS device {uuid} "
            f"(exit code {done.returncode})",
            "look at the device by hand: cryptsetup luksDump",
        )


def _pipe_with(data: bytes, stack: ExitStack) -> int:
    """Return the reading end of a pipe that holds `data`, less than a pipe takes."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    try:
        os.write(writer, data)
    finally:
        os.close(writer)
    return reader
