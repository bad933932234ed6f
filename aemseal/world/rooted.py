# SPDX-License-Identifier: GPL-2.0-or-later
"""Files below a root: symbolic links end inside it, sizes are bounded.

With the root "/" this is the machine itself; with another it is a mounted system or
a test's folder, whose absolute links (and `../..`) must not lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aemseal.words.errors import EvidenceError

MAXIMAL_LINKS = 40
"""Links followed in one path, as in Linux (path_resolution(7))."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def shown(path: str) -> str:
    """Return the path for a message: control characters and the like escaped."""
    if path.isprintable():
        return path
    return ascii(path)[1:-1]


def why(error: OSError | ValueError) -> str:
    """Return the system's own words for it, in lower case."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return "it is not a file name"


@dataclass(frozen=True, slots=True)
class Rooted:
    """The files below `root`; every `path` is absolute, as seen from inside."""

    root: Path

    def real(self, path: str) -> str:
        """Return where `path` is on this machine, all its links followed.

        What does not exist is where it would be. OSError (ELOOP) after 40 links.
        """
        root = os.fspath(self.root)
        pending = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            try:
                # Path.readlink would take apart and rebuild what is joined here.
                target = os.readlink(os.path.join(root, *done, part))  # noqa: PTH115, PTH118
            except OSError:
                done.append(part)
                continue
            links += 1
            if links > MAXIMAL_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                done.clear()
            pending.extend(target.split("/")[::-1])
        return os.path.join(root, *done)  # noqa: PTH118 (as above)

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder; what cannot be looked at is none."""
        try:
            return stat.S_ISDIR(os.lstat(self.real(path)).st_mode)
        except (OSError, ValueError):
            return False

    def exists(self, path: str) -> bool:
        """Whether anything is there; what cannot be looked at is not."""
        try:
            os.lstat(self.real(path))
        except (OSError, ValueError):
            return False
        return True

    def names(self, path: str) -> list[str]:
        """List a folder, sorted; nothing where there is none or it is closed to us."""
        try:
            return sorted(os.listdir(self.real(path)))  # noqa: PTH208 (as above)
        except (OSError, ValueError):
            return []

    def open(self, path: str, refusal: type[EvidenceError]) -> BinaryIO | None:
        """Open a regular file or a block device for reading; None when absent.

        Nothing else is ever opened: a FIFO would wait, a device might act. Raises
        `refusal`, naming the path, when it is something else or may not be read.
        """
        try:
            real = self.real(path)
            mode = os.lstat(real).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise refusal(f"{shown(path)} is not a regular file")
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            return os.fdopen(os.open(real, flags), "rb")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _ABSENT:
                return None
            raise unreadable(path, error, refusal) from None

    def read(self, path: str, limit: int, refusal: type[EvidenceError]) -> bytes | None:
        """Return a file's bytes, None when there is no such file.

        Raises `refusal`, naming the path, when it holds more than `limit` bytes, is
        no file, or may not be read.
        """
        file = self.open(path, refusal)
        if file is None:
            return None
        with file:
            try:
                data = file.read(limit + 1)
            except OSError as error:
                raise unreadable(path, error, refusal) from None
        if len(data) > limit:
            raise refusal(f"{shown(path)} is larger than {limit} bytes")
        return data


def unreadable(
    path: str, error: OSError | ValueError, refusal: type[EvidenceError]
) -> EvidenceError:
    """Return the error to raise for a path that could not be read."""
    denied = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)
    hint = "run aemseal as root" if denied else None
    return refusal(f"{shown(path)} cannot be read: {why(error)}", hint)
