# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of two images, file by file."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.file_list import FileKind, FileList, ListedFile
from aemseal.measure.file_changes import (
    SAME_FILES,
    FileChange,
    FileChanges,
    Mark,
    compare_files,
    printable,
)
from aemseal.words.digest import HashAlgorithm

ONE, TWO = HashAlgorithm.SHA256.hash(b"1").hex, HashAlgorithm.SHA256.hash(b"2").hex
SHELL = ListedFile("usr/bin/sh", FileKind.FILE, 0o755, "0:0", 10, ONE)
LINK = ListedFile("init", FileKind.LINK, 0o777, "0:0", 6, "usr/sh")
NULL = ListedFile("dev/null", FileKind.CHARACTER_DEVICE, 0o666, "0:0", 0, "1:3")
FOLDER = ListedFile("usr", FileKind.FOLDER, 0o755, "0:0", 0)
OTHER = replace(SHELL, path="other")
MICROCODE = replace(SHELL, path="kernel/x86/microcode/GenuineIntel.bin", mode=0o644)


def told(before: list[ListedFile], after: list[ListedFile]) -> list[str]:
    found = compare(before, after)
    assert (found.note is None) == bool(found.changes)
    return [f"{each} ({each.detail})" for each in found.changes]


def compare(before: list[ListedFile], after: list[ListedFile]) -> FileChanges:
    return compare_files(FileList({}, tuple(before)), FileList({}, tuple(after)))


def test_the_same_files_in_another_order_are_packed_anew() -> None:
    found = compare([SHELL, LINK, FOLDER], [FOLDER, SHELL, LINK])
    assert found == FileChanges((), SAME_FILES)


CHANGES = {
    "another size": (SHELL, replace(SHELL, size=12, content=TWO), "10 -> 12 bytes"),
    "as many other bytes": (
        SHELL,
        replace(SHELL, content=TWO),
        "other content, 10 bytes as before",
    ),
    "another mode": (SHELL, replace(SHELL, mode=0o4755), "mode 755 -> 4755"),
    "another owner": (SHELL, replace(SHELL, owner="5:6"), "owner 0:0 -> 5:6"),
    "everything": (
        SHELL,
        replace(SHELL, mode=0o700, owner="5:6", size=9, content=TWO),
        "10 -> 9 bytes, mode 755 -> 700, owner 0:0 -> 5:6",
    ),
    "a link elsewhere": (
        LINK,
        replace(LINK, content="tmp/\x1b[2Jsh"),
        r"usr/sh -> tmp/\x1b[2Jsh",
    ),
    "another device": (NULL, replace(NULL, content="8:0"), "1:3 -> 8:0"),
    "a link for a file": (
        replace(LINK, path="usr/bin/sh", mode=0o755),
        SHELL,
        "link -> file, 10 bytes",
    ),
    "a file for a link": (
        replace(SHELL, path="init", mode=0o777),
        LINK,
        "file -> link, -> usr/sh",
    ),
    "a file for a folder": (
        replace(SHELL, path="usr"),
        FOLDER,
        "file -> folder",
    ),
    "microcode": (
        MICROCODE,
        replace(MICROCODE, size=12, content=TWO),
        "CPU microcode, 10 -> 12 bytes",
    ),
}


@pytest.mark.parametrize(
    ("before", "after", "detail"), CHANGES.values(), ids=list(CHANGES)
)
def test_a_changed_file_is_told_with_what_differs(
    before: ListedFile, after: ListedFile, detail: str
) -> None:
    assert told([before, OTHER], [OTHER, after]) == [f"~ {after.path} ({detail})"]


def test_added_and_gone_files_are_told_with_what_they_are() -> None:
    owned = replace(SHELL, path="b", owner="1000:100")
    files = [SHELL, LINK, NULL, FOLDER, owned, MICROCODE]
    lines = [
        "kernel/x86/microcode/GenuineIntel.bin (CPU microcode, mode 644, 10 bytes)",
        "b (file, mode 755, 10 bytes, owner 1000:100)",
        "dev/null (character device, mode 666, -> 1:3)",
        "init (link, mode 777, -> usr/sh)",
        "usr (folder, mode 755)",
        "usr/bin/sh (file, mode 755, 10 bytes)",
    ]
    assert told([], files) == [f"+ {each}" for each in lines]
    assert told(files, []) == [f"- {each}" for each in lines]


def test_changed_files_come_before_added_and_gone_ones() -> None:
    found = compare(
        [SHELL, MICROCODE, LINK],
        [replace(SHELL, size=1), replace(MICROCODE, size=1, content=TWO), NULL],
    )
    assert [each.mark for each in found.changes] == [
        Mark.CHANGED,
        Mark.ADDED,
        Mark.GONE,
    ]
    found = compare([SHELL, MICROCODE], [replace(SHELL, mode=0), NULL])
    assert [str(each) for each in found.changes] == [
        "~ usr/bin/sh",
        "+ dev/null",
        "- kernel/x86/microcode/GenuineIntel.bin",
    ]
    assert found.counts == {Mark.CHANGED: 1, Mark.ADDED: 1, Mark.GONE: 1}


def test_a_file_that_is_unpacked_over_another_is_no_secret() -> None:
    """An appended archive overrides files: theirs are told, not hidden behind them."""
    evil = replace(SHELL, content=TWO)
    assert told([SHELL], [SHELL, evil]) == [
        "+ usr/bin/sh (2) (file, mode 755, 10 bytes; second one of that path)"
    ]
    assert told([SHELL, SHELL], [SHELL, evil]) == [
        "~ usr/bin/sh (2) (other content, 10 bytes as before; second one of that path)"
    ]
    ends = [each.rpartition("; ")[2] for each in told([SHELL] * 2, [SHELL] * 4)]
    assert ends == ["third one of that path)", "number 4 of that path)"]
    named_so = replace(SHELL, path="usr/bin/sh (2)")
    assert len(told([named_so], [SHELL, evil, named_so])) == 2


def test_names_are_shown_without_what_a_terminal_would_obey() -> None:
    odd = replace(SHELL, path="a\n\x1b[31m\udcffü")
    (change,) = compare([], [odd]).changes
    assert change == FileChange(
        Mark.ADDED, r"a\n\x1b[31m\udcffü", "file, mode 755, 10 bytes"
    )


@given(st.text())
def test_whatever_is_shown_is_printable(text: str) -> None:
    assert printable(text).isprintable()


FILES = st.lists(
    st.builds(
        ListedFile,
        path=st.sampled_from(["a", "b", "c"]),
        kind=st.just(FileKind.FILE),
        mode=st.sampled_from([0o644, 0o755]),
        owner=st.sampled_from(["0:0", "1:1"]),
        size=st.integers(0, 2),
        content=st.sampled_from([ONE, TWO]),
    ),
    max_size=5,
)


@given(FILES, FILES)
def test_nothing_is_told_exactly_where_each_path_has_the_same_files(
    before: list[ListedFile], after: list[ListedFile]
) -> None:
    same = all(
        [each for each in before if each.path == path]
        == [each for each in after if each.path == path]
        for path in "abc"
    )
    # sizes differ only with contents: what differs in size alone is no real file
    if {(e.content, e.size) for e in [*before, *after]} <= {(ONE, 1), (TWO, 2)}:
        assert (compare(before, after).note == SAME_FILES) == same
    elif same:
        assert compare(before, after).note == SAME_FILES
