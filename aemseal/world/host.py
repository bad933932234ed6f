# SPDX-License-Identifier: GPL-2.0-or-later
"""The host: everything the tool reads of a machine, behind one protocol.

Whatever answers these questions may stand in for a machine, so that a recording (a
folder, world/recording.py) works in its place, without a TPM and without /boot.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

from aemseal.formats.file_list import FileList
from aemseal.formats.hook_files import RECORD_LIMIT
from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import (
    BootFileError,
    EvidenceError,
    TpmError,
)
from aemseal.words.wanted import FileFacts, Wanted
from aemseal.world import unpack, views
from aemseal.world.config import Config
from aemseal.world.kernel_tpm import is_tpm12, tpm12_pcrs
from aemseal.world.log_places import LogPlaces
from aemseal.world.programs import read_program
from aemseal.world.rooted import Rooted, shown
from aemseal.world.store import STATE_FOLDER
from aemseal.world.xen_console import find_cmdline

GRUB_CONFIG_LIMIT = 16 << 20
GRUB_ENV_LIMIT = 65536
"""GRUB's environment block is 1,024 bytes (grub/lib/envblk.h); it reads more."""

SAVED_LIMIT = 4 << 20
SMALL_LIMIT = 65536

GRUB_CONFIG_PLACES = (
    "/boot/grub2/grub.cfg",  # Fedora and Qubes OS on BIOS: grub2-mkconfig -o
    "/boot/grub/grub.cfg",  # Debian, and GRUB's own default
    "/boot/efi/EFI/qubes/grub.cfg",  # Qubes OS on UEFI
)

_MENU_ENTRY = b"menuentry "
_ESP = "/boot/efi/"

EFI_FOLDER = "/sys/firmware/efi"
"""There only when UEFI started the kernel (Linux Documentation/ABI, also in dom0)."""

HOOK_RECORD = "/run/aemseal/record"
SAVED_FILES = ("state.json", "baseline.json", "initramfs.json")
"""The files of the state folder that hold no secret; the others are never read."""

_IS_IT_ON = "is it switched on in the firmware?"

Looked = dict[Wanted, FileFacts]


class Host(Protocol):
    """What the tool asks of a machine. An answer may be asked for twice."""

    def event_log(self) -> tuple[str, bytes]:
        """Return where the launch's log was found, and the log, unread.

        It is the first of `event_logs`. LogError, saying where was looked, when there
        is none.
        """

    def event_logs(self) -> Iterator[tuple[str, bytes]]:
        """Yield all that may be the launch's log, the likeliest first, unread.

        Each with the place for a person, which says what kind of place it is ("the
        TXT heap at 0x7b000000 (/dev/mem)"). They may differ: some versions of tboot
        spoil one and not the other, so the one that gives the live PCRs is the log.
        A place is looked at when its turn comes. LogError at the end, as `event_log`,
        when there was none.
        """

    def pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        """Return the live values of all PCRs of one bank.

        BankError when the TPM has no such bank, TpmError when there is no TPM.
        """

    def nv_read(self, index: int) -> bytes | None:
        """Return what a TPM 2.0's NV index holds.

        None where it is not defined or was never written. TpmError where there is no
        TPM 2.0, or where the index may not be read without a password.
        """

    def small_file(self, path: str) -> bytes | None:
        """Return a file of at most 64 KiB by its path below the root; None if absent.

        For boot files that are text, such as xen.cfg. BootFileError when it is larger
        or cannot be read.
        """

    def tboot_policy(self) -> bytes | None:
        """Return the copy of tboot's policy that the configuration names, if any.

        BootFileError when it is missing, larger than 64 KiB or cannot be read.
        """

    def settled_pcrs(self) -> str | None:
        """Return the selection that the configuration names; None where none."""

    def xen_cmdline(self) -> bytes | None:
        """Return the command line of the running Xen, as it prints it at its start.

        None where its console does not tell.
        """

    def grub_config(self) -> tuple[str, bytes]:
        """Return where grub.cfg was found, and its bytes.

        BootFileError, naming every place, when there is none.
        """

    def grub_env(self) -> bytes | None:
        """Return the grubenv that lies beside grub.cfg, None where there is none.

        BootFileError when it or grub.cfg cannot be read.
        """

    def grub_exists(self, path: str) -> bool:
        """Whether GRUB finds a file or folder; `path` is GRUB's, without a device."""

    def grub_read(self, path: str) -> bytes | None:
        """Return what GRUB's `source` reads, None where there is no such file.

        BootFileError when it is too large or cannot be read.
        """

    def is_efi(self) -> bool:
        """Whether UEFI firmware started this machine; GRUB's platform is "efi" then."""

    def resolve(self, grub_path: str) -> str:
        """Return where a path of GRUB's lies below the root.

        GRUB's "/xen.gz" is "/boot/xen.gz" where /boot is a file system of its own.
        """

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        """Return what one pass over each path tells, for all that is wanted of it.

        BootFileError, naming the path, when a file is missing or cannot be read, or
        is not what its view takes it for.
        """

    def list_initramfs(self, wanted: Wanted) -> FileList:
        """Return the files inside an initramfs, with its digests from the same pass.

        `wanted` is of View.RAW or View.GRUB. BootFileError, naming the path, when it
        cannot be read, or its files cannot be listed.
        """

    def hook_record(self) -> bytes | None:
        """Return what the boot hook left in /run, None where it did not run.

        EvidenceError when it cannot be read.
        """

    def saved(self, name: str) -> bytes | None:
        """Return a file of SAVED_FILES, None where there is none yet.

        EvidenceError when it cannot be read; ValueError for any other name.
        """

    def now(self) -> str:
        """Return the time: UTC, ISO 8601, to the second ("2024-05-01T12:00:00Z")."""


