# SPDX-License-Identifier: GPL-2.0-or-later
"""Key slots of LUKS devices, by cryptsetup, changed so that no boot is blind for it.

The hook measures the whole header, and cryptsetup salts each header that it writes: a
slot changed in place is a boot that nobody could accept before. So a slot is changed in
a draft, a copy of the header on the encrypted root; the boot with that header is
accepted; only then it is put on the device, where the header is still the one that was
copied. A token of type "aemseal" names the slot that is ours: no other is ever killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aemseal.formats.luks import LuksHeaderBackup
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import AemsealError, FormatError, UsageError, VaultError
from aemseal.world.cryptsetup import WRONG_PASSPHRASE, cryptsetup, require_done
from aemseal.world.rooted import why
from aemseal.world.store import STATE_FOLDER, Files

BY_UUID = "/dev/disk/by-uuid"
SLOTS = 32
"""Key slots of a LUKS2 header (LUKS2 On-Disk Format 1.1.0, section 3.2)."""

OUR_TYPE = "aemseal"
"""Type of the LUKS2 token that names our slot; no program but this one acts on it."""

ITERATIONS = 1000
"""Of PBKDF2 for a key that is random: nobody can guess it however fast that is. It is
the least that cryptsetup takes (LUKS2 On-Disk Format 1.1.0, section 3.2.1)."""

KEY_BYTES = 64
"""Of a key of ours: as long as the volume key of aes-xts-plain64 with 512 bits."""

_DRAFT = re.compile(r"luks-[0-9a-f-]{36}\.(header|before|first)")
_CHUNK = 1 << 20
_SIZE_AT = slice(8, 16)
"""hdr_size, of one of the two headers (LUKS2 On-Disk Format 1.1.0, section 2.1)."""

_LUKS1 = b"LUKS\xba\xbe\x00\x01"


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """A header for a LUKS device: SHA-256 of the one on it, and of the draft."""

    uuid: str
    before: bytes
    after: bytes


class HeaderLostError(VaultError):
    """The draft was not put on its device, and never will be."""


def random_key() -> bytes:
    """Return a new key, KEY_BYTES long."""
    return os.urandom(KEY_BYTES)


class LuksHeaders:
    """The LUKS devices of this machine, by UUID, and the drafts of their headers."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.seam = files.seam

    # --- the draft ---

    def draft_file(self, uuid: str) -> str:
        """Return where the draft of a device's header lies."""
        return f"{STATE_FOLDER}/luks-{uuid}.header"

    def copied_file(self, uuid: str) -> str:
        """Return where the header lies that the draft was made from."""
        return f"{STATE_FOLDER}/luks-{uuid}.before"

    def begin(self, uuid: str) -> None:
        """Copy the device's header into a new draft.

        VaultError where the device is absent or of LUKS1, whose header has no place
        for a token; FormatError as LuksHeaderBackup raises it.
        """
        header = _header_on(self._device(uuid))
        if header.startswith(_LUKS1):
            raise VaultError(
                f"the device {uuid} is of LUKS1, and only a slot of LUKS2 can be "
                "marked as this one's own",
                "convert it, with a backup of its header at hand and the disk not in "
                "use: cryptsetup convert --type luks2",
            )
        self.files.write(self.copied_file(uuid), header)
        self.files.write(self.draft_file(uuid), header)

    def discard(self, uuid: str) -> None:
        """Throw the draft away, if there is one."""
        for path in (self.draft_file, self.copied_file, self._first_file):
            self.files.remove(path(uuid))

    def add(self, uuid: str, key: bytes, passphrase: bytes) -> int:
        """Put a key into the draft's first free slot, and return that slot.

        It is random, so no slow derivation has to guard it. UsageError where the
        passphrase is wrong, VaultError where all slots are in use.
        """
        draft = self._draft(uuid)
        slot = _free_slot(uuid, _metadata(draft, uuid))
        adding = (
            *("luksAddKey", "--batch-mode", "--key-slot", str(slot)),
            *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", str(ITERATIONS)),
        )
        with self.seam.step(f"luksAddKey {uuid}"):
            done = cryptsetup(adding, draft, passphrase, key)
            if done.returncode == WRONG_PASSPHRASE:
                raise UsageError(
                    f"the passphrase does not open the LUKS device {uuid}",
                    "nothing was written; type the passphrase that you type at boot",
                )
            require_done(done, "luksAddKey", uuid)
            _sync(draft)
        token = json.dumps({"type": OUR_TYPE, "keyslots": [str(slot)]}).encode()
        marking = ("token", "import", "--json-file", "-")
        with self.seam.step(f"token import {uuid}"):
            require_done(cryptsetup(marking, draft, stdin=token), "token import", uuid)
            _sync(draft)
        return slot

    def drop(self, uuid: str, slot: int) -> bool:
        """Take our slot out of the draft; say whether it was there, and ours."""
        draft = self._draft(uuid)
        was_there = self._take_out(uuid, draft, slot)
        _sync(draft)
        return was_there

    def discard_all(self) -> None:
        """Throw every draft away, of whatever device."""
        for name in self.files.names(STATE_FOLDER):
            if _DRAFT.fullmatch(name):
                self.files.remove(f"{STATE_FOLDER}/{name}")

    def digests(self, uuid: str, algorithm: HashAlgorithm) -> tuple[Digest, Digest]:
        """Return what the hook measures of the header that was copied, and of ours."""
        copied = _header_on(self.files.below_root(self.copied_file(uuid)))
        draft = _header_on(self._draft(uuid))
        return algorithm.hash(copied), algorithm.hash(draft)

    def change(self, uuid: str) -> HeaderChange:
        """Return what installing the draft will change."""
        copied = self.files.below_root(self.copied_file(uuid))
        return HeaderChange(uuid, _sha256(copied), _sha256(self._draft(uuid)))

    # --- the device ---

    def install(self, change: HeaderChange) -> None:
        """Put the draft on the device, if it is not there already.

        A header that was written in part, when the power failed, is written again.
        HeaderLostError where the draft is gone, or where the device has a third header
        by now: somebody changed a key slot, and that change would be lost. VaultError
        where the device is absent.
        """
        uuid, device = change.uuid, self._device(change.uuid)
        if _digest_on(device) != change.after:
            self._require_draft(change)
            if not self._has_copied_one(device, change):
                raise HeaderLostError(
                    f"somebody changed the header of the LUKS device {uuid} meanwhile",
                    "its key slots are as somebody left them: cryptsetup luksDump",
                )
            self._restore(uuid, device)
            if _digest_on(device) != change.after:
                raise AemsealError(
                    f"the LUKS device {uuid} does not hold the header that was just "
                    "written to it",
                    "look at the device by hand: cryptsetup luksDump",
                )
        self.discard(uuid)

    def kill(self, uuid: str, slot: int) -> bool:
        """Take our slot off the device itself; say whether it was there, and ours.

        VaultError where the device is absent, has no LUKS2 header, or where no other
        slot would open it.
        """
        return self._take_out(uuid, self._device(uuid), slot)

    def holds(self, uuid: str, slot: int) -> bool:
        """Whether our slot is on the device itself.

        VaultError where the device is absent or has no LUKS2 header.
        """
        tokens = _tokens(_metadata(self._device(uuid), uuid), slot)
        return any(slots for slots in tokens.values())

    def may_have(self, uuid: str, header: Digest) -> bool:
        """Whether a device has the header that is measured so, as far as can be told.

        One that is absent or cannot be read may have any.
        """
        try:
            found = _header_on(self._device(uuid))
        except AemsealError:
            return True
        return header.algorithm.hash(found) == header

    # --- parts ---

    def _device(self, uuid: str) -> Path:
        """Return a LUKS device; VaultError where it is absent."""
        place = self.files.below_root(f"{BY_UUID}/{uuid}")
        if not place.exists():
            raise VaultError(
                f"the LUKS device {uuid} is not at hand", "attach it and try again"
            )
        return place

    def _draft(self, uuid: str) -> Path:
        return self.files.below_root(self.draft_file(uuid))

    def _restore(self, uuid: str, device: Path) -> None:
        """Write the draft to the device, in two passes: one of its two headers each.

        A disk that loses power may keep any part of what was not synced yet. The first
        pass leaves the primary header as it is and the second one the secondary, and
        cryptsetup syncs after each: one of them is whole at any moment, and with both
        of them the passphrase opens the device.
        """
        draft = self._draft(uuid)
        new = draft.read_bytes()
        size = int.from_bytes(new[_SIZE_AT], "big")
        with device.open("rb") as file:
            primary = file.read(size)
        first = self._first_file(uuid)
        self.files.write(first, primary + new[size:])
        words = ("luksHeaderRestore", "--batch-mode", "--header-backup-file")
        for each in (self.files.below_root(first), draft):
            with self.seam.step(f"luksHeaderRestore {uuid}"):
                done = cryptsetup((*words, str(each)), device)
                require_done(done, "luksHeaderRestore", uuid)

    def _first_file(self, uuid: str) -> str:
        return f"{STATE_FOLDER}/luks-{uuid}.first"

    def _require_draft(self, change: HeaderChange) -> None:
        draft = self._draft(change.uuid)
        if not draft.is_file() or _sha256(draft) != change.after:
            raise HeaderLostError(
                f"{self.draft_file(change.uuid)} is missing or damaged",
                "the device was left as it is",
            )

    def _has_copied_one(self, device: Path, change: HeaderChange) -> bool:
        """Whether the device has the header that was copied, or that one and ours.

        The latter is what a cut leaves in the middle of luksHeaderRestore, and what
        cryptsetup makes of it when it next opens the device: it salts its repair. The
        metadata (slots, salts, tokens) is that of the one or the other all the same,
        since whoever changes a slot changes them.
        """
        if _digest_on(device) == change.before:
            return True
        uuid = change.uuid
        with self.seam.step(f"luksDump {uuid}"):
            try:
                found = _metadata(device, uuid)
            except VaultError:
                return False
        copied = self.files.below_root(self.copied_file(uuid))
        known = [each for each in (copied, self._draft(uuid)) if each.is_file()]
        return any(found == _metadata(each, uuid) for each in known)

    def _take_out(self, uuid: str, place: Path, slot: int) -> bool:
        """Kill a slot that a token of ours names, and remove the token.

        The slot first: a slot without its token would never be killed.
        """
        metadata = _metadata(place, uuid)
        tokens = _tokens(metadata, slot)
        is_there = any(slots for slots in tokens.values())
        if is_there:
            if not _opening(metadata) - {str(slot)}:
                raise VaultError(
                    f"slot {slot} is the only one that opens the LUKS device {uuid}",
                    "add a passphrase before: cryptsetup luksAddKey",
                )
            killing = ("luksKillSlot", "--batch-mode")
            with self.seam.step(f"luksKillSlot {uuid}"):
                done = cryptsetup(killing, place, last=str(slot))
                require_done(done, "luksKillSlot", uuid)
        for token in tokens:
            removing = ("token", "remove", "--token-id", token)
            with self.seam.step(f"token remove {uuid}"):
                require_done(cryptsetup(removing, place), "token remove", uuid)
        return is_there


