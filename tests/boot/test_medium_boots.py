# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot medium is not there, is there twice, or is one from before: a sentence each.

The machine is the accepted one in all of them, so whoever changed nothing but the
medium gets no further than that sentence.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from boot_world import BootWorld
from scenes import is_refused, write_down
from tpm_sim.boot_directory import BOOT_UUID
from tpm_sim.boot_disk import make_boot_disk, make_file_system

pytestmark = pytest.mark.tpm

ANOTHER_UUID = "0e5f2c1d-93aa-4b1c-8a77-61d0f5a7c3e2"


def test_a_medium_without_the_sealed_files_is_told_from_a_changed_boot(
    world: BootWorld,
) -> None:
    with world.pc(without_medium=True) as pc:
        is_refused(pc, "No aemseal vault was found on the boot medium.")
        write_down(pc, "medium-empty")


def test_a_medium_that_is_not_plugged_in_is_waited_for_and_then_missed(
    world: BootWorld,
) -> None:
    make_boot_disk(
        world.folder / "disk", world.root / "boot", ANOTHER_UUID, world.cache
    )
    with world.pc(again=True) as pc:
        is_refused(pc, "No aemseal vault was found on the boot medium.")
        write_down(pc, "medium-missing")


def test_the_medium_and_the_boot_from_before_an_update_open_nothing(
    world: BootWorld,
) -> None:
    medium, older = world.root / "boot/aemseal", world.folder / "older"
    shutil.copytree(medium, older)
    world.boot_here()
    world.install_xen(world.cache.xen_new)
    world.did("reseal", "--accept", "xen")
    world.confirm_here()

    world.install_xen(world.cache.xen_old)
    shutil.rmtree(medium)
    older.rename(medium)
    with world.pc() as pc:
        is_refused(pc, "The boot medium is out of date.")
        write_down(pc, "medium-stale")


def test_of_two_disks_with_the_mediums_name_neither_is_taken(
    world: BootWorld, tmp_path: Path
) -> None:
    tree, second = tmp_path / "tree", tmp_path / "second"
    shutil.copytree(world.root / "boot/aemseal", tree / "aemseal")
    make_file_system(second, tree, BOOT_UUID, 8 << 20)
    with world.pc(more_disks=(second,)) as pc:
        is_refused(pc, "Two disks answer to one name.")
        write_down(pc, "medium-twice")