def require_saved(name: str) -> None:
    """Raise ValueError unless this is a file that holds no secret."""
    if name not in SAVED_FILES:
        raise ValueError(f"{name!r} is none of {', '.join(SAVED_FILES)}")


@dataclass(frozen=True)
class LiveHost:
    """This machine, or the one below `root`.

    `read_pcrs` and `read_nv` ask the TPM 2.0; None where there is none. grub.cfg is
    read once: what is asked for again, and where its grubenv lies, is of that moment.
    """

    root: Path
    read_pcrs: Callable[[HashAlgorithm], PcrBank] | None = None
    config: Config = field(default_factory=Config)
    read_nv: Callable[[int], bytes | None] | None = None

    @property
    def _files(self) -> Rooted:
        return Rooted(self.root)

    def event_log(self) -> tuple[str, bytes]:
        """Take the first log that there is."""
        return next(self.event_logs())

    def event_logs(self) -> Iterator[tuple[str, bytes]]:
        """Look at the place that the configuration names, else at all of LogPlaces."""
        return LogPlaces(self._files, self._run, self.config.event_log).logs()

    @property
    def _run(self) -> Callable[[Sequence[str]], bytes] | None:
        """Run programs on this machine, and none below another root."""
        return read_program if self.root.resolve() == Path("/") else None

    def pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        """Ask the TPM 2.0; where there is none, take a TPM 1.2's from the kernel."""
        try:
            return self._tpm2_pcrs(algorithm)
        except TpmError:
            if not is_tpm12(self._files):
                raise
        return tpm12_pcrs(self._files, algorithm)

    def _tpm2_pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        if self.read_pcrs is None:
            raise TpmError("there is no TPM", _IS_IT_ON)
        return self.read_pcrs(algorithm)

    def nv_read(self, index: int) -> bytes | None:
        """Ask the TPM 2.0."""
        if self.read_nv is None:
            raise TpmError("there is no TPM 2.0 to read an NV index of", _IS_IT_ON)
        return self.read_nv(index)

    def small_file(self, path: str) -> bytes | None:
        """Read a file below the root."""
        return self._files.read(path, SMALL_LIMIT, BootFileError)

    def tboot_policy(self) -> bytes | None:
        """Read the file of `tboot_policy`."""
        path = self.config.tboot_policy
        if path is None:
            return None
        data = self.small_file(path)
        if data is None:
            raise BootFileError(
                f"{path} is missing",
                "tboot_policy in /etc/aemseal.yaml names it",
            )
        return data

    def settled_pcrs(self) -> str | None:
        """Take it from the configuration, or from Anti Evil Maid's."""
        return self.config.pcrs

    def xen_cmdline(self) -> bytes | None:
        """Ask `xl dmesg`, else the console's file."""
        return find_cmdline(self._files, self._run)

    def grub_config(self) -> tuple[str, bytes]:
        """Read the grub.cfg the configuration names, else GRUB_CONFIG_PLACES.

        One that is named and missing is an error, and so are two different menus:
        either file would be a guess.
        """
        return self._grub_config

    @cached_property
    def _grub_config(self) -> tuple[str, bytes]:
        named = self.config.grub_config
        places = (named,) if named else GRUB_CONFIG_PLACES
        found = []
        for place in places:
            data = self._files.read(place, GRUB_CONFIG_LIMIT, BootFileError)
            if data is not None:
                found.append((place, data))
        if not found:
            raise BootFileError(
                f"there is no grub.cfg at {_listed(places)}",
                "is /boot mounted? else name the file in /etc/aemseal.yaml "
                "(grub_config)",
            )
        self._require_one_menu(found)
        return found[0]

    def _require_one_menu(self, found: Sequence[tuple[str, bytes]]) -> None:
        """Refuse two menus that differ, as a change of firmware or release leaves them.

        A file that only leads to another has no entry. A BIOS reads none of the EFI
        system partition's.
        """
        is_efi = self.is_efi()
        menus = {
            data: place
            for place, data in reversed(found)
            if _MENU_ENTRY in data and (is_efi or not place.startswith(_ESP))
        }
        if len(menus) > 1:
            raise BootFileError(
                f"there are different boot menus at {_listed(sorted(menus.values()))}",
                "name the one that GRUB reads in /etc/aemseal.yaml (grub_config)",
            )

    def grub_env(self) -> bytes | None:
        """Read the grubenv in the folder of grub.cfg."""
        where, _ = self._grub_config
        path = posixpath.join(posixpath.dirname(where), "grubenv")
        return self._files.read(path, GRUB_ENV_LIMIT, BootFileError)

    def grub_exists(self, path: str) -> bool:
        """Look for anything of that name."""
        return self._files.exists(self.resolve(path))

    def grub_read(self, path: str) -> bytes | None:
        """Read a file that GRUB would source; a folder is no such file."""
        place = self.resolve(path)
        if self._files.is_folder(place):
            return None
        return self._files.read(place, GRUB_CONFIG_LIMIT, BootFileError)

    def is_efi(self) -> bool:
        """Look for the kernel's EFI folder, which a PC BIOS gives it no cause for."""
        return self._files.is_folder(EFI_FOLDER)

    def resolve(self, grub_path: str) -> str:
        """Decide by existence: as it is below /boot, then below /boot, then as is."""
        path = "/" + posixpath.normpath("/" + grub_path).lstrip("/")
        below_boot = "/boot" + path
        if path.startswith("/boot/") and self._files.exists(path):
            return path
        return below_boot if self._files.exists(below_boot) else path

    def names(self, folder: str) -> list[str]:
        """List the folder; a name that holds a line end is left out."""
        return [each for each in self._files.names(folder) if "\n" not in each]

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        """Stream each path once, in the order in which the paths first appear."""
        return views.look(self._open, wanted, algorithms)

    def list_initramfs(self, wanted: Wanted) -> FileList:
        """Stream the image once, with zstd and lz4 where it takes them."""
        return unpack.list_initramfs(self._open, wanted)

    def _open(self, path: str) -> BinaryIO:
        file = self._files.open(path, BootFileError)
        if file is None:
            if path.startswith("/dev/"):
                hint = "the boot entry names this disk: is it there, and unlocked?"
            else:
                hint = "the boot entry names it: is /boot mounted, the update complete?"
            raise BootFileError(f"{_places_of(path)} does not exist", hint)
        return file

    def hook_record(self) -> bytes | None:
        """Read the record in /run."""
        return self._files.read(HOOK_RECORD, RECORD_LIMIT, EvidenceError)

    def saved(self, name: str) -> bytes | None:
        """Read a file of the state folder."""
        require_saved(name)
        return self._files.read(f"{STATE_FOLDER}/{name}", SAVED_LIMIT, EvidenceError)

    def now(self) -> str:
        """Ask the clock."""
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _places_of(path: str) -> str:
    """Name where a file was looked for; GRUB's path may lie below /boot (resolve)."""
    if path.startswith(("/boot/", "/dev/")):
        return shown(path)
    return f"/boot{shown(path)} (or {shown(path)})"


def _listed(places: Iterable[str]) -> str:
    return ", ".join(map(shown, places))
