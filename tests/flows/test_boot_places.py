# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the initramfs is told to look for the media."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aemseal.flows.boot_places import boot_places
from aemseal.formats.boot_conf import MediumPlace
from aemseal.words.errors import VaultError
from aemseal.world.config import Medium

UUID = "7d0c9e1e-2f60-4e2f-b2a5-4a0e4b0f7a11"


def mounted_at(root: Path, point: str) -> None:
    """Have a file system mounted there; a character device stands for its disk."""
    number = Path("/dev/null").stat().st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    (root / "proc/self").mkdir(parents=True)
    line = f"36 35 {device} / {point} rw - ext4 x rw\n"
    (root / "proc/self/mountinfo").write_text(line)
    (root / "dev/disk/by-uuid").mkdir(parents=True)
    (root / "dev/disk/by-uuid" / UUID).symlink_to("/dev/null")


def test_a_medium_is_found_where_it_is_mounted_from(tmp_path: Path) -> None:
    mounted_at(tmp_path, "/boot")
    [place] = boot_places(tmp_path, [Medium("stick", "/boot/aemseal")])
    assert place == MediumPlace(f"UUID={UUID}", "aemseal")


def test_the_configuration_is_believed_before_the_mount(tmp_path: Path) -> None:
    mounted_at(tmp_path, "/boot")
    named = Medium("stick", "/boot/aemseal", device="LABEL=aem", folder="a/b")
    by_path = Medium("other", "/media/vault/", device="LABEL=aem2")
    assert boot_places(tmp_path, [named, by_path]) == (
        MediumPlace("LABEL=aem", "a/b"),
        MediumPlace("LABEL=aem2", "vault"),
    )


def test_below_another_root_a_medium_that_nobody_told_of_is_left_out(
    tmp_path: Path,
) -> None:
    assert boot_places(tmp_path, [Medium("stick", "/boot/aemseal")]) == ()


@pytest.mark.parametrize(
    ("root", "medium"),
    [
        (Path("/"), Medium("stick", "/proc/no such folder")),
        (Path("/elsewhere"), Medium("stick", "/a b", device="LABEL=aem")),
    ],
    ids=["on a running system", "of a name that no initramfs reads"],
)
def test_a_medium_that_cannot_be_found_at_boot_is_refused_by_name(
    root: Path, medium: Medium
) -> None:
    with pytest.raises(VaultError, match="finds the medium stick is unknown") as told:
        boot_places(root, [medium])
    assert "device: UUID=" in (told.value.hint or "")
