# SPDX-License-Identifier: GPL-2.0-or-later
"""Durable files: written beside, fsynced, renamed, the folder fsynced.

Paths are as on the running system ("/var/lib/aemseal/state.json") and are taken below
`root`. Each step announces itself at the seam. OSError becomes AemsealError (exit 1)
that names the path and the cause.

A medium's folder was in other hands: nothing in it but a regular file is opened, and
a folder that is a link is no medium. Nobody can lie in wait where a new file is made,
since its temporary name is not to be known before; and a folder that bears the name
it is to have in the end is renamed out of the way.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aemseal.words.errors import AemsealError, VaultError
from aemseal.world.rooted import why
from aemseal.world.seam import Seam

STATE_FOLDER = "/var/lib/aemseal"
LOCK_FILE = f"{STATE_FOLDER}/lock"
READ_LIMIT = 16 << 20
"""No file of ours is larger; a larger one is not ours."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.new", re.DOTALL)


class Files:
    """The files aemseal owns: on the encrypted root, and on its media."""

    def __init__(self, root: Path, seam: Seam | None = None) -> None:
        self.root = root
        self.seam = seam or Seam()

    def below_root(self, path: str) -> Path:
        """Return where an absolute path of the machine lies."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None when there is none.

        VaultError when it is no regular file or larger than READ_LIMIT.
        """
        with _told(path), self.seam.step(f"read {path}"):
            try:
                # A FIFO that nobody writes to would make a plain open wait for ever.
                handle = os.open(
                    self.below_root(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise VaultError(f"{path} is not a regular file")
            with os.fdopen(handle, "rb") as file:
                data = file.read(READ_LIMIT + 1)
            if len(data) > READ_LIMIT:
                raise VaultError(f"{path} has over {READ_LIMIT >> 20} MiB: not ours")
            return data

    def names(self, folder: str) -> list[str]:
        """List a folder, sorted; empty when there is none."""
        with _told(folder), self.seam.step(f"list {folder}"):
            try:
                return sorted(each.name for each in self.below_root(folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Put `data` at `path`, wholly or not at all, and lastingly."""
        place = self.below_root(path)
        with _told(path):
            self._make_folder(place.parent)
            beside = _beside(place, "new")
            try:
                with self.seam.step(f"write {path}"):
                    _sweep(place.parent)
                    _write_new(beside, data, mode)
                with self.seam.step(f"rename {path}"):
                    _make_way(place)
                    beside.replace(place)
            except OSError:
                with suppress(OSError):
                    beside.unlink()
                raise
            with self.seam.step(f"sync {path}"):
                _sync_folder(place.parent)

    def remove(self, path: str) -> None:
        """Take a file away, lastingly; nothing when it is not there, or a folder."""
        place = self.below_root(path)
        with _told(path):
            if not place.parent.is_dir():
                return
            with self.seam.step(f"remove {path}"):
                if not _is_folder(place):
                    place.unlink(missing_ok=True)
            with self.seam.step(f"sync {path}"):
                _sync_folder(place.parent)

    def exists(self, folder: str) -> bool:
        """Whether a folder is there: a medium that is at hand.

        One that cannot be looked at, such as a stick that is broken, is not.
        """
        with suppress(OSError):
            return _is_folder(self.below_root(folder))
        return False

    def is_same(self, one: str, other: str) -> bool:
        """Whether two folders are one, by whatever ways they are reached."""
        with suppress(OSError):
            return self.below_root(one).samefile(self.below_root(other))
        return False

    def has_place_for(self, folder: str) -> bool:
        """Whether a folder is there or its parent is: a medium that can be begun."""
        place = self.below_root(folder)
        with suppress(OSError):
            return place.parent.is_dir() and not place.is_symlink()
        return False

    def make_folder(self, folder: str) -> None:
        """Make a folder, and those that lead to it, lastingly; nothing when it is."""
        with _told(folder):
            self._make_folder(self.below_root(folder))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock of this machine's vault; AemsealError when it is held."""
        place = self.below_root(LOCK_FILE)
        with _told(LOCK_FILE):
            self._make_folder(place.parent)
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise AemsealError(
                    "another aemseal is at work", "wait until it has finished"
                ) from None
            yield
        finally:
            os.close(handle)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        name = f"/{folder.relative_to(self.root)}"
        with _told(name), self.seam.step(f"make folder {name}"):
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(folder.parent)


def _beside(place: Path, kind: str) -> Path:
    """Return a name in the same folder that nobody can know before."""
    return place.with_name(f".{place.name}.{secrets.token_hex(8)}.{kind}")


def _write_new(place: Path, data: bytes, mode: int) -> None:
    """Make a file where there is none, and have it on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sweep(folder: Path) -> None:
    """Remove what writes that were cut short left; what cannot be, is left."""
    for each in folder.iterdir():
        if _TEMPORARY.fullmatch(each.name) is None:
            continue
        with suppress(OSError):
            if stat.S_ISREG(each.lstat().st_mode):
                each.unlink()


def _is_folder(place: Path) -> bool:
    """Whether it is a folder itself, and no link to one."""
    return place.is_dir() and not place.is_symlink()


def _make_way(place: Path) -> None:
    """Rename a folder that bears a file's name: no file could replace it.

    It is not ours and may hold anything, so it is kept.
    """
    if _is_folder(place):
        place.rename(_beside(place, "aside"))


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AemsealError(f"{path}: {why(error)}") from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
