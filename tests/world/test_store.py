# SPDX-License-Identifier: GPL-2.0-or-later
"""A file is the old one or the new one, whole, wherever the power fails."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from power_cuts import PowerCut, PowerCutError

from aemseal.words.errors import AemsealError, VaultError
from aemseal.world.store import LOCK_FILE, READ_LIMIT, Files

PATH = "/boot/aemseal/acceptance.7"
OLD, NEW = b"old " * 2000, b"new " * 3000


def steps_of(root: Path, *, overwrite: bool) -> list[str]:
    seam = PowerCut()
    files = Files(root, seam)
    if overwrite:
        Files(root).write(PATH, OLD)
    files.write(PATH, NEW)
    return seam.steps


def test_a_write_makes_the_folder_writes_beside_renames_and_syncs(
    tmp_path: Path,
) -> None:
    assert steps_of(tmp_path, overwrite=False) == [
        "make folder /boot",
        "make folder /boot/aemseal",
        f"write {PATH}",
        f"rename {PATH}",
        f"sync {PATH}",
    ]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_cut_anywhere_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, *, overwrite: bool, after: bool
) -> None:
    steps = steps_of(tmp_path / "count", overwrite=overwrite)
    old = OLD if overwrite else None
    seen = set()
    for at, step in enumerate(steps):
        root = tmp_path / f"{at}"
        if overwrite:
            Files(root).write(PATH, OLD)
        with pytest.raises(PowerCutError):
            Files(root, PowerCut(at, after=after)).write(PATH, NEW)
        left = Files(root).read(PATH)
        assert left in (old, NEW), step
        seen.add(left)
        Files(root).write(PATH, NEW)
        assert Files(root).read(PATH) == NEW, f"writing again after {step}"
        assert os.listdir(root / "boot/aemseal") == ["acceptance.7"]  # noqa: PTH208
    assert seen == {old, NEW}


@pytest.mark.parametrize("after", [False, True])
def test_a_cut_while_removing_leaves_the_file_or_none(
    tmp_path: Path, *, after: bool
) -> None:
    for at, step in enumerate(("remove", "sync")):
        Files(tmp_path).write(PATH, OLD)
        seam = PowerCut(at, after=after)
        with pytest.raises(PowerCutError):
            Files(tmp_path, seam).remove(PATH)
        assert seam.steps[-1] == f"{step} {PATH}"
        assert Files(tmp_path).read(PATH) in (OLD, None)
        Files(tmp_path).remove(PATH)
        assert Files(tmp_path).read(PATH) is None


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_the_mode_asked_for_whatever_the_umask_is(
    tmp_path: Path, mode: int
) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            Files(tmp_path).write(PATH, NEW, mode)
        finally:
            os.umask(before)
        found = Files(tmp_path).below_root(PATH).stat().st_mode
        assert stat.S_IMODE(found) == mode


def test_by_default_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    Files(tmp_path).write("/var/lib/aemseal/owner.auth", b"x")
    file = tmp_path / "var/lib/aemseal/owner.auth"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_an_open_mode_of_the_old_file_does_not_live_on(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write(PATH, OLD, 0o666)
    files.write(PATH, NEW, 0o600)
    assert stat.S_IMODE(files.below_root(PATH).stat().st_mode) == 0o600


def test_a_link_planted_at_the_name_itself_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    place = Files(tmp_path).below_root(PATH)
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    Files(tmp_path).write(PATH, NEW)
    assert victim.read_bytes() == OLD
    assert not Files(tmp_path).below_root(PATH).is_symlink()


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "boot"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    for name in ("/boot/fifo", "/boot/device", "/boot"):
        with pytest.raises(VaultError, match=f"^{name} is not a regular file$"):
            Files(tmp_path).read(name)


def test_a_file_larger_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(READ_LIMIT + 1)
    with pytest.raises(VaultError, match=r"^/huge has over 16 MiB"):
        Files(tmp_path).read("/huge")


def test_what_is_not_there_reads_as_none_and_lists_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = Files(tmp_path)
    assert files.read("/nothing") is None
    assert files.read("/file/below") is None
    assert files.names("/nothing") == files.names("/file") == []
    files.remove("/nothing")
    files.remove("/no/folder/nothing")


def test_names_are_sorted(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        Files(tmp_path).write(f"/folder/{name}", b"")
    assert Files(tmp_path).names("/folder") == ["a", "b", "c"]


def test_a_medium_is_a_folder_and_not_a_link_to_one(tmp_path: Path) -> None:
    files = Files(tmp_path)
    (tmp_path / "stick").mkdir()
    assert not files.exists("/stick/aemseal")
    assert files.has_place_for("/stick/aemseal")
    assert not files.has_place_for("/absent/aemseal")
    (tmp_path / "stick/aemseal").symlink_to(tmp_path)
    assert not files.exists("/stick/aemseal")
    assert not files.has_place_for("/stick/aemseal")
    (tmp_path / "stick/aemseal").unlink()
    (tmp_path / "stick/aemseal").mkdir()
    assert files.exists("/stick/aemseal")


def test_an_error_names_the_path_and_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = Files(tmp_path)
    with pytest.raises(AemsealError, match=r"^/file: file exists$"):
        files.write("/file/below", b"")


def test_one_aemseal_at_a_time(tmp_path: Path) -> None:
    one, other = Files(tmp_path), Files(tmp_path)
    with one.lock():
        with (
            pytest.raises(AemsealError, match="another aemseal is at work"),
            other.lock(),
        ):
            raise AssertionError("both hold the lock")
        assert (tmp_path / LOCK_FILE.lstrip("/")).stat().st_mode & 0o777 == 0o600
    with other.lock():
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(KeyError), files.lock():
        raise KeyError
    with files.lock():
        pass
