# SPDX-License-Identifier: GPL-2.0-or-later
"""The TPM's authorisations change, the power fails, and no value is ever guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from enrolling import file
from power_cuts import PowerCut, PowerCutError, Watching
from unsealer import connected
from vault_world import OLD, Wire, World, enrolled

from aemseal.flows.owner import (
    LOCKOUT_FILE,
    NEXT_LOCKOUT_FILE,
    NEXT_OWNER_FILE,
    OWNER_FILE,
    REFUSED_FILE,
    refused_mark,
    rotate,
)
from aemseal.flows.provision import LOCKOUT
from aemseal.flows.vault import Vault
from aemseal.world.seam import Seam
from aemseal.world.tpm import Hierarchy
from aemseal.world.tpm_lockout import LockoutSettings, lockout_state, set_lockout

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TSS2_Exception

pytestmark = pytest.mark.tpm

WRONG = {
    Hierarchy.OWNER: (0x9A2,),  # TPM_RC_BAD_AUTH, session 1: counts towards nothing
    Hierarchy.LOCKOUT: (0x98E, 0x921),  # TPM_RC_AUTH_FAIL; TPM_RC_LOCKOUT ever after
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with enrolled(tmp_path) as world:
        yield world


def rotated(world: World, seam: Seam | None = None, wire: Wire | None = None) -> None:
    with world.vault(seam, wire) as vault:
        assert not rotate(vault, vault.require().storage, None)


def takes(world: World, hierarchy: Hierarchy, value: bytes) -> bool:
    """Whether the TPM takes this value now, asked by its HierarchyChangeAuth."""
    handle = {Hierarchy.OWNER: ESYS_TR.OWNER, Hierarchy.LOCKOUT: ESYS_TR.LOCKOUT}
    with connected(world.chip.tcti) as esapi:
        esapi.tr_set_auth(esys_handle=handle[hierarchy], auth_value=value)
        try:
            esapi.hierarchy_change_auth(auth_handle=handle[hierarchy], new_auth=value)
        except TSS2_Exception as error:
            code = int(error.rc)
            if code in WRONG[hierarchy]:
                return False
            raise
    return True


def values(world: World) -> tuple[bytes, bytes]:
    return file(world, OWNER_FILE), file(world, LOCKOUT_FILE)


def waits(world: World) -> bool:
    folder = world.root / "var/lib/aemseal"
    return any(each.name.endswith(".next") for each in folder.iterdir())


def test_both_values_change_and_neither_is_on_the_bus(world: World) -> None:
    before = values(world)
    wire = Wire(world.chip.tcti)
    rotated(world, wire=wire)
    after = values(world)
    assert not set(before) & set(after)
    assert not any(wire.tells(each) for each in (*before, *after))
    assert takes(world, Hierarchy.OWNER, after[0])
    assert takes(world, Hierarchy.LOCKOUT, after[1])
    assert not takes(world, Hierarchy.OWNER, before[0])
    assert not takes(world, Hierarchy.LOCKOUT, before[1])


def test_wherever_the_power_fails_the_change_is_finished_and_nothing_guessed(
    world: World,
) -> None:
    """A wrong lockout value once, and this would fail: it is refused for a day."""
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    rotated(world, seam)
    said = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(OLD)
        with pytest.raises(PowerCutError):
            rotated(world, PowerCut(at, after=after))
        world.boot(OLD)
        assert world.opening() == {OLD.name}, where
        with world.vault() as vault:
            said.add(vault.settle())
            assert vault.settle() is None
            vault.publish(vault.require(), "test")
        assert not waits(world), where
        owner, lockout = values(world)
        assert takes(world, Hierarchy.OWNER, owner), where
        assert takes(world, Hierarchy.LOCKOUT, lockout), where
    done = "a change of the TPM's authorisations was cut short: finished it"
    assert said == {None, done}


def test_the_power_may_fail_again_while_the_change_is_finished(world: World) -> None:
    world.snapshot("start")
    seam = Watching(world.fingerprint)
    rotated(world, seam)
    changes = [
        number
        for number, step in enumerate(seam.steps)
        if step == "HierarchyChangeAuth"
    ]
    assert len(changes) == 4
    for first in changes:
        again = 0
        while True:
            world.restore("start")
            world.boot(OLD)
            with pytest.raises(PowerCutError):
                rotated(world, PowerCut(first, after=True))
            world.boot(OLD)
            try:
                with world.vault(PowerCut(again, after=True)) as vault:
                    vault.settle()
            except PowerCutError:
                world.boot(OLD)
                with world.vault() as vault:
                    vault.settle()
                again += 3
            else:
                break
            assert not waits(world)
            assert takes(world, Hierarchy.LOCKOUT, values(world)[1])
            assert takes(world, Hierarchy.OWNER, values(world)[0])


def test_limits_that_somebody_changed_in_between_are_set_again(world: World) -> None:
    """They cut the power while the value was empty, and had the TPM to themselves."""
    seam = Watching(world.fingerprint)
    world.snapshot("start")
    rotated(world, seam)
    change = [
        number
        for number, step in enumerate(seam.steps)
        if step == "HierarchyChangeAuth"
    ]
    world.restore("start")
    world.boot(OLD)
    with pytest.raises(PowerCutError):
        rotated(world, PowerCut(change[2], after=True))
    world.boot(OLD)
    with world.vault() as vault:
        set_lockout(vault.tpm, LockoutSettings(2**31, 1, 1), b"")
    with world.vault() as vault:
        vault.settle()
        assert lockout_state(vault.tpm).settings == LOCKOUT


@pytest.mark.parametrize(("change", "after"), [(2, True), (3, False)])
def test_a_value_that_somebody_set_in_between_is_not_taken_for_ours(
    world: World, change: int, *, after: bool
) -> None:
    """With it they would have the TPM forget every wrong PIN, for ever."""
    seam = Watching(world.fingerprint)
    world.snapshot("start")
    rotated(world, seam)
    steps = [at for at, step in enumerate(seam.steps) if step == "HierarchyChangeAuth"]
    world.restore("start")
    world.boot(OLD)
    with pytest.raises(PowerCutError):
        rotated(world, PowerCut(steps[change], after=after))
    world.boot(OLD)
    with connected(world.chip.tcti) as esapi:
        esapi.hierarchy_change_auth(auth_handle=ESYS_TR.LOCKOUT, new_auth=b"theirs")
    with world.vault() as vault:
        assert "not changed: the TPM" in str(vault.settle())
        assert vault.settle() is None
    assert not waits(world)
    assert file(world, REFUSED_FILE) == refused_mark(values(world)[1])


def test_a_lockout_value_that_the_tpm_takes_for_no_day_waits(world: World) -> None:
    """Anybody with the machine in hands can use a wrong one, at any time."""
    old = values(world)
    assert not takes(world, Hierarchy.LOCKOUT, b"a wrong one")
    with world.vault() as vault:
        (left,) = rotate(vault, vault.require().storage, None)
        assert "after a wrong one the TPM takes none for a day" in left
        assert vault.settle() == f"not changed: {left}"
    assert values(world)[0] != old[0]
    assert values(world)[1] == old[1]
    assert file(world, NEXT_LOCKOUT_FILE) != old[1]


def test_values_of_other_tools_are_left_in_force(world: World) -> None:
    owner, lockout = values(world)
    (world.root / LOCKOUT_FILE.lstrip("/")).unlink()
    with world.vault() as vault:
        left = rotate(vault, vault.require().storage, owner)
    assert left == [
        "the TPM's owner authorisation: another tool keeps it",
        "the TPM's lockout authorisation: another tool set it",
    ]
    assert takes(world, Hierarchy.OWNER, owner)
    assert takes(world, Hierarchy.LOCKOUT, lockout)
    assert not waits(world)


def test_a_lockout_value_that_is_not_the_tpms_is_told_and_used_once(
    world: World,
) -> None:
    (world.root / LOCKOUT_FILE.lstrip("/")).write_bytes(b"of an older disk")
    told = []
    with world.vault() as vault:
        for _ in range(2):
            told += rotate(vault, vault.require().storage, None)
    assert f"it is not the one in {LOCKOUT_FILE}" in told[0]
    assert "refused the value" in told[1]
    assert "not tried again" in told[1]
    assert not waits(world)


def test_a_change_waits_where_our_storage_key_is_gone(world: World) -> None:
    def gone(vault: Vault) -> None:
        with vault.owner_session(vault.require()) as session:
            vault.tpm.esapi.evict_control(
                auth=ESYS_TR.OWNER,
                object_handle=vault.storage.pinned(vault.require().storage),
                persistent_handle=0x81000001,
                session1=session,
            )

    (world.root / NEXT_OWNER_FILE.lstrip("/")).write_bytes(b"the next one")
    with world.vault() as vault:
        gone(vault)
        assert vault.settle() is None
    assert file(world, NEXT_OWNER_FILE) == b"the next one"
