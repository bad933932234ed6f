# SPDX-License-Identifier: GPL-2.0-or-later
"""A real initramfs, built by dracut with aemseal's module, for a kernel in the cache.

As a program: python -m tpm_sim.dracut ROOT [plain] builds ROOT/boot/initramfs.img with
the hook files that enrol left in ROOT. Nothing of this machine's own boot is touched:
dracut's modules are linked into a folder of ours, kernel modules come from the cache.
`plain` is without systemd.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tpm_sim.cache import PROJECT, Cache

IMAGE = "boot/initramfs.img"
_DRACUT = Path("/usr/lib/dracut")
_HOOKS = PROJECT / "boot-hooks"
_TIMEOUT = 600.0
_COMMON = ("base", "crypt", "dm", "rootfs-block", "udev-rules", "fs-lib", "shutdown")
_SYSTEMD = (
    *("systemd", "systemd-initrd", "dracut-systemd", "systemd-udevd"),
    *("systemd-journald", "systemd-modules-load", "systemd-tmpfiles"),
)
_DRIVERS = "ahci ata_piix sd_mod dm_crypt ext4 xts aesni_intel crc32c_generic"


def build_initramfs(root: Path, cache: Cache, *, systemd: bool = True) -> None:
    """Build the image of a machine; CalledProcessError when dracut fails."""
    (modules,) = (cache.folder / "linux-modules/lib/modules").iterdir()
    names = (*_COMMON, "aemseal", *(_SYSTEMD if systemd else ()))
    with tempfile.TemporaryDirectory(prefix="dracut-") as scratch:
        base = _linked_base(Path(scratch))
        subprocess.run(
            [
                *("dracut", "--force", "--no-hostonly", "--no-hostonly-cmdline"),
                *("--nofscks", "--zstd", "--quiet", "--kmoddir", str(modules)),
                *("--drivers", _DRIVERS, "-m", " ".join(names)),
                *(str(root / IMAGE), modules.name),
            ],
            env={
                **os.environ,
                "dracutbasedir": str(base),
                "AEMSEAL_PROGRAMS": str(_HOOKS),
                "AEMSEAL_FILES": str(root / "var/lib/aemseal/hook"),
            },
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_TIMEOUT,
        )


def build_command(root: Path) -> list[str]:
    """Return the argv that builds the image, for `initramfs_command`."""
    path = f"PYTHONPATH={PROJECT}:{PROJECT / 'tpm-sim'}"
    return ["/usr/bin/env", path, sys.executable, "-m", "tpm_sim.dracut", str(root)]


def _linked_base(base: Path) -> Path:
    """Make a dracut folder of links, with our module among the others."""
    (base / "modules.d").mkdir()
    for each in _DRACUT.iterdir():
        if each.name != "modules.d":
            (base / each.name).symlink_to(each)
    for each in (_DRACUT / "modules.d").iterdir():
        (base / "modules.d" / each.name).symlink_to(each)
    for each in (_HOOKS / "dracut").iterdir():
        (base / "modules.d" / each.name).symlink_to(each)
    return base


if __name__ == "__main__":
    build_initramfs(Path(sys.argv[1]), Cache.default(), systemd="plain" not in sys.argv)
