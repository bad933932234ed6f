# SPDX-License-Identifier: GPL-2.0-or-later
"""A medium's folder that was in other hands stops no write, and loses nothing."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aemseal.words.errors import AemsealError
from aemseal.world.seam import Seam
from aemseal.world.store import Files

FOLDER = "/boot/aemseal"
PATH = f"{FOLDER}/acceptance.7"
OLD, NEW = b"the old one", b"the new one"
LEFT = ".acceptance.6.0123456789abcdef.new"


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    return folder


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


class Watching(Seam):
    """Keeps what the folder holds whenever a step begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[set[str]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.seen.append(names(self.folder))
        with super().step(what):
            yield


def temporary_names(root: Path, medium: Path) -> set[str]:
    seam = Watching(medium)
    Files(root, seam).write(PATH, NEW)
    return set().union(*seam.seen) - {"acceptance.7"}


def test_the_temporary_name_is_another_one_each_time(
    tmp_path: Path, medium: Path
) -> None:
    found = [temporary_names(tmp_path, medium) for _ in range(3)]
    for each in found:
        (name,) = each
        assert re.fullmatch(r"\.acceptance\.7\.[0-9a-f]{16}\.new", name)
    assert len(set().union(*found)) == 3
    assert names(medium) == {"acceptance.7"}


@pytest.mark.parametrize("name", [".acceptance.7.new", "acceptance.7"])
@pytest.mark.parametrize("full", [False, True])
def test_a_folder_at_a_name_that_can_be_known_stops_no_write(
    tmp_path: Path, medium: Path, name: str, *, full: bool
) -> None:
    (medium / name).mkdir()
    if full:
        (medium / name / "inside").write_bytes(b"somebody's")
    Files(tmp_path).write(PATH, NEW)
    assert Files(tmp_path).read(PATH) == NEW
    Files(tmp_path).write(PATH, OLD)
    assert Files(tmp_path).read(PATH) == OLD
    inside = [each.read_bytes() for each in medium.glob("**/inside")]
    assert inside == [b"somebody's"] * full, "it is not ours: it is kept"


def test_what_a_cut_left_is_swept_by_the_next_write_in_that_folder(
    tmp_path: Path, medium: Path
) -> None:
    (medium / LEFT).write_bytes(b"half a fi")
    (medium / ".acceptance.7.fedcba9876543210.new").write_bytes(b"")
    Files(tmp_path).write(PATH, NEW)
    assert names(medium) == {"acceptance.7"}


def test_what_is_not_ours_is_not_swept(tmp_path: Path, medium: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    (medium / LEFT).symlink_to(victim)
    os.mkfifo(medium / LEFT.replace("6", "5", 1))
    (medium / LEFT.replace("6", "4", 1)).mkdir()
    for name in (".acceptance.6.new", ".new", "vault", ".x.0123.new", ".swp"):
        (medium / name).write_bytes(OLD)
    before = names(medium)
    Files(tmp_path).write(PATH, NEW)
    assert names(medium) == before | {"acceptance.7"}
    assert victim.read_bytes() == OLD


GUESSED = ".acceptance.7.0123456789abcdef.new"


def plant_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def plant_hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def plant_fifo(place: Path, victim: Path) -> None:
    os.mkfifo(place)
    assert not victim.samefile(place)


@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_fifo])
def test_even_a_name_that_was_guessed_opens_nothing(
    tmp_path: Path,
    medium: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[Path, Path], None],
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    plant(medium / GUESSED, victim)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0123456789abcdef")
    if plant is plant_hard_link:  # a regular file, as a cut leaves: it gives way
        Files(tmp_path).write(PATH, NEW)
        assert Files(tmp_path).read(PATH) == NEW
    else:
        with pytest.raises(AemsealError, match=f"^{PATH}: file exists$"):
            Files(tmp_path).write(PATH, NEW)
    assert victim.read_bytes() == OLD


def test_a_write_that_fails_leaves_nothing_beside(
    tmp_path: Path, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Files(tmp_path).write(PATH, OLD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AemsealError, match=f"^{PATH}: no space left on device$"):
            Files(tmp_path).write(PATH, NEW)
    assert names(medium) == {"acceptance.7"}
    assert Files(tmp_path).read(PATH) == OLD


def test_an_error_names_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "boot").write_bytes(b"a file where the folder was")
    with pytest.raises(AemsealError, match=r"^/boot: file exists$"):
        Files(tmp_path).write(PATH, NEW)


def test_a_folder_is_no_file_of_ours_to_remove(tmp_path: Path, medium: Path) -> None:
    (medium / "acceptance.7").mkdir()
    Files(tmp_path).remove(PATH)
    assert names(medium) == {"acceptance.7"}
    (medium / "acceptance.6").symlink_to(medium / "acceptance.7")
    Files(tmp_path).remove(f"{FOLDER}/acceptance.6")
    assert names(medium) == {"acceptance.7"}


def test_a_medium_that_cannot_be_looked_at_is_not_at_hand(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for folder in (f"/{'long' * 99}/aemseal", f"/{'long' * 99}"):
        assert not files.exists(folder)
        assert not files.is_same(folder, "/")
    assert not files.has_place_for(f"/{'long' * 99}/aemseal")
    assert files.is_same("/", "/.")
