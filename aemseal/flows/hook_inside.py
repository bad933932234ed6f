# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the boot hook is inside an initramfs: what dracut's module puts there.

boot-hooks/README.md lists the files, boot-hooks/dracut/90aemseal/module-setup.sh
installs them, and a test holds this list against it. Without one of them a boot shows
no secret, or shows it beneath a root that nobody looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from aemseal.formats.file_list import FileKind, FileList, ListedFile
from aemseal.words.errors import AemsealError
from aemseal.world.host import Host

SYSTEMD = "usr/lib/systemd/systemd"
"""systemd itself: its folder is there without it too, for udev's sake."""

_PROGRAMS = "usr/lib/aemseal"
_STEPS = (
    *("bytes", "config", "differ", "disks", "forget", "front", "keys"),
    *("luks", "pin", "screen", "secrets", "slot", "tpm", "unseal"),
)
_MODULE = "usr/lib/dracut/modules.d/90aemseal"
_HOOKS_INSIDE = "usr/lib/dracut/hooks"
_UNITS = ("aemseal-unseal.service", "aemseal-root.service")
_PATIENCE = f"{_HOOKS_INSIDE}/initqueue/settled/00-aemseal-patience.sh"
_HOOKS = (
    ("initqueue/settled", "aemseal-settled.sh"),
    ("initqueue/finished", "aemseal-finished.sh"),
    ("pre-mount", "aemseal-pre-mount.sh"),
)

HOOK_CONF, PIN, BOOT_CONF = (
    f"etc/aemseal/{name}" for name in ("hook.conf", "srk.tr", "boot.conf")
)
PROGRAMS = (
    *(f"{_PROGRAMS}/aemseal-{name}" for name in ("unseal", "boot", "root")),
    *(f"{_PROGRAMS}/lib/{name}.sh" for name in _STEPS),
)
"""They are installed under the same names."""

IN_ANY = (*PROGRAMS, HOOK_CONF, PIN, BOOT_CONF)
"""What every initramfs with the hook has."""

WITH_SYSTEMD = (
    *(f"usr/lib/systemd/system/{unit}" for unit in _UNITS),
    *(f"etc/systemd/system/initrd.target.requires/{unit}" for unit in _UNITS),
    _PATIENCE,
)
"""The units, what has initrd.target require them, and what has dracut wait for them."""

WITHOUT_SYSTEMD = tuple(
    f"{_HOOKS_INSIDE}/{folder}/00-{name}" for folder, name in _HOOKS
)
"""What dracut's own script runs."""

OF_THE_HOOK = frozenset({*IN_ANY, *WITH_SYSTEMD, *WITHOUT_SYSTEMD})

_INSTALLED = {
    **{path: f"/{path}" for path in PROGRAMS},
    **{f"usr/lib/systemd/system/{unit}": f"/{_MODULE}/{unit}" for unit in _UNITS},
    _PATIENCE: f"/{_MODULE}/aemseal-patience.sh",
    **{
        path: f"/{_MODULE}/{name}"
        for path, (_, name) in zip(WITHOUT_SYSTEMD, _HOOKS, strict=True)
    },
}
"""Where a file inside comes from."""


def regular_files(images: Iterable[FileList]) -> dict[str, ListedFile]:
    """Return regular files and links by path, as they lie when all are unpacked.

    Of two with one path the later one is unpacked. A path below /lib is given as below
    /usr/lib, which it is a link to.
    """
    return {
        _merged(each.path): each
        for image in images
        for each in image.files
        if each.kind in (FileKind.FILE, FileKind.LINK)
    }


def _merged(path: str) -> str:
    return f"usr/{path}" if path.startswith("lib/") else path


def lacking(files: dict[str, ListedFile]) -> list[str]:
    """Return what of the hook these files lack, by path."""
    needed = (*IN_ANY, *(WITH_SYSTEMD if SYSTEMD in files else WITHOUT_SYSTEMD))
    return [path for path in needed if path not in files]


def other_than_installed(files: dict[str, ListedFile], host: Host) -> Iterator[str]:
    """Yield which programs inside are not those that are installed here.

    What is not installed, or is not told by a recording, is not held against anything.
    """
    for path, place in _INSTALLED.items():
        if path not in files:
            continue
        try:
            data = host.small_file(place)
        except AemsealError:
            continue
        if data is not None and files[path].content != hashlib.sha256(data).hexdigest():
            yield path
