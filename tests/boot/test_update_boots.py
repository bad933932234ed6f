# SPDX-License-Identifier: GPL-2.0-or-later
"""An update of Xen, from the old boot over both to the new one alone."""

from __future__ import annotations

import pytest
from boot_world import SECRET, BootWorld
from scenes import BOOTED, enters_the_root, is_refused, shows_the_secret, write_down

pytestmark = pytest.mark.tpm

BEFORE_UPDATE = r"aemseal: This is the boot from before the update that you staged\."


def stage_new_xen(world: BootWorld) -> None:
    """Boot, install the new Xen's file and stage it; nobody's package says whose."""
    world.boot_here()
    world.install_xen(world.cache.xen_new)
    world.did("reseal", "--accept", "xen")


def test_a_staged_xen_shows_the_secret_and_is_confirmed(world: BootWorld) -> None:
    stage_new_xen(world)
    with world.pc() as pc:
        shows_the_secret(pc)
        record = enters_the_root(pc)
        write_down(pc, "update")
    world.pretend_boot(record)
    assert "\nretired: " in world.did("confirm")


def test_a_xen_that_was_retired_is_refused_for_good(world: BootWorld) -> None:
    stage_new_xen(world)
    world.confirm_here()
    world.install_xen(world.cache.xen_old)
    with world.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 17 differs.")
        write_down(pc, "retired")


def test_the_boot_from_before_a_staged_update_says_that_it_is(
    world: BootWorld,
) -> None:
    stage_new_xen(world)
    world.install_xen(world.cache.xen_old)
    with world.pc() as pc:
        pc.wait_for(BEFORE_UPDATE, BOOTED)
        pc.wait_for(SECRET, 30)
        record = enters_the_root(pc)
        write_down(pc, "before-update")
    world.pretend_boot(record)
    assert '"this_boot": "accepted"' in world.did("status", "--json")
