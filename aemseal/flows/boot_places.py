# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the initramfs will find the media: as configured, else as they are mounted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aemseal.formats.boot_conf import MediumPlace, is_folder
from aemseal.words.errors import VaultError
from aemseal.world.config import CONFIG_FILE, Medium
from aemseal.world.mounts import mounted


def boot_places(root: Path, media: Sequence[Medium]) -> tuple[MediumPlace, ...]:
    """Return the places of the media, in their order.

    VaultError, naming the medium, where a running system cannot tell. Below another
    root than "/" nothing is mounted, and a medium that is not configured is left out.
    """
    found = (_place(root, medium) for medium in media)
    return tuple(each for each in found if each is not None)


def _place(root: Path, medium: Medium) -> MediumPlace | None:
    if medium.device is not None:
        folder = medium.folder or medium.path.rstrip("/").rpartition("/")[2]
        if is_folder(folder):
            return MediumPlace(medium.device, folder)
        raise _untold(medium)
    here = mounted(root, medium.path)
    if here is not None and is_folder(here.folder):
        return MediumPlace(f"UUID={here.uuid}", here.folder)
    if root == Path("/"):
        raise _untold(medium)
    return None


def _untold(medium: Medium) -> VaultError:
    return VaultError(
        f"how the initramfs finds the medium {medium.label} is unknown: {medium.path}",
        f"name its file system in {CONFIG_FILE}: device: UUID=..., folder: aemseal",
    )
