# SPDX-License-Identifier: GPL-2.0-or-later
"""plymouth in an initramfs, from packages that are in the cache and not installed.

dracut's own module for it takes an installed plymouth. Its files are laid out here as
that module and plymouth-populate-initrd do it, for dracut to include.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError

GRAPHICAL, TEXT = "spinner", "tribar"
"""The themes that a machine may have."""

_PACKAGES = ("plymouth", "plymouth-libraries", "plymouth-themes")
_KEPT = (
    *("usr/bin/plymouth", "usr/sbin/plymouthd", "usr/lib/*/libply*.so.*"),
    *("usr/lib/*/plymouth/*.so", "usr/lib/*/plymouth/renderers/*.so"),
    *("*lib/systemd/system/*plymouth*", "*lib/systemd/system/*.wants/plymouth*"),
    "usr/share/plymouth/plymouthd.defaults",
    *(f"usr/share/plymouth/themes/{each}/*" for each in ("details", "text", "tribar")),
    f"usr/share/plymouth/themes/{GRAPHICAL}/*",
)
_LIBRARIES = ("libdrm.so.2", "libpng16.so.16", "libudev.so.1")
"""What plymouth needs of others' packages; QEMU depends on them too."""


_DRIVER = "bochs"
"""The kernel's for QEMU's VGA card."""


@contextmanager
def dracut_words(cache: Cache, theme: str) -> Iterator[list[str]]:
    """Give what dracut is to be told for plymouth with a theme; nothing without one.

    SimulationError when the packages or libraries are not there.
    """
    if not theme:
        yield []
        return
    libraries = " ".join(_library(name) for name in _LIBRARIES)
    with tempfile.TemporaryDirectory(prefix="plymouth-") as scratch:
        _lay_out(Path(scratch), cache, theme)
        words = ["--add-drivers", _DRIVER, "--install", libraries]
        yield [*words, "--include", scratch, "/"]


def _lay_out(tree: Path, cache: Cache, theme: str) -> None:
    tree.chmod(0o755)  # it becomes the root folder
    for package in _PACKAGES:
        folder = cache.folder / package
        if not (folder / "VERSION").is_file():
            raise SimulationError(f"no {folder}: run sh setup/boot-test.sh first")
        for pattern in _KEPT:
            for each in folder.glob(pattern):
                _lay(each, tree / _in_usr(each.relative_to(folder)))
    settings = tree / "etc/plymouth/plymouthd.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[Daemon]\nTheme={theme}\n", encoding="ascii")


def _in_usr(path: Path) -> Path:
    return path if path.parts[0] == "usr" else "usr" / path


def _lay(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _library(name: str) -> str:
    for folder in Path("/usr/lib").glob("*-linux-gnu"):
        if (folder / name).exists():
            return str(folder / name)
    raise SimulationError(f"no {name} in /usr/lib: run sh setup/boot-test.sh first")
