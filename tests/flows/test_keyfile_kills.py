# SPDX-License-Identifier: GPL-2.0-or-later
"""aemseal is killed while it adds a key: cryptsetup's work is done or not begun."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from luks_disks import PASSPHRASE, UUID
from luks_world import LuksWorld, add_key, enrolled_on_luks
from power_cuts import Point, Watching, kill
from vault_world import OLD, SECRET

from aemseal.flows.keyfile import kept_slot

pytestmark = pytest.mark.tpm

BY_CRYPTSETUP = ("luksAddKey", "token import", "luksHeaderRestore")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    with enrolled_on_luks(tmp_path) as world:
        world.snapshot("start")
        yield world


def points(world: LuksWorld) -> list[Point]:
    """Around each of cryptsetup's steps, and wherever an order may go wrong."""
    running = world.boot_real(OLD)
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        add_key(vault, running)
    watched = {
        number
        for number, step in enumerate(seam.steps)
        if step.startswith(BY_CRYPTSETUP) or step == "NV_Increment"
    }
    return [
        Point(number, seam.steps[number], after=after)
        for number in sorted(watched)
        for after in (False, True)
    ]


def test_killed_around_any_step_of_cryptsetup_disk_and_boot_open(
    world: LuksWorld,
) -> None:
    found = points(world)
    assert {f"{step} {UUID}" for step in BY_CRYPTSETUP} <= {each.name for each in found}
    passes = [each for each in found if each.name == f"luksHeaderRestore {UUID}"]
    for point in found:
        world.restore("start")
        running = world.boot_real(OLD)
        kill(world, partial(add_key, running=running), point)
        world.boot_real(OLD)
        # Between its two passes the header is neither, and that boot is a blind one.
        assert world.text() == SECRET or point in passes[1:-1], point
        assert world.disk.opens(PASSPHRASE), point
        with world.vault() as vault:
            vault.settle()
            slot = kept_slot(vault.require())
        world.boot_real(OLD)
        assert world.text() == SECRET, f"{point}, settled"
        if slot is not None:
            key = world.key()
            assert key is not None, point
            assert world.disk.opens(key), point