# --- what a header holds ---


def _metadata(place: Path, uuid: str) -> dict[str, Any]:
    """Return the JSON of a LUKS2 header; VaultError where there is none."""
    done = cryptsetup(("luksDump", "--dump-json-metadata"), place)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise VaultError(
            f"the device {uuid} has no LUKS2 header", "see: cryptsetup luksDump"
        ) from None
    return dict(found)


def _free_slot(uuid: str, metadata: dict[str, Any]) -> int:
    for slot in range(SLOTS):
        if str(slot) not in metadata["keyslots"]:
            return slot
    raise VaultError(
        f"all key slots of the LUKS device {uuid} are in use",
        "remove one that nobody needs: cryptsetup luksKillSlot",
    )


def _tokens(metadata: dict[str, Any], slot: int) -> dict[str, list[str]]:
    """Return the tokens of ours, by number: those that name this slot alone, or none.

    One that names none is what a cut left of a slot that was killed.
    """
    return {
        number: list(token["keyslots"])
        for number, token in metadata["tokens"].items()
        if token["type"] == OUR_TYPE and token["keyslots"] in ([], [str(slot)])
    }


def _opening(metadata: dict[str, Any]) -> set[str]:
    """Return the slots whose key is that of the data, and not of something else."""
    return {
        slot
        for digest in metadata["digests"].values()
        if digest["segments"]
        for slot in digest["keyslots"]
    }


# --- bytes ---


def _header_on(device: Path) -> bytes:
    """Return what luksHeaderBackup gives, read from the device itself.

    FormatError where there is no intact header.
    """
    backup = LuksHeaderBackup()
    parts = []
    try:
        with device.open("rb") as file:
            while not backup.is_complete and (chunk := file.read(_CHUNK)):
                parts.append(backup.feed(chunk))
    except OSError as error:
        raise AemsealError(f"{device} cannot be read: {why(error)}") from None
    return b"".join((*parts, backup.finish()))


def _digest_on(device: Path) -> bytes | None:
    """Return the SHA-256 of the header on a device; None where it is damaged."""
    try:
        return hashlib.sha256(_header_on(device)).digest()
    except FormatError:
        return None


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sync(path: Path) -> None:
    """Have a draft on the disk: cryptsetup does not promise that for a file."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
