# SPDX-License-Identifier: GPL-2.0-or-later
"""A new generation with a keyfile: a new key in a new header, and the old one gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from anew import ANEW, to_seal
from luks_disks import PASSPHRASE
from luks_world import NOW, PIN, LuksWorld, RealBoot, enrolled_on_luks, key_added
from power_cuts import PowerCut, PowerCutError, Watching
from vault_world import INTERNAL, OLD, SECRET

from aemseal.flows.generation import Anew, change_pin
from aemseal.flows.keyfile import draft_key_anew
from aemseal.flows.moves import STAGED, confirm
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm

CARRIED = (replace(INTERNAL, carried=True),)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    """A text and a keyfile are sealed, and the boot with its header is confirmed."""
    with enrolled_on_luks(tmp_path) as world:
        key_added(world, world.real(OLD))
        running = world.boot_real(OLD)
        with world.vault() as vault:
            confirm(vault, vault.require(), running.sealed)
        yield world


def begun_anew(world: LuksWorld, running: RealBoot, seam: Seam | None = None) -> Anew:
    with world.vault(seam) as vault:
        before = vault.require()
        key, header = draft_key_anew(vault, before, PASSPHRASE, PIN)
        secrets = (*to_seal(), key)
        return change_pin(
            vault,
            before,
            running.policy,
            secrets,
            CARRIED,
            header=header,
            since=NOW,
        )


def test_the_old_key_opens_nothing_and_the_new_one_the_disk(world: LuksWorld) -> None:
    running = world.boot_real(OLD)
    old = world.key()
    assert old
    assert world.disk.opens(old)
    state = begun_anew(world, running).state
    assert state.checked is not None
    assert state.checked.result == STAGED
    world.boot_real(OLD)
    new = world.key()
    assert new
    assert world.disk.opens(new)
    assert not world.disk.opens(old)
    assert world.disk.opens(PASSPHRASE)
    assert world.text() == ANEW
    assert len(world.disk.slots) == 2


def test_wherever_the_power_fails_the_disk_opens_and_the_boot_of_its_header_shows(
    world: LuksWorld,
) -> None:
    running = world.real(OLD)
    world.snapshot("start")
    world.boot(running)
    seam = Watching(world.fingerprint)
    begun_anew(world, running, seam)
    shown = set()
    for at, after in seam.cuts()[::3]:
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(running)
        with pytest.raises(PowerCutError):
            begun_anew(world, running, PowerCut(at, after=after))
        world.boot_real(OLD)
        assert world.text() in (SECRET, ANEW), where
        with world.vault() as vault:
            vault.settle()
            assert vault.settle() is None
        world.boot_real(OLD)
        key = world.key()
        assert key, where
        assert world.disk.opens(key), where
        assert world.disk.opens(PASSPHRASE), where
        assert len(world.disk.slots) == 2, where
        shown.add(world.text())
    assert shown == {SECRET, ANEW}
