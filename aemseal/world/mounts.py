# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file system a folder lies on, as the initramfs can find it again.

Sources: proc(5), /proc/[pid]/mountinfo; udev's /dev/disk/by-uuid.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A folder on a mounted file system: that one's UUID, and the folder in it."""

    uuid: str
    folder: str


@dataclass(frozen=True, slots=True)
class _Mount:
    number: str
    inside: str
    point: str


def mounted(root: Path, path: str) -> Mounted | None:
    """Return where an absolute path lies; None where that cannot be told.

    `root` is the machine's root: below another one than "/" there is a mountinfo only
    if somebody put it there.
    """
    mounts = _mounts(root)
    over = [each for each in mounts if _is_below(path, each.point)]
    if not over:
        return None
    mount = max(reversed(over), key=lambda each: len(each.point))
    uuid = _uuid_of(root, mount.number)
    if uuid is None:
        return None
    rest = path[len(mount.point.rstrip("/")) :]
    return Mounted(uuid, (mount.inside.rstrip("/") + rest).strip("/"))


def _mounts(root: Path) -> list[_Mount]:
    try:
        text = (root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 5:
            found.append(_Mount(fields[2], _plain(fields[3]), _plain(fields[4])))
    return found


def _plain(text: str) -> str:
    """Undo mountinfo's escapes of space, tab, line feed and backslash."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _uuid_of(root: Path, number: str) -> str | None:
    """Return the UUID of the device with this `major:minor`."""
    try:
        listed = sorted((root / "dev/disk/by-uuid").iterdir())
    except OSError:
        return None
    for each in listed:
        try:
            device = each.stat().st_rdev
        except OSError:
            continue
        if f"{os.major(device)}:{os.minor(device)}" == number:
            return each.name
    return None
