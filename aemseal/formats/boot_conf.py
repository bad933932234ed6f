# SPDX-License-Identifier: GPL-2.0-or-later
"""boot.conf in the measured initramfs: where the hook finds the boot media.

Format: docs/slot-format.md, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SPEC = re.compile(r"UUID=[0-9A-Fa-f-]{4,36}|LABEL=[A-Za-z0-9._-]{1,32}")
_FOLDER = re.compile(r"[A-Za-z0-9._-]{1,64}(?:/[A-Za-z0-9._-]{1,64}){0,7}")


@dataclass(frozen=True, slots=True)
class MediumPlace:
    """A medium as the initramfs finds it.

    `spec` names its file system as blkid does: `UUID=` or `LABEL=` and a value.
    `folder` is where its files lie in that file system, without a slash in front.
    """

    spec: str
    folder: str

    def __post_init__(self) -> None:
        if not is_spec(self.spec) or not is_folder(self.folder):
            raise ValueError(f"medium {self.spec!r} {self.folder!r}")


def is_spec(text: str) -> bool:
    """Whether a text names a file system: `UUID=...` or `LABEL=...`."""
    return _SPEC.fullmatch(text) is not None


def is_folder(text: str) -> bool:
    """Whether a text is a folder within a file system: `aemseal`, `boot/aemseal`."""
    parts = text.split("/")
    return _FOLDER.fullmatch(text) is not None and not {".", ".."} & set(parts)


def boot_conf(places: Iterable[MediumPlace]) -> bytes:
    """Write boot.conf: the media, in the order they are looked for."""
    lines = [f"medium {each.spec} {each.folder}\n" for each in places]
    return "".join(["aemseal-boot 1\n", *lines]).encode("ascii")
