# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may read and write a file of ours, without opening it."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass

from aemseal.words.errors import AemsealError
from aemseal.world.rooted import why
from aemseal.world.store import Files


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What lstat(2) tells: `mode` are the 12 permission bits, `owner` is a UID."""

    is_regular: bool
    is_folder: bool
    mode: int
    owner: int


def file_status(files: Files, path: str) -> FileStatus | None:
    """Look at a path, links not followed; None where there is nothing.

    AemsealError, naming the path, where it cannot be looked at.
    """
    try:
        found = os.lstat(files.below_root(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AemsealError(f"{path}: {why(error)}") from None
    return FileStatus(
        stat.S_ISREG(found.st_mode),
        stat.S_ISDIR(found.st_mode),
        stat.S_IMODE(found.st_mode),
        found.st_uid,
    )


def find_program(name: str) -> bool:
    """Whether a program is on PATH."""
    return shutil.which(name) is not None
