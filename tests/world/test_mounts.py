# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file system a folder lies on, by mountinfo and by-uuid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aemseal.world.mounts import Mounted, mounted

NULL = Path("/dev/null").stat().st_rdev
DEVICE = f"{os.major(NULL)}:{os.minor(NULL)}"
UUID = "7d0c9e1e-2f60-4e2f-b2a5-4a0e4b0f7a11"
"""A character device stands for the disk: by-uuid is followed by number alone."""


def machine(root: Path, *mounts: str, uuids: dict[str, str] | None = None) -> Path:
    (root / "proc/self").mkdir(parents=True)
    lines = [f"36 35 {each} rw - ext4 x rw\n" for each in mounts]
    (root / "proc/self/mountinfo").write_text("".join(lines))
    (root / "dev/disk/by-uuid").mkdir(parents=True)
    for uuid, target in (uuids or {UUID: "/dev/null"}).items():
        (root / "dev/disk/by-uuid" / uuid).symlink_to(target)
    return root


def test_a_folder_is_named_within_its_file_system(tmp_path: Path) -> None:
    root = machine(tmp_path, "0:1 / /", f"{DEVICE} / /boot")
    assert mounted(root, "/boot/aemseal") == Mounted(UUID, "aemseal")


def test_a_subtree_that_is_mounted_is_part_of_the_name(tmp_path: Path) -> None:
    root = machine(tmp_path, "0:1 / /", f"{DEVICE} /@boot /boot")
    assert mounted(root, "/boot/aemseal") == Mounted(UUID, "@boot/aemseal")


def test_the_nearest_mount_counts_and_the_last_one_over_it(tmp_path: Path) -> None:
    root = machine(tmp_path, "0:1 / /", "0:2 / /boot", f"{DEVICE} / /boot")
    assert mounted(root, "/boot/aemseal") == Mounted(UUID, "aemseal")


def test_a_neighbour_with_the_same_beginning_is_no_parent(tmp_path: Path) -> None:
    root = machine(tmp_path, f"{DEVICE} / /", "0:2 / /boo")
    assert mounted(root, "/boot/aemseal") == Mounted(UUID, "boot/aemseal")


def test_escapes_of_mountinfo_are_undone(tmp_path: Path) -> None:
    root = machine(tmp_path, rf"{DEVICE} / /media/my\040stick")
    assert mounted(root, "/media/my stick/aemseal") == Mounted(UUID, "aemseal")


@pytest.mark.parametrize("missing", ["mountinfo", "uuid", "mount", "target"])
def test_what_cannot_be_told_is_not_guessed(tmp_path: Path, missing: str) -> None:
    uuids = {UUID: "/no/such/device"} if missing == "target" else {UUID: "/dev/null"}
    mount = "/elsewhere" if missing == "mount" else "/boot"
    root = machine(tmp_path, f"{DEVICE} / {mount}", uuids=uuids)
    if missing == "mountinfo":
        (root / "proc/self/mountinfo").unlink()
    if missing == "uuid":
        (root / "dev/disk/by-uuid" / UUID).unlink()
        (root / "dev/disk/by-uuid").rmdir()
    assert mounted(root, "/boot/aemseal") is None
