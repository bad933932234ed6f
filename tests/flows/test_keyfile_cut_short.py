# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails while a key is added: the disk opens, the accepted boots show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from luks_disks import PASSPHRASE, UUID
from luks_world import LuksWorld, RealBoot, add_key, enrolled_on_luks, key_added
from power_cuts import PowerCut, PowerCutError, Watching
from vault_world import OLD, SECRET

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.keyfile import kept_slot, remove_keys
from aemseal.flows.luks_boots import lost_key
from aemseal.flows.moves import ACCEPTED, STAGED, confirm, standing
from aemseal.flows.vault import Vault

pytestmark = pytest.mark.tpm


RESTORE = f"luksHeaderRestore {UUID}"
"""Twice: the secondary header with the key slots, then the primary one."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LuksWorld]:
    with enrolled_on_luks(tmp_path) as world:
        yield world


def cut(
    world: LuksWorld, at: int, *, after: bool, move: Callable[[Vault], object]
) -> None:
    with pytest.raises(PowerCutError), world.vault(PowerCut(at, after=after)) as vault:
        move(vault)


def settled(world: LuksWorld) -> str | None:
    with world.vault() as vault:
        said = vault.settle()
        assert vault.settle() is None
        return said


def assert_whole(world: LuksWorld, running: RealBoot, where: str) -> None:
    """The boot of the header that is on the disk shows the text, and is on record."""
    assert world.disk.opens(PASSPHRASE), where
    world.boot(running)
    assert world.text() == SECRET, where
    with world.vault() as vault:
        assert standing(vault.require(), running.policy) in (ACCEPTED, STAGED), where


def test_wherever_the_power_fails_disk_and_accepted_boots_open(
    world: LuksWorld,
) -> None:
    running = world.real(OLD)
    world.snapshot("start")
    world.boot(running)
    seam = Watching(world.fingerprint)
    key_added(world, running, seam)
    passes = [at for at, step in enumerate(seam.steps) if step == RESTORE]
    assert len(passes) == 2
    between_headers = (passes[0], True)
    assert between_headers in seam.cuts()
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(running)
        cut(world, at, after=after, move=lambda vault: add_key(vault, running))
        assert world.disk.opens(PASSPHRASE), where
        if (at, after) == between_headers:
            world.boot_real(OLD)
            assert world.text() is None, "this one boot is blind"
        else:
            assert_whole(world, world.real(OLD), where)
        said = settled(world)
        now = world.real(OLD)
        assert_whole(world, now, f"{where}, settled")
        left = (world.root / "var/lib/aemseal").glob("luks-*")
        assert not list(left), where
        with world.vault() as vault:
            slot = kept_slot(vault.require())
            assert lost_key(vault.require()) is None
        key = world.key() if slot else None
        assert (slot is None) == (now.luks == running.luks), where
        if slot is not None:
            assert key, where
            assert world.disk.opens(key), where
        else:
            assert world.disk.slots == [0], where
            with world.vault() as vault:  # and the same again from here
                add_key(vault, now)
            assert_whole(world, world.real(OLD), f"{where}, then again")
        outcomes.add((slot is not None, said))
    assert outcomes == {
        (False, None),
        (False, "enrol was cut short: undid it"),
        (False, "stage was cut short: undid it"),
        (False, "stage was cut short: finished it"),
        (True, "enrol was cut short: finished it"),
        (True, None),
    }


def promised(world: LuksWorld, running: RealBoot) -> None:
    """Cut right before the header is installed."""
    world.snapshot("dry")
    seam = PowerCut()
    key_added(world, running, seam)
    at = seam.steps.index(RESTORE)
    world.restore("dry")
    world.boot(running)
    cut(world, at, after=False, move=lambda vault: add_key(vault, running))
    world.boot(running)


def test_a_cut_before_the_header_is_on_the_disk_is_finished(world: LuksWorld) -> None:
    promised(world, world.real(OLD))
    assert world.disk.slots == [0]
    assert settled(world) == "enrol was cut short: finished it"
    assert world.disk.slots == [0, 1]


def test_a_cut_in_the_middle_of_the_header_is_finished(world: LuksWorld) -> None:
    """That one boot is blind: no header that is half there can be foreseen."""
    running = world.real(OLD)
    promised(world, running)
    with world.vault() as vault:
        draft = vault.files.below_root(vault.headers.draft_file(UUID)).read_bytes()
    half = 0x8000 + 0x40000
    device = world.disk.path.read_bytes()
    world.disk.path.write_bytes(draft[:half] + device[half:])
    blind = world.boot_real(OLD)
    assert world.disk.opens(PASSPHRASE)
    assert world.text() is None
    assert settled(world) == "enrol was cut short: finished it"
    now = world.boot_real(OLD)
    assert now.luks not in (running.luks, blind.luks)
    assert world.text() == SECRET
    key = world.key()
    assert key
    assert world.disk.opens(key)


def test_a_header_that_somebody_changed_meanwhile_is_left_and_the_vault_settles(
    world: LuksWorld,
) -> None:
    running = world.real(OLD)
    promised(world, running)
    world.disk.add(b"somebody's key")
    theirs = world.disk.path.read_bytes()
    said = settled(world)
    assert said == (
        "enrol was cut short: finished it; but the sealed keyfile opens no disk: the "
        "LUKS header changed while the key was being added, and was left as it is"
    )
    assert world.disk.path.read_bytes() == theirs
    assert not (world.root / JOURNAL_FILE.lstrip("/")).exists()
    world.boot(running)
    assert world.text() == SECRET, "the vault itself is whole"


def test_the_power_may_fail_while_that_is_told_too(world: LuksWorld) -> None:
    running = world.real(OLD)
    promised(world, running)
    world.disk.add(b"somebody's key")
    world.snapshot("changed")
    world.boot(running)
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        vault.settle()
    for at, after in seam.cuts():
        world.restore("changed")
        world.boot(running)
        cut(world, at, after=after, move=Vault.settle)
        world.boot(running)
        settled(world)
        with world.vault() as vault:
            assert lost_key(vault.require()) is not None
            assert vault.files.read(vault.headers.draft_file(UUID)) is None
        assert world.disk.opens(b"somebody's key")


def test_the_power_may_fail_while_a_key_is_taken_out(world: LuksWorld) -> None:
    state = key_added(world, world.real(OLD))
    new = world.boot_real(OLD)
    key = world.key()
    assert key
    with world.vault() as vault:
        state = confirm(vault, state, new.sealed).state
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    world.boot(new)
    with world.vault(seam) as vault:
        remove_keys(vault, [state])
    for at, after in seam.cuts():
        world.restore("start")
        world.boot(new)
        cut(world, at, after=after, move=lambda vault: remove_keys(vault, [state]))
        with world.vault() as vault:
            assert remove_keys(vault, [state]) == []
        assert (world.disk.slots, world.disk.tokens) == ([0], [])
        assert world.disk.opens(PASSPHRASE)
        assert not world.disk.opens(key)
