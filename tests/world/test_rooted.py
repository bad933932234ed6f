# SPDX-License-Identifier: GPL-2.0-or-later
"""Files below a root: nothing leads out of it, and nothing odd is opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.words.errors import BootFileError, LogError
from aemseal.world.rooted import Rooted, shown, unreadable, why


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inside = tmp_path / "root"
    (inside / "boot").mkdir(parents=True)
    (inside / "boot/xen.gz").write_bytes(b"xen")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/xen.gz").write_bytes(b"outside")
    return inside


def linked(root: Path, path: str, target: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).symlink_to(target)


@pytest.mark.parametrize(
    "target",
    [
        "/boot/xen.gz",
        "../boot/xen.gz",
        "../../boot/xen.gz",
        "../../../../../boot/xen.gz",
        "/../boot/./xen.gz",
        "/boot//xen.gz",
    ],
)
def test_links_end_inside_the_root(root: Path, target: str) -> None:
    linked(root, "dev/here", target)
    assert Rooted(root).read("/dev/here", 10, BootFileError) == b"xen"
    assert Rooted(root).exists("/dev/here")


def test_a_device_by_its_uuid_is_found_as_udev_links_it(root: Path) -> None:
    (root / "dev").mkdir()
    (root / "dev/sda2").write_bytes(b"LUKS")
    linked(root, "dev/disk/by-uuid/0f0e", "../../sda2")
    files = Rooted(root)
    assert files.read("/dev/disk/by-uuid/0f0e", 10, BootFileError) == b"LUKS"


def test_a_linked_folder_is_followed_in_the_middle_of_a_path(root: Path) -> None:
    linked(root, "efi/boot", "/boot")
    assert Rooted(root).read("/efi/boot/xen.gz", 10, BootFileError) == b"xen"
    assert Rooted(root).is_folder("/efi/boot")
    assert not Rooted(root).is_folder("/efi/boot/xen.gz")


def test_a_loop_of_links_is_refused(root: Path) -> None:
    linked(root, "a", "b")
    linked(root, "b", "a")
    with pytest.raises(BootFileError, match="/a cannot be read: too many levels"):
        Rooted(root).read("/a", 10, BootFileError)
    assert not Rooted(root).exists("/a")
    assert not Rooted(root).is_folder("/a")


@pytest.mark.parametrize("path", ["/no", "/boot/no", "/boot/xen.gz/no", "/no/../x"])
def test_what_is_absent_is_none_and_no_error(root: Path, path: str) -> None:
    assert Rooted(root).read(path, 10, BootFileError) is None
    assert not Rooted(root).exists(path)


def test_a_dangling_link_is_absent(root: Path) -> None:
    linked(root, "link", "/gone")
    assert Rooted(root).read("/link", 10, BootFileError) is None
    assert not Rooted(root).exists("/link")


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(root: Path) -> None:
    assert Rooted(root).read("/boot/xen.gz", 3, LogError) == b"xen"
    with pytest.raises(LogError, match=r"/boot/xen\.gz is larger than 2 bytes"):
        Rooted(root).read("/boot/xen.gz", 2, LogError)


def test_a_fifo_is_refused_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(BootFileError, match="/fifo is not a regular file"):
        Rooted(root).read("/fifo", 10, BootFileError)


def test_a_character_device_is_never_opened() -> None:
    with pytest.raises(BootFileError, match="/dev/null is not a regular file"):
        Rooted(Path("/")).read("/dev/null", 10, BootFileError)


def test_a_path_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(BootFileError, match=r"/a\\x00b cannot be read: it is not a fi"):
        Rooted(root).read("/a\0b", 10, BootFileError)
    assert not Rooted(root).exists("/a\0b")
    assert not Rooted(root).is_folder("/a\0b")


def test_what_may_not_be_read_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(LogError, match="cannot be read: permission denied") as refusal:
        Rooted(root).read("/boot/xen.gz", 10, LogError)
    assert refusal.value.hint == "run aemseal as root"


def test_a_disk_that_fails_in_the_middle_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def read(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    def opened(*_: object) -> BinaryIO:
        return cast("BinaryIO", Failing())

    monkeypatch.setattr(Rooted, "open", opened)
    with pytest.raises(LogError, match=r"/boot/xen\.gz cannot be read: input/output"):
        Rooted(root).read("/boot/xen.gz", 10, LogError)


def test_control_characters_of_a_path_do_not_reach_the_terminal() -> None:
    assert shown("/boot/\x1b[2Jx") == "/boot/\\x1b[2Jx"
    assert shown("/boot/größe") == "/boot/größe"
    assert shown("/boot/\udcff") == "/boot/\\udcff"
    error = unreadable("/a\nb", OSError(), LogError)
    assert (error.message, error.hint) == (
        "/a\\nb cannot be read: it is not a file name",
        None,
    )
    assert why(OSError(28, "No space left on device")) == "no space left on device"


@settings(max_examples=200, deadline=None)
@given(
    links=st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.sampled_from(["a", "b", "c", "d", "..", "", "."]), max_size=6),
        max_size=4,
    ),
    path=st.lists(st.sampled_from(["a", "b", "c", "d", "..", "."]), max_size=6),
)
def test_no_mesh_of_links_leads_out(
    tmp_path_factory: pytest.TempPathFactory,
    links: dict[str, list[str]],
    path: list[str],
) -> None:
    root = tmp_path_factory.mktemp("root")
    for name, parts in links.items():
        (root / name).symlink_to("/".join(parts) or "/")
    try:
        real = Path(Rooted(root).real("/" + "/".join(path)))
    except OSError as loop:
        assert loop.errno == errno.ELOOP  # noqa: PT017 (a loop is an answer, too)
    else:
        assert ".." not in real.parts
        assert real == root or root in real.parents
