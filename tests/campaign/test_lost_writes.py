# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash that loses all that was not fsynced: nothing is lost that was promised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from campaign_cases import Case, beginning, case_called, spread
from lossy_disk import Chip, Recorder, Tree, crashes, tree_of
from vault_world import World
from verdict import held

from aemseal.words.errors import VaultError
from aemseal.world import store
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm

CRASHES_EACH = 6
Crash = tuple[Tree, bytes]


class Noting(Seam):
    """Notes what the TPM keeps after each step that changes it."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.world, self.recorder = world, recorder
        self.last = world.chip_state

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        yield
        state = self.world.chip_state
        if state != self.last:
            self.last = state
            self.recorder.events.append(Chip(state))


def crashes_of(world: World, case: Case, *, every: bool) -> list[Crash]:
    """Make the move; return every state that a crash may leave, each once.

    Not `every` one, but those in which something is lost: the others are met by the
    kills too.
    """
    world.boot(case.running)
    base = tree_of(world.root)
    inodes = {
        path: (world.root / path).stat().st_ino
        for path, data in base.items()
        if data is not None
    }
    recorder = Recorder(world.root)
    before = world.chip_state
    seam = Noting(world, recorder)
    with recorder.recording(), world.vault(seam) as vault:
        case.move(vault)
    found: dict[bytes, Crash] = {}
    whole = set()
    for tree, chip, is_whole in crashes(recorder, base, inodes, before):
        digest = _digest(tree, chip)
        found[digest] = (tree, chip)
        if is_whole:
            whole.add(digest)
    return [each for digest, each in found.items() if every or digest not in whole]


def _digest(tree: Tree, chip: bytes) -> bytes:
    return hashlib.sha256(repr(sorted(tree.items())).encode() + chip).digest()


def require_held(world: World, case: Case, *, every: bool = False) -> int:
    """Hold the machine to its promises after every crash; return how many."""
    found = crashes_of(world, case, every=every)
    found = found if every else spread(found, CRASHES_EACH)
    for number, (tree, chip) in enumerate(found):
        world.restore("start")
        world.put(tree, chip)
        world.boot(case.running)
        held(world, case, f"crash {number}")
    return len(found)


IN_SHORT = ("enrol, two media", "stage", "settle (undo)", "recover")


@pytest.mark.parametrize("name", IN_SHORT)
def test_a_crash_loses_nothing_that_was_promised(tmp_path: Path, name: str) -> None:
    case = case_called(name)
    with beginning(case, tmp_path) as world:
        assert require_held(world, case) >= 3


def test_without_the_folders_sync_a_crash_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_called("stage")
    with beginning(case, tmp_path) as world:
        monkeypatch.setattr(store, "_sync_folder", lambda folder: None)
        with pytest.raises(AssertionError):
            require_held(world, case)


def test_without_the_files_sync_a_crash_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_new(place: Path, data: bytes, mode: int) -> None:
        place.write_bytes(data)

    case = case_called("stage")
    with beginning(case, tmp_path) as world:
        monkeypatch.setattr(store, "_write_new", write_new)
        with pytest.raises(VaultError, match="is damaged"):
            require_held(world, case)
