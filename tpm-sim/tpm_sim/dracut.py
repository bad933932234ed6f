# SPDX-License-Identifier: GPL-2.0-or-later
"""A real initramfs, built by dracut with aemseal's module, for a kernel in the cache.

As a program: python -m tpm_sim.dracut ROOT [plain] [THEME] builds the image
ROOT/boot/initramfs.img with the hook files that enrol left in ROOT. Nothing of this
machine's own boot is touched: dracut's modules are linked into a folder of ours, kernel
modules come from the cache. `plain` is without systemd; with a theme of plymouth's
there is plymouth in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tpm_sim.cache import PROJECT, Cache
from tpm_sim.plymouth import dracut_words

IMAGE = "boot/initramfs.img"
_DRACUT = Path("/usr/lib/dracut")
_HOOKS = PROJECT / "boot-hooks"
_TIMEOUT = 600.0
_ZSTD = "zstd -3 -q -T0"
"""dracut's own is -15, whose image is a tenth smaller and takes most of a build."""
_COMMON = ("base", "crypt", "dm", "rootfs-block", "udev-rules", "fs-lib", "shutdown")
_SYSTEMD = (
    *("systemd", "systemd-initrd", "dracut-systemd", "systemd-udevd"),
    *("systemd-journald", "systemd-modules-load", "systemd-tmpfiles"),
)
_DRIVERS = "ahci ata_piix sd_mod dm_crypt ext4 xts aesni_intel crc32c_generic"


def build_initramfs(
    root: Path, cache: Cache, *, systemd: bool = True, theme: str = ""
) -> None:
    """Build the image of a machine; CalledProcessError when dracut fails."""
    files = str(root / "var/lib/aemseal/hook")
    environment = {"AEMSEAL_PROGRAMS": str(_HOOKS), "AEMSEAL_FILES": files}
    with (
        linked_base(_HOOKS / "dracut") as base,
        dracut_words(cache, theme) as more,
    ):
        run_dracut(
            root / IMAGE,
            cache,
            base,
            ("aemseal",),
            more,
            systemd=systemd,
            **environment,
        )


def run_dracut(
    image: Path,
    cache: Cache,
    base: Path,
    names: Sequence[str] = (),
    more: Sequence[str] = (),
    *,
    systemd: bool = True,
    **environment: str,
) -> None:
    """Build an image of what every machine has and the modules `names` in `base`.

    `more` are options of dracut's. CalledProcessError when dracut fails.
    """
    (modules,) = (cache.folder / "linux-modules/lib/modules").iterdir()
    names = (*_COMMON, *names, *(_SYSTEMD if systemd else ()))
    subprocess.run(
        [
            *("dracut", "--force", "--no-hostonly", "--no-hostonly-cmdline"),
            *("--nofscks", "--compress", _ZSTD, "--quiet", "--kmoddir", str(modules)),
            *("--drivers", _DRIVERS, "-m", " ".join(names), *more),
            *(str(image), modules.name),
        ],
        env={**os.environ, "dracutbasedir": str(base), **environment},
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=_TIMEOUT,
    )


def build_command(root: Path, *options: str) -> list[str]:
    """Return the argv that builds the image, for `initramfs_command`."""
    path = f"PYTHONPATH={PROJECT}:{PROJECT / 'tpm-sim'}"
    words = ["/usr/bin/env", path, sys.executable, "-m", "tpm_sim.dracut", str(root)]
    return [*words, *options]


@contextmanager
def linked_base(more: Path) -> Iterator[Path]:
    """Make a dracut folder of links, with the modules in `more` among the others."""
    with tempfile.TemporaryDirectory(prefix="dracut-") as scratch:
        base = Path(scratch)
        (base / "modules.d").mkdir()
        for each in _DRACUT.iterdir():
            if each.name != "modules.d":
                (base / each.name).symlink_to(each)
        for each in (*(_DRACUT / "modules.d").iterdir(), *more.iterdir()):
            (base / "modules.d" / each.name).symlink_to(each)
        yield base


if __name__ == "__main__":
    options = sys.argv[2:]
    build_initramfs(
        Path(sys.argv[1]),
        Cache.default(),
        systemd="plain" not in options,
        theme="".join(each for each in options if each != "plain"),
    )
