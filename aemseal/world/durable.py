# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's files made durable: a boot that is staged must survive a power cut.

A package manager or an initramfs builder may leave a new file in the page cache. After
a power cut /boot would hold the old one, or half of the new one, while the TPM waits
for the new one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import PurePosixPath

from aemseal.words.errors import AemsealError, BootFileError
from aemseal.world.rooted import Rooted, shown, why
from aemseal.world.store import Files

_NOTHING_TO_SYNC = frozenset({errno.EROFS, errno.EINVAL, errno.ENOTSUP})
"""What fsync(2) says where nothing can be written, and so nothing is pending."""


def make_durable(files: Files, paths: Iterable[str]) -> None:
    """Have these files on the disk, then every folder that leads to one by name.

    `paths` are absolute, below the root; links are followed, and the folder of the
    link counts, too. A read-only medium passes. BootFileError where a file is gone,
    AemsealError, naming the path, where the disk fails.
    """
    below = Rooted(files.root)
    folders: dict[str, None] = {}
    for path in dict.fromkeys(paths):
        real = below.real(path)
        with files.seam.step(f"sync {path}"):
            _sync(real, path, os.O_NONBLOCK)
        link = str(PurePosixPath(path).parent)
        folders[below.real(link)] = None
        folders[str(PurePosixPath(real).parent)] = None
    for folder in folders:
        name = f"/{PurePosixPath(folder).relative_to(files.root)}"
        with files.seam.step(f"sync {name}"):
            _sync(folder, name, os.O_DIRECTORY)


def _sync(real: str, path: str, flags: int) -> None:
    try:
        handle = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags)
    except FileNotFoundError:
        raise BootFileError(
            f"{shown(path)} is gone since it was read", "is an update still at work?"
        ) from None
    except OSError as error:
        raise AemsealError(f"{shown(path)}: {why(error)}") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
            os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOTHING_TO_SYNC:
            raise AemsealError(
                f"{shown(path)} could not be written out: {why(error)}",
                "the next boot may not find it: look at the disk",
            ) from None
    finally:
        os.close(handle)
