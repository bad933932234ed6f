# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files inside an image changed, file by file, for people.

It helps to judge a change and answers for nothing: what is measured is the whole image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.file_list import FileKind, FileList, ListedFile
from aemseal.formats.initramfs import MICROCODE_FOLDER


class Mark(Enum):
    """What became of a file, in the order in which people are told."""

    CHANGED = "~"
    ADDED = "+"
    GONE = "-"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that is not what it was; `path` and `detail` can be shown as they are.

    "path (2)" is the second file of that path: the kernel unpacks it over the first.
    """

    mark: Mark
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.mark.value} {self.path}"


@dataclass(frozen=True, slots=True)
class FileChanges:
    """The files that differ; `note` says why there are none, or what else to know."""

    changes: tuple[FileChange, ...] = ()
    note: str | None = None

    @property
    def counts(self) -> Mapping[Mark, int]:
        """How many files became what."""
        return Counter(each.mark for each in self.changes)


SAME_FILES = "the same files, packed anew"

_KINDS: Mapping[FileKind, str] = {
    FileKind.FILE: "file",
    FileKind.FOLDER: "folder",
    FileKind.LINK: "link",
    FileKind.BLOCK_DEVICE: "block device",
    FileKind.CHARACTER_DEVICE: "character device",
    FileKind.FIFO: "fifo",
    FileKind.SOCKET: "socket",
}


def compare_files(before: FileList, after: FileList) -> FileChanges:
    """Say which files differ, changed ones first, microcode before the others.

    Times and inode numbers are no part of a list, and neither is the order of files.
    """
    old, new = _by_name(before.files), _by_name(after.files)
    changes = [
        *(_both(old[name], new[name], name) for name in new if name in old),
        *(_one(Mark.ADDED, new[name], name) for name in new if name not in old),
        *(_one(Mark.GONE, old[name], name) for name in old if name not in new),
    ]
    found = sorted((each for each in changes if each.detail), key=_rank)
    return FileChanges(tuple(found), None if found else SAME_FILES)


def printable(text: str) -> str:
    r"""Escape what a terminal would not show as it is: "\n", "\x1b", "\udc80"."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


_Name = tuple[str, int]
"""A path, and which of the files of that path."""


def _by_name(files: Iterable[ListedFile]) -> dict[_Name, ListedFile]:
    seen: Counter[str] = Counter()
    named = {}
    for each in files:
        seen[each.path] += 1
        named[each.path, seen[each.path]] = each
    return named


def _rank(change: FileChange) -> tuple[int, bool, str]:
    is_microcode = change.path.startswith(MICROCODE_FOLDER)
    return list(Mark).index(change.mark), not is_microcode, change.path


def _shown(name: _Name) -> str:
    path, number = name
    return printable(path) if number == 1 else f"{printable(path)} ({number})"


def _one(mark: Mark, file: ListedFile, name: _Name) -> FileChange:
    """Tell a file that only one of the images has."""
    told = [_what(file), f"mode {file.mode:o}", *_size_or_content(file)]
    if file.owner != _ROOT:
        told.append(f"owner {file.owner}")
    return FileChange(mark, _shown(name), _detail(told, name))


def _both(old: ListedFile, new: ListedFile, name: _Name) -> FileChange:
    """Tell what differs between a file and itself; the detail is empty for nothing."""
    told = []
    if old.kind is not new.kind:
        told.append(f"{_KINDS[old.kind]} -> {_what(new)}")
        told += _size_or_content(new)
    elif old.kind is FileKind.FILE:
        told += _content_of_both(old, new)
    elif old.content != new.content:
        told.append(f"{printable(old.content)} -> {printable(new.content)}")
    if old.mode != new.mode:
        told.append(f"mode {old.mode:o} -> {new.mode:o}")
    if old.owner != new.owner:
        told.append(f"owner {old.owner} -> {new.owner}")
    if told and old.kind is new.kind and new.path.startswith(MICROCODE_FOLDER):
        told.insert(0, _what(new))
    return FileChange(Mark.CHANGED, _shown(name), _detail(told, name))


def _detail(told: list[str], name: _Name) -> str:
    """Join what is told, and say which file of its path it is, if not the first."""
    _, number = name
    which = {1: "", 2: "; second one of that path", 3: "; third one of that path"}
    more = which.get(number, f"; number {number} of that path")
    return ", ".join(told) + more if told else ""


def _content_of_both(old: ListedFile, new: ListedFile) -> list[str]:
    if old.content == new.content:
        return []
    if old.size == new.size:
        return [f"other content, {new.size} bytes as before"]
    return [f"{old.size} -> {new.size} bytes"]


def _size_or_content(file: ListedFile) -> list[str]:
    if file.kind is FileKind.FILE:
        return [f"{file.size} bytes"]
    return [f"-> {printable(file.content)}"] if file.content else []


def _what(file: ListedFile) -> str:
    is_microcode = file.path.startswith(MICROCODE_FOLDER)
    if is_microcode and file.kind is FileKind.FILE:
        return "CPU microcode"
    return _KINDS[file.kind]


_ROOT = "0:0"
