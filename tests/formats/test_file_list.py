# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of files, written as JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aemseal.formats.file_list as file_list_module
from aemseal.formats.file_list import (
    FileKind,
    FileList,
    ListedFile,
    dump_lists,
    load_list,
    load_lists,
    tidy_path,
)
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import EvidenceError

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
ABC = SHA256.hash(b"abc").hex


def file(path: str, content: str = ABC, size: int = 3) -> ListedFile:
    return ListedFile(path, FileKind.FILE, 0o644, "0:0", size, content)


def image(name: bytes, *files: ListedFile) -> FileList:
    return FileList({SHA256: SHA256.hash(name)}, files)


LINK = ListedFile("init", FileKind.LINK, 0o777, "0:0", 7, "usr/sh \udcff\n8:1")
NULL = ListedFile("dev/null", FileKind.CHARACTER_DEVICE, 0o666, "0:0", 0, "1:3")
FOLDER = ListedFile("8:1 a folder", FileKind.FOLDER, 0o1777, "1000:100", 0)
ALL = image(b"1", file("a"), LINK, NULL, FOLDER, file("a", SHA256.hash(b"").hex, 0))


def test_lists_come_back_as_they_were() -> None:
    lists = (ALL, image(b"2", file("a"), file("b"), NULL), image(b"3"))
    assert load_lists("x", dump_lists(lists)) == lists
    assert load_list("x", dump_lists([ALL])) == ALL
    assert load_lists("x", dump_lists([])) == ()


def test_a_file_of_several_images_is_written_once() -> None:
    many = [file(f"usr/lib/modules/{number}") for number in range(1000)]
    one = len(dump_lists([image(b"1", *many)]))
    two = len(dump_lists([image(b"1", *many), image(b"2", *many[:500], file("x"))]))
    assert two - one < 400
    assert one < 130 * len(many)


def test_an_image_is_known_by_all_its_digests() -> None:
    both = FileList({SHA1: SHA1.hash(b"x"), SHA256: SHA256.hash(b"x")}, ())
    assert both.is_of({SHA256: SHA256.hash(b"x")})
    assert both.is_of({SHA1: SHA1.hash(b"x"), SHA256: SHA256.hash(b"x")})
    assert not both.is_of({SHA256: SHA256.hash(b"y")})
    assert not both.is_of({SHA1: SHA1.hash(b"x"), SHA256: SHA256.hash(b"y")})
    assert not both.is_of({})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", "a/b"),
        (b"./a//b/", "a/b"),
        (b"/a", "a"),
        (b".", "."),
        (b"/", "."),
        (b"../a", "../a"),
        (b"\xff", "\udcff"),
    ],
)
def test_a_name_is_a_path_below_the_root(name: bytes, path: str) -> None:
    assert tidy_path(name) == path


@pytest.mark.parametrize(
    "fields",
    [
        ("", FileKind.FILE, 0o644, "0:0", 3, ABC),
        ("a\0b", FileKind.FILE, 0o644, "0:0", 3, ABC),
        ("a", FileKind.FILE, 0o10000, "0:0", 3, ABC),
        ("a", FileKind.FILE, 0o644, "0:0", 3, ""),
        ("a", FileKind.FILE, 0o644, "0:0", 3, "1:3"),
        ("a", FileKind.FOLDER, 0o644, "0:0", 3, ABC),
        ("a", FileKind.BLOCK_DEVICE, 0o644, "0:0", 3, ""),
        ("a", FileKind.LINK, 0o644, "0:0", 3, "a\0b"),
    ],
)
def test_what_is_no_file_is_not_made(fields: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"is no file|is in no"):
        ListedFile(*fields)


def put(*path: str | int, value: object) -> Callable[[Any], None]:
    def change(top: Any) -> None:
        for step in path[:-1]:
            top = top[step]
        top[path[-1]] = value

    return change


DAMAGE: dict[str, Callable[[Any], None]] = {
    "another format": put("format", value=2),
    "no format": put("format", value="1"),
    "files that are no list": put("files", value={}),
    "a line of another form": put("files", 0, value="x"),
    "a line with a sign": put("files", 0, value=f"-644 0:0 -3 {ABC} a"),
    "a mode that is too large": put("files", 0, value=f"-9 0:0 3 {ABC} a"),
    "a file without content": put("files", 0, value="-644 0:0 3 - a"),
    "a file with a target": put("files", 0, value=f"-644 0:0 3 {ABC} a\0b"),
    "a link without a target": put("files", 0, value="l777 0:0 3 - a"),
    "a folder with content": put("files", 0, value="d755 0:0 3 8:1 a"),
    "a range beyond the files": put("images", 0, "files", 0, value="0-5"),
    "a range backwards": put("images", 0, "files", 0, value="1-0"),
    "no range": put("images", 0, "files", 0, value="0"),
    "digests of another kind": put("images", 0, "digests", value={"md5": "00"}),
    "a digest that is too short": put("images", 0, "digests", "sha256", value="00"),
    "images that are no list": put("images", value=5),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_list_is_refused_by_name(change: Callable[[Any], None]) -> None:
    value = json.loads(dump_lists([ALL]))
    change(value)
    with pytest.raises(EvidenceError, match=r"^the list"):
        load_lists("the list", json.dumps(value).encode())


def test_ranges_blow_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_list_module, "MOST_FILES", 9)
    value = json.loads(dump_lists([ALL]))
    value["images"][0]["files"] = ["0-4"] * 2
    with pytest.raises(EvidenceError, match="more than 9 files"):
        load_lists("x", json.dumps(value).encode())


def test_there_are_not_any_number_of_images() -> None:
    many = [image(b"%d" % number) for number in range(65)]
    assert len(load_lists("x", dump_lists(many[:64]))) == 64
    with pytest.raises(EvidenceError, match="more than 64 images"):
        load_lists("x", dump_lists(many))


@pytest.mark.parametrize("count", [0, 2])
def test_one_list_is_not_none_and_not_two(count: int) -> None:
    with pytest.raises(EvidenceError, match=f"of {count} images"):
        load_list("x", dump_lists([ALL] * count))


PATHS = st.text(st.characters(exclude_characters="\0"), min_size=1)


@given(st.lists(PATHS), st.text(st.characters(exclude_characters="\0")))
def test_any_paths_and_targets_come_back(paths: list[str], target: str) -> None:
    files = [file(path) for path in paths]
    link = ListedFile("l", FileKind.LINK, 0o777, "0:0", 1, target)
    lists = (image(b"1", *files, link), image(b"2", *reversed(files)))
    assert load_lists("x", dump_lists(lists)) == lists
