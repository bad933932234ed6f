# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of what an initramfs must hold is what dracut's module puts there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from aemseal.flows.hook_inside import (
    IN_ANY,
    OF_THE_HOOK,
    PROGRAMS,
    WITH_SYSTEMD,
    WITHOUT_SYSTEMD,
    lacking,
    other_than_installed,
    regular_files,
)
from aemseal.formats.file_list import FileKind, FileList, ListedFile
from aemseal.words.errors import BootFileError

HOOKS = Path(__file__).parents[2] / "boot-hooks"
MODULE = HOOKS / "dracut/90aemseal"
NOTHING = hashlib.sha256(b"").hexdigest()
SYSTEMD = "usr/lib/systemd/systemd"


class Installed:
    """A host that has these files."""

    def __init__(self, files: dict[str, bytes | None]) -> None:
        self.files = files

    def small_file(self, path: str) -> bytes | None:
        if path not in self.files:
            raise BootFileError(f"{path} is not told")
        return self.files[path]


def image(*paths: str, content: str = NOTHING) -> FileList:
    files = (
        ListedFile(path, FileKind.FILE, 0o755, "0:0", 0, content) for path in paths
    )
    return FileList({}, tuple(files))


def others(files: dict[str, ListedFile], installed: dict[str, bytes | None]) -> Any:
    host: Any = Installed(installed)
    return list(other_than_installed(files, host))


def test_it_has_every_step_and_program_that_is_shipped() -> None:
    shipped = {f"usr/lib/aemseal/lib/{path.name}" for path in HOOKS.glob("lib/*.sh")}
    setup = (MODULE / "module-setup.sh").read_text()
    named = set(re.findall(r"inst_script \S+ /(\S+)", setup))
    assert set(PROGRAMS) == shipped | named


def test_it_has_everything_that_the_module_installs_besides() -> None:
    setup = (MODULE / "module-setup.sh").read_text()
    (names,) = re.findall(r"for step in (hook.conf [^;]*);", setup)
    assert {*IN_ANY} - {*PROGRAMS} == {f"etc/aemseal/{n}" for n in names.split()}
    (units,) = re.findall(r"for unit in ([^;]*);", setup)
    hooks = {
        f"usr/lib/dracut/hooks/{folder}/{number}-{name}"
        for folder, number, name in re.findall(
            r'inst_hook (\S+) (\d\d) "\$moddir/(\S+)"', setup
        )
    }
    systemd = {path for path in WITH_SYSTEMD if "/dracut/" not in path}
    assert {Path(path).name for path in systemd} == set(units.split())
    assert {*WITH_SYSTEMD, *WITHOUT_SYSTEMD} - systemd == hooks


@pytest.mark.parametrize(
    "needed", [(*IN_ANY, *WITHOUT_SYSTEMD), (SYSTEMD, *IN_ANY, *WITH_SYSTEMD)]
)
def test_whatever_is_missing_is_named(needed: tuple[str, ...]) -> None:
    assert lacking(regular_files([image(*needed)])) == []
    for path in needed:
        if path != SYSTEMD:
            rest = (each for each in needed if each != path)
            assert lacking(regular_files([image(*rest)])) == [path]
            assert path in OF_THE_HOOK


def test_udevs_own_place_is_no_systemd() -> None:
    udevd = "usr/lib/systemd/systemd-udevd"
    files = regular_files([image(udevd, *IN_ANY, *WITHOUT_SYSTEMD)])
    assert lacking(files) == []


def test_a_file_may_be_in_any_image_and_below_lib() -> None:
    paths = [*IN_ANY, *WITHOUT_SYSTEMD]
    images = [image(*paths[:5]), image(*(p.removeprefix("usr/") for p in paths[5:]))]
    assert lacking(regular_files(images)) == []


def test_a_folder_is_no_file() -> None:
    folder = ListedFile(PROGRAMS[0], FileKind.FOLDER, 0o755, "0:0", 0)
    assert regular_files([FileList({}, (folder,))]) == {}


def test_what_is_inside_is_held_against_what_is_installed() -> None:
    files = regular_files([image(*IN_ANY, *WITHOUT_SYSTEMD, *WITH_SYSTEMD)])
    boot = "usr/lib/aemseal/aemseal-boot"
    assert others(files, {}) == []
    assert others(files, {f"/{boot}": None}) == []
    assert others(files, {f"/{boot}": b""}) == []
    assert others(files, {f"/{boot}": b"new"}) == [boot]
    module = "/usr/lib/dracut/modules.d/90aemseal"
    for path in (*WITHOUT_SYSTEMD, WITH_SYSTEMD[0], WITH_SYSTEMD[-1]):
        name = Path(path).name.removeprefix("00-")
        assert others(files, {f"{module}/{name}": b"new"}) == [path]
        assert (MODULE / name).is_file()
