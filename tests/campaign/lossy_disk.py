# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that loses in a crash whatever nobody asked it to keep.

What a process asks of the system is recorded, not what the store says it does. Of a
file only what was fsynced is sure to be there; of a folder's entries (made, renamed,
removed) those that its own fsync came after. All others may be there or not, each by
itself, which is more than any file system loses (POSIX.1-2017, fsync and rename).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

Tree = Mapping[str, bytes | None]
"""Each path below the root, with a file's bytes; None is a folder."""

_PENDING_LIMIT = 6
"""More entries than this are lost one by one from the end, not in every choice."""


@dataclass(frozen=True)
class Entry:
    """A change of a folder: at `path` is now this file (0: a folder; None: nothing)."""

    path: str
    file: int | None

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Synced:
    """A folder was fsynced."""

    folder: str


@dataclass(frozen=True)
class Kept:
    """A file was fsynced, with these bytes."""

    file: int
    data: bytes


@dataclass(frozen=True)
class Chip:
    """The TPM keeps this from now on, over a power cut."""

    state: bytes


Event = Entry | Synced | Kept | Chip


def tree_of(root: Path) -> dict[str, bytes | None]:
    """Read everything below a folder."""
    return {
        str(each.relative_to(root)): None if each.is_dir() else each.read_bytes()
        for each in sorted(root.rglob("*"))
    }


class Recorder:
    """Writes down what is done below `root`; `events` are in the order of doing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.files: dict[int, int] = {}
        """Of an inode the number here: the system gives a removed file's away again."""
        self._made = 0
        self.written: dict[int, bytes] = {}
        """What was in a file when it was renamed, fsynced or not."""

    @contextmanager
    def recording(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "fsync", "rename", "replace", "unlink", "mkdir"):
                patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))
            yield

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            is_new = flags & os.O_CREAT and not os.path.lexists(path)
            handle = real(path, flags, *rest, **more)
            if is_new and self._is_below(path):
                self._made += 1
                self.files[os.fstat(handle).st_ino] = -self._made
                self.events.append(Entry(self._name(path), -self._made))
            return handle

        return call

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(handle: int) -> None:
            real(handle)
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if not self._is_below(path):
                return
            if path.is_dir():
                self.events.append(Synced(self._name(path)))
            else:
                self.events.append(Kept(self._file(path), path.read_bytes()))

        return call

    def _replace(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any) -> None:
            file = self._file(Path(source))
            if Path(source).is_file():
                self.written[file] = Path(source).read_bytes()
            real(source, target)
            self.events.append(Entry(self._name(target), file))
            self.events.append(Entry(self._name(source), None))

        return call

    _rename = _replace

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, **more: Any) -> None:
            real(path, **more)
            if self._is_below(path):
                self.events.append(Entry(self._name(path), None))

        return call

    def _mkdir(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, *rest: Any, **more: Any) -> None:
            real(path, *rest, **more)
            if self._is_below(path):
                self.events.append(Entry(self._name(path), 0))

        return call

    def _is_below(self, path: Any) -> bool:
        return Path(path).is_relative_to(self.root)

    def _name(self, path: Any) -> str:
        return str(Path(path).relative_to(self.root))

    def _file(self, path: Path) -> int:
        inode = path.stat().st_ino
        return self.files.get(inode, inode)


def crashes(
    recorder: Recorder, base: Tree, inodes: Mapping[str, int], chip: bytes
) -> Iterator[tuple[Tree, bytes, bool]]:
    """Every disk, with the TPM's state then, that a crash at any moment may leave.

    And whether it has all that was done until then, fsynced or not.
    """
    kept = {inodes[path]: data for path, data in base.items() if data is not None}
    sure: dict[str, int] = {path: inodes.get(path, 0) for path in base}
    pending: list[Entry] = []
    for event in (None, *recorder.events):
        if isinstance(event, Entry):
            pending.append(event)
        elif isinstance(event, Kept):
            kept[event.file] = event.data
        elif isinstance(event, Chip):
            chip = event.state
        elif isinstance(event, Synced):
            for each in pending:
                if each.folder == event.folder:
                    _apply(sure, each)
            pending = [each for each in pending if each.folder != event.folder]
        for survivors in _survivors(pending):
            found = dict(sure)
            for each in survivors:
                _apply(found, each)
            is_whole = survivors == tuple(pending) and all(
                file in kept for file in found.values() if file
            )
            yield _rendered(found, kept, recorder.written), chip, is_whole


def _survivors(pending: list[Entry]) -> Iterator[tuple[Entry, ...]]:
    if len(pending) > _PENDING_LIMIT:
        yield from (tuple(pending[:at]) for at in range(len(pending) + 1))
        return
    for size in range(len(pending) + 1):
        yield from combinations(pending, size)


def _apply(tree: dict[str, int], entry: Entry) -> None:
    if entry.file is None:
        tree.pop(entry.path, None)
    else:
        tree[entry.path] = entry.file


def _rendered(
    tree: Mapping[str, int], kept: Mapping[int, bytes], written: Mapping[int, bytes]
) -> Tree:
    """Half of what was written is there of a file that was never fsynced."""
    found: dict[str, bytes | None] = {}
    for path, file in sorted(tree.items()):
        folder = path.rpartition("/")[0]
        if folder and folder not in found:
            continue  # in a folder that was lost
        half = written.get(file, b"")
        found[path] = None if file == 0 else kept.get(file, half[: len(half) // 2])
    return found
