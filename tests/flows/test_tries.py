# SPDX-License-Identifier: GPL-2.0-or-later
"""A PIN's tries: what uses them up, what is told before they are, and what brings
them back. Run on swtpm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attacker import AEM_SRK_PUBLIC, Attacker
from enrolling import file
from power_cuts import PowerCut, PowerCutError
from unsealer import RefusedError, connected, unseal
from vault_world import INTERNAL, NEW, OLD, SECRET, World, enrol

from aemseal.flows.moves import stage
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE, REFUSED_FILE
from aemseal.flows.provision import set_lockout_if_ours
from aemseal.flows.secret import Pin
from aemseal.flows.tries import Forgotten, Tries, forget_tries, read_tries
from aemseal.world.tpm import Hierarchy
from aemseal.world.tpm_lockout import LockoutSettings, set_lockout

pytestmark = pytest.mark.tpm

PIN = b"heron-1998"
RC_LOCKOUT = 0x921


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen; its text has a PIN."""
    with World(tmp_path) as world:
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, pin=Pin(PIN))
        yield world


def typing(world: World, pin: bytes) -> bytes:
    return unseal(world.chip.tcti, world.root / INTERNAL.path.lstrip("/"), pin=pin)


def tries(world: World) -> Tries:
    with world.vault() as vault:
        return read_tries(vault.tpm)


def forgotten(world: World) -> Forgotten:
    with world.vault() as vault:
        return forget_tries(vault)


def another_tool_sets_the_lockout_value(world: World) -> None:
    value = file(world, LOCKOUT_FILE)
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, value)
        vault.tpm.change_auth(Hierarchy.LOCKOUT, b"another tool's", session)


def use_up(world: World, times: int) -> None:
    """Type the right PIN and pull the plug, so often."""
    for _ in range(times):
        assert typing(world, PIN) == SECRET
        world.boot(OLD)


def guess_at_a_key_of_another_tool(world: World) -> None:
    with connected(world.chip.tcti) as esapi:
        key = Attacker(esapi, file(world, OWNER_FILE)).primary(AEM_SRK_PUBLIC, b"right")
        esapi.tr_set_auth(esys_handle=key, auth_value=b"wrong")
        with pytest.raises(Exception, match="tpm:"):
            esapi.create(parent_handle=key, in_sensitive=None, in_public="ecc")
        esapi.flush_context(flush_handle=key)


# --- the trap ---


def test_a_right_pin_and_a_power_cut_count_and_confirm_forgets_them(
    world: World,
) -> None:
    for counted in (1, 2, 3):
        use_up(world, 1)
        assert tries(world) == Tries(counted, 32)
    assert forgotten(world) == Forgotten(3)
    assert tries(world) == Tries(0, 32)
    assert typing(world, PIN) == SECRET


def test_a_right_pin_and_an_orderly_shutdown_do_not_count(world: World) -> None:
    assert typing(world, PIN) == SECRET
    world.chip.power_off()
    world.chip.power_on()
    assert tries(world) == Tries(0, 32)


def test_the_trap_bites_after_32_power_cuts_and_is_told_before(world: World) -> None:
    warned_at = None
    for counted in range(32):
        if warned_at is None and tries(world).warning is not None:
            warned_at = counted
        use_up(world, 1)
    assert warned_at == 25
    assert tries(world) == Tries(32, 32)
    with pytest.raises(RefusedError) as no:
        typing(world, PIN)
    assert no.value.code == RC_LOCKOUT
    told = tries(world).warning or ""
    assert told.startswith("0 of 32 tries are left")
    assert "aemseal confirm" in told
    # moves need no object that lockout guards, and what brings the tries back is one
    with world.vault() as vault:
        state = stage(vault, vault.require(), OLD.policy, NEW.sealed)
        assert {each.name for each in state.staged} == {NEW.name}
        assert vault.tpm.permanent().in_lockout
    assert forgotten(world) == Forgotten(32)
    assert typing(world, PIN) == SECRET


def test_a_text_without_a_pin_opens_in_lockout(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        world.enrol(OLD)
        with world.vault() as vault:
            one = LockoutSettings(max_tries=1, recovery=7200, lockout_recovery=86400)
            set_lockout(vault.tpm, one, file(world, LOCKOUT_FILE))
        guess_at_a_key_of_another_tool(world)
        with world.vault() as vault:
            assert vault.tpm.permanent().in_lockout
        assert world.unseal() == SECRET


# --- what was counted, in words ---


@pytest.mark.parametrize(
    ("counted", "most", "is_told"),
    [(24, 32, False), (25, 32, True), (0, 3, False), (1, 3, True), (40, 32, True)],
)
def test_few_tries_are_told_and_enough_are_not(
    counted: int, most: int, is_told: bool
) -> None:
    assert (Tries(counted, most).warning is not None) is is_told


# --- the lockout value ---


def test_where_nothing_was_counted_the_lockout_value_is_not_used(world: World) -> None:
    another_tool_sets_the_lockout_value(world)
    assert forgotten(world) == Forgotten(0)
    assert not (world.root / REFUSED_FILE.lstrip("/")).exists()


def test_a_lockout_value_that_was_refused_is_never_tried_again(world: World) -> None:
    another_tool_sets_the_lockout_value(world)
    use_up(world, 1)
    first = forgotten(world)
    assert first.counted == 1
    assert "another tool set one" in (first.trouble or "")
    again = forgotten(world)
    assert "has refused the value" in (again.trouble or "")
    assert tries(world) == Tries(1, 32)


@pytest.mark.parametrize("after", [False, True])
def test_a_cut_in_the_middle_refuses_no_lockout_value(
    world: World, *, after: bool
) -> None:
    use_up(world, 1)
    dry = PowerCut()
    world.snapshot("counted")
    with world.vault(dry) as vault:
        forget_tries(vault)
    at = dry.steps.index("DictionaryAttackLockReset")
    world.restore("counted")
    world.boot(OLD)
    with pytest.raises(PowerCutError), world.vault(PowerCut(at, after=after)) as vault:
        forget_tries(vault)
    world.boot(OLD)
    assert forgotten(world).trouble is None
    assert tries(world).counted == 0


def test_no_other_flow_tries_it_again_either(world: World) -> None:
    five = LockoutSettings(max_tries=5, recovery=7200, lockout_recovery=1)
    with world.vault() as vault:
        set_lockout(vault.tpm, five, file(world, LOCKOUT_FILE))
    another_tool_sets_the_lockout_value(world)
    with world.vault() as vault:
        assert not set_lockout_if_ours(vault)
    use_up(world, 1)
    assert "has refused the value" in (forgotten(world).trouble or "")


def test_a_value_put_right_is_tried(world: World) -> None:
    another_tool_sets_the_lockout_value(world)
    use_up(world, 1)
    assert forgotten(world).trouble is not None
    (world.root / LOCKOUT_FILE.lstrip("/")).write_bytes(b"another tool's")
    # the TPM takes none for a day after the wrong one: that says nothing of this one
    for _ in range(2):
        assert "takes no lockout value for now" in (forgotten(world).trouble or "")
    assert not (world.root / REFUSED_FILE.lstrip("/")).exists()


def test_a_lockout_value_of_another_tool_is_told(world: World) -> None:
    use_up(world, 1)
    (world.root / LOCKOUT_FILE.lstrip("/")).unlink()
    found = forgotten(world)
    assert found.counted == 1
    assert f"{LOCKOUT_FILE} is missing" in (found.trouble or "")
