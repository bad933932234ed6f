# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with what aemseal needs of a distribution: Python, libraries, programs.

This is the test's one shortcut: on a real machine all of it lies on the encrypted root.
Here that root is encrypted sector by sector in Python, so it is kept small, and mounts
this disk, which is not encrypted, read-only at /opt. What is on it are copies of this
machine's own Python and libraries, and of what pyproject.toml names as dependencies: a
run-time dependency that it does not name is missing in the booted system.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tpm_sim.boot_disk import make_file_system
from tpm_sim.cache import PROJECT

PROGRAMS_LABEL = "programs"
LOADER = "/lib64/ld-linux-x86-64.so.2"
"""What every program names as its loader; the root has a link to ours there."""

AEMSEAL = """\
#!/bin/sh
LD_LIBRARY_PATH=/opt/lib PYTHONHOME=/opt/python PYTHONPATH=/opt/python/packages
export LD_LIBRARY_PATH PYTHONHOME PYTHONPATH
exec /opt/bin/python3 -S -B -m aemseal.face.cli "$@"
"""

_UUID = "1d5c1c6e-4c0b-4c64-8f0a-7f3c3f1a2b77"
_SIZE = 320 << 20
_PROGRAMS = ("cryptsetup", "tpm2", "zstd")
_TCTI = "libtss2-tcti-device.so.0"
"""Loaded by name, so that no linker knows of it."""

_NEEDLESS = shutil.ignore_patterns(
    *("test", "tests", "site-packages", "dist-packages", "idlelib", "tkinter"),
    *("turtledemo", "ensurepip", "lib2to3", "config-*", "_tkinter*", "_test*"),
)
_NEEDED = re.compile(r"^\t(?:(\S+) => )?(/\S+) \(0x", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def make_programs_disk(image: Path) -> None:
    """Write an ext4 image with /bin, /lib and /python, to be mounted at /opt."""
    with tempfile.TemporaryDirectory(prefix="programs-") as scratch:
        tree = Path(scratch)
        _put_python(tree)
        _put_programs(tree)
        _put_libraries(tree)
        make_file_system(image, tree, _UUID, _SIZE, label=PROGRAMS_LABEL)


def _put_python(tree: Path) -> None:
    """Copy standard library, packages and this project, all of it compiled.

    Compiled files are believed by the time of their source, which copies keep.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = tree / "python/lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=_NEEDLESS)
    packages = tree / "python/packages"
    for path, place in _packages():
        (packages / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, packages / place)
    shutil.copytree(PROJECT / "aemseal", packages / "aemseal")
    compileall.compile_dir(library, quiet=2)
    compileall.compile_dir(packages, quiet=2)


def _packages() -> Iterator[tuple[Path, str]]:
    """Yield the files of all that aemseal depends on, and where they lie."""
    pending, seen = ["aemseal"], set[str]()
    while pending:
        name = pending.pop()
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed for another Python or platform than this one
        if found.name in seen:
            continue
        seen.add(found.name)
        required = [each for each in found.requires or () if "extra ==" not in each]
        pending += [_NAME.findall(each)[0] for each in required]
        for file in found.files or () if name != "aemseal" else ():
            path = Path(str(found.locate_file(file)))
            if ".." not in file.parts and path.is_file():
                yield path, str(file)


def _put_programs(tree: Path) -> None:
    (tree / "bin").mkdir()
    for name in _PROGRAMS:
        shutil.copy2(_which(name), tree / "bin" / name)
    (tree / "bin/tpm2_unseal").symlink_to("tpm2")
    shutil.copy2(Path(sys.executable).resolve(), tree / "bin/python3")
    (tree / "bin/aemseal").write_text(AEMSEAL, encoding="ascii")
    (tree / "bin/aemseal").chmod(0o755)


def _which(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert found is not None, f"there is no program {name}: run make setup"
    return found


def _put_libraries(tree: Path) -> None:
    """Copy what the linker finds for every program and library, the loader with it."""
    folder = tree / "lib"
    folder.mkdir()
    objects = [*(tree / "python").rglob("*.so*"), *(tree / "bin").iterdir()]
    for name, path in _needed_by(objects):
        if not (folder / name).exists():
            shutil.copy2(path, folder / name)
            if name.startswith("libtss2-tctildr"):
                device = Path(path).with_name(_TCTI)
                shutil.copy2(device.resolve(), folder / _TCTI)


def _needed_by(objects: list[Path]) -> Iterator[tuple[str, str]]:
    done = subprocess.run(
        ["ldd", *map(str, objects)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # scripts are not dynamic, and some need no library
        text=True,
        timeout=60,
        check=False,
    )
    for name, path in _NEEDED.findall(done.stdout):
        yield name or Path(path).name, path
