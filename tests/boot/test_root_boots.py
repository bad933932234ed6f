# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that somebody put in beside the genuine one: none of them is entered."""

from __future__ import annotations

from pathlib import Path

import pytest
from boot_world import PROMPT, VERDICT, BootWorld
from scenes import is_refused, shows_the_secret, write_down
from tpm_sim.boot_directory import LUKS_UUID
from tpm_sim.luks_root import PASSPHRASE, make_luks_root, make_plain_root

pytestmark = pytest.mark.tpm

IMPOSTOR = "THE-IMPOSTOR-WAS-ENTERED"
TWO_ROOTS = "Two disks answer to the name of the root."
BY_VOLUME = f"root=/dev/mapper/luks-{LUKS_UUID}"


def test_a_second_disk_with_the_roots_label_is_not_entered(
    world: BootWorld, tmp_path: Path
) -> None:
    """It is what blkid and udev may well take, beneath a secret that is genuine."""
    world.accept_menu(BY_VOLUME, "root=LABEL=root")
    second = tmp_path / "second"
    make_plain_root(second, world.cache, IMPOSTOR)
    with world.pc(more_disks=(second,)) as pc:
        shows_the_secret(pc)
        pc.wait_for(PROMPT, 90)
        pc.type(PASSPHRASE.decode())
        pc.wait_for(f"aemseal: {TWO_ROOTS} Nothing of it was started", 90)
        pc.wait_until_off(60)
        write_down(pc, "root-label-twice")
        assert VERDICT not in pc.console
        assert IMPOSTOR not in pc.console


def test_a_root_named_by_its_label_is_entered_where_there_is_one(
    world: BootWorld,
) -> None:
    world.accept_menu(BY_VOLUME, "root=LABEL=root")
    with world.pc() as pc:
        shows_the_secret(pc)
        pc.wait_for(PROMPT, 90)
        pc.type(PASSPHRASE.decode())
        pc.wait_for(VERDICT, 120)
        pc.wait_until_off(60)


def test_a_second_disk_with_the_same_luks_uuid_is_refused_before_the_secret(
    world: BootWorld, tmp_path: Path
) -> None:
    """It would take the passphrase; its key is another's."""
    second = tmp_path / "second"
    make_luks_root(second, LUKS_UUID, world.cache, IMPOSTOR)
    with world.pc(more_disks=(second,)) as pc:
        is_refused(pc, "Two disks answer to one name.")
        write_down(pc, "luks-twice")
        assert IMPOSTOR not in pc.console
