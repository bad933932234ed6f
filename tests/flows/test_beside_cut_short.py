# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails while one more secret is sealed beside: it is there, or it is not.

The secret that was there before opens on its boot throughout, and on no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from power_cuts import PowerCut, PowerCutError, Watching
from unsealer import RefusedError, connected, lockout_count, unseal
from vault_world import (
    BOOTS,
    EVIL,
    INTERNAL,
    OLD,
    SECRET,
    STICK,
    Boot,
    World,
    enrol,
)

from aemseal.flows.enrol_beside import enrol_beside
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import TEXT, TOTP, Pin, Secret
from aemseal.flows.state import KeptSecret
from aemseal.flows.vault import Vault
from aemseal.words.errors import UsageError, VaultError
from aemseal.world.config import Medium
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm

SEED = bytes(range(0x41, 0x55))
PIN = Pin(b"1998-heron")
MEDIA = (INTERNAL, STICK)
ADDED = ToSeal(Secret(TOTP, TOTP, SEED), PIN)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, with a text behind the PIN."""
    with World(tmp_path) as world:
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, media=MEDIA, pin=PIN)
        yield world


def add(world: World, seam: Seam | None = None) -> None:
    with world.vault(seam) as vault:
        seal_beside(vault, vault.require(), ADDED)


def names(vault: Vault) -> list[str]:
    return [each.name for each in vault.require().secrets]


def found(world: World, boot: Boot, name: str, medium: Medium) -> bytes | None:
    """What the hook gets for this name and the right PIN when this boots."""
    world.launch(boot)
    try:
        return unseal(world.chip.tcti, world.file("", medium), name, PIN.value)
    except (RefusedError, StopIteration):
        return None


def opening(world: World, name: str, value: bytes, medium: Medium) -> set[str]:
    """The boots that get this value; no other boot gets any."""
    got = {boot.name: found(world, boot, name, medium) for boot in BOOTS}
    assert set(got.values()) <= {value, None}
    return {boot for boot, each in got.items() if each is not None}


def test_wherever_the_power_fails_both_open_or_the_first_alone(world: World) -> None:
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    world.boot(OLD)
    add(world, seam)
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(OLD)
        with pytest.raises(PowerCutError):
            add(world, PowerCut(at, after=after))
        world.boot(OLD)
        for medium in MEDIA:
            assert opening(world, TEXT, SECRET, medium) == {OLD.name}, where
        world.boot(OLD)
        with world.vault() as vault:
            said = vault.settle()
            assert vault.settle() is None
            sealed = TOTP in names(vault)
        for medium in MEDIA:
            assert opening(world, TEXT, SECRET, medium) == {OLD.name}, where
            expected = {OLD.name} if sealed else set()
            assert opening(world, TOTP, SEED, medium) == expected, where
        if not sealed:
            add(world)
            assert opening(world, TOTP, SEED, STICK) == {OLD.name}, f"{where}, again"
        outcomes.add((sealed, said))
    assert outcomes == {
        (False, None),
        (False, "enrol was cut short: undid it"),
        (True, "enrol was cut short: finished it"),
        (True, None),
    }


def test_each_opens_with_the_pin_alone_and_a_wrong_one_counts(world: World) -> None:
    add(world)
    world.boot(OLD)
    folder = world.file("", STICK)
    for name, value in ((TEXT, SECRET), (TOTP, SEED)):
        assert unseal(world.chip.tcti, folder, name, PIN.value) == value
        with pytest.raises(RefusedError) as refused:
            unseal(world.chip.tcti, folder, name, b"1998-egret")
        assert refused.value.code & 0xBF == 0x8E, "TPM_RC_AUTH_FAIL"
        with pytest.raises(RefusedError) as refused:
            unseal(world.chip.tcti, folder, name)
        assert refused.value.code & 0xBF == 0x9D, "TPM_RC_POLICY_FAIL"
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 2, "the wrong PINs, and no failed policy"


def test_the_seed_and_the_pin_are_in_no_file(world: World) -> None:
    add(world)
    for path in world.root.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for value in (SEED, PIN.value):
            assert value not in data, path
            assert value.hex().encode() not in data, path
    assert found(world, EVIL, TOTP, INTERNAL) is None


def test_a_second_one_of_the_kind_is_refused_with_nothing_written(
    world: World,
) -> None:
    add(world)
    before = world.fingerprint()
    with (
        world.vault() as vault,
        pytest.raises(VaultError, match="a totp is sealed on this machine already"),
    ):
        seal_beside(vault, vault.require(), ADDED)
    assert world.fingerprint() == before
    assert not (world.root / JOURNAL_FILE.lstrip("/")).exists()


def test_none_is_sealed_without_a_pin_to_media_that_stay(world: World) -> None:
    before = world.fingerprint()
    with (
        world.vault() as vault,
        pytest.raises(UsageError, match="a totp on a medium that stays"),
    ):
        enrol_beside(vault, vault.require(), ToSeal(ADDED.secret))
    assert world.fingerprint() == before


def test_the_state_tells_of_both_and_of_no_value(world: World) -> None:
    add(world)
    with world.vault() as vault:
        state = vault.require()
    assert state.secrets == (KeptSecret(TEXT, TEXT, True), KeptSecret(TOTP, TOTP, True))
    assert PIN.value.decode() not in repr(state)
