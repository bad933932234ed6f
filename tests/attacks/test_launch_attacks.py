# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the launch, on PCR 13 and its cap, and on the bank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tpm_sim import wire
from tpm_sim.swtpm import LOCALITY_LAUNCHED
from unsealer import SHA256, Unsealer, connected, lockout_count
from vault_world import EVIL, LUKS_HEADER, NEW, OLD, SECRET, SINIT, Boot, World
from victim import (
    RC_BRANCH,
    RC_POLICY_FAIL,
    attacking,
    code_of,
    stopped_at_the_branches,
    unsealing,
    victim,
)

from aemseal.formats.hook_files import CAP_DATA
from aemseal.words.digest import HashAlgorithm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

RC_PCR_CHANGED = 0x128
RC_LOCALITY = 0x907


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


# --- the launch, PCR 13 and the cap ---


def test_without_a_launch_nothing_opens(world: World) -> None:
    world.power_cycle()
    world.extend(13, LUKS_HEADER)
    assert world.chip.read_pcrs(SHA256)[17] == SHA256.ones()
    stopped_at_the_branches(world)


def test_extends_from_locality_2_without_a_launch_are_no_launch(world: World) -> None:
    world.power_cycle()
    world.extend(13, LUKS_HEADER)
    for pcr, data in ((17, SINIT), (17, b"policy"), (18, NEW.xen)):
        world.extend(pcr, SHA256.hash(data).value, LOCALITY_LAUNCHED)
    assert world.chip.read_pcrs(SHA256)[17] != NEW.pcrs[17]
    stopped_at_the_branches(world)


def test_extends_behind_another_launch_do_not_make_it_the_accepted_one(
    world: World,
) -> None:
    world.boot(EVIL)
    world.extend(18, SHA256.hash(NEW.xen).value, LOCALITY_LAUNCHED)
    stopped_at_the_branches(world)


@pytest.mark.parametrize("pcr", [17, 18, 19])
def test_the_operating_systems_locality_extends_no_launch_pcr(
    world: World, pcr: int
) -> None:
    with attacking(world) as attacker:
        handle = getattr(ESYS_TR, f"PCR{pcr}")
        code = code_of(
            lambda: attacker.do("pcr_event", pcr_handle=handle, event_data=b"x")
        )
    assert code == RC_LOCALITY


@pytest.mark.parametrize("pcr", [13, 17, 18, 19])
@pytest.mark.parametrize("locality", [0, 2])
def test_no_sealed_pcr_is_reset_by_software(
    world: World, pcr: int, locality: int
) -> None:
    world.chip.set_locality(locality)
    try:
        with attacking(world) as attacker:
            handle = getattr(ESYS_TR, f"PCR{pcr}")
            code = code_of(lambda: attacker.do("pcr_reset", pcr_handle=handle))
    finally:
        world.chip.set_locality(0)
    assert code == RC_LOCALITY


def test_pcr_13_of_another_disk_opens_nothing(world: World) -> None:
    world.boot(replace(NEW, luks=SHA256.hash(b"the attacker's header").value))
    stopped_at_the_branches(world)


def test_pcr_13_not_measured_opens_nothing(world: World) -> None:
    world.power_cycle()
    world.launch(NEW)
    stopped_at_the_branches(world)


def test_pcr_13_forged_on_another_boot_opens_nothing(world: World) -> None:
    world.power_cycle()
    world.launch(EVIL)
    world.extend(13, LUKS_HEADER)  # the header is there for all to read
    assert world.chip.read_pcrs(SHA256)[13] == NEW.pcrs[13]
    stopped_at_the_branches(world)


def cap(unsealer: Unsealer) -> None:
    unsealer.do("pcr_event", pcr_handle=ESYS_TR.PCR13, event_data=CAP_DATA)


def test_after_the_cap_an_accepted_boot_opens_nothing(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        assert hook.secret() == SECRET
        cap(hook)
    stopped_at_the_branches(world)


def test_a_session_satisfied_before_the_cap_opens_nothing_after_it(
    world: World,
) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        item, session = hook.load(), hook.satisfied()
        cap(hook)
        assert code_of(hook.take, item, session) == RC_PCR_CHANGED


def test_a_session_saved_before_the_cap_opens_nothing_after_it(world: World) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        session = hook.satisfied()
        saved = hook.do("context_save", save_handle=session)
        hook.handles.remove(session)
        cap(hook)
        loaded = hook.do("context_load", context=saved)
        assert code_of(hook.take, hook.load(), loaded) == RC_PCR_CHANGED
        hook.esapi.flush_context(flush_handle=loaded)


def test_the_cap_holds_for_another_launch_in_the_same_power_cycle(
    world: World,
) -> None:
    world.boot(NEW)
    with unsealing(world) as hook:
        cap(hook)
    world.launch(NEW)
    stopped_at_the_branches(world)


@pytest.mark.parametrize("pcr", [16, 23])
def test_why_the_cap_is_in_pcr_13_and_in_none_that_anyone_resets(
    world: World, pcr: int
) -> None:
    """An extend of PCR 16 or 23 does not end a session that is satisfied."""
    world.boot(NEW)
    with unsealing(world) as hook:
        item, session = hook.load(), hook.satisfied()
        handle = getattr(ESYS_TR, f"PCR{pcr}")
        hook.do("pcr_event", pcr_handle=handle, event_data=CAP_DATA)
        assert hook.behind_label(hook.take(item, session)) == SECRET


def test_refused_boots_do_not_count_towards_lockout(world: World) -> None:
    """Else anybody locks the TPM by booting something else a few times."""
    with unsealing(world) as hook:
        before = lockout_count(hook.esapi)
    for boot in (OLD, EVIL) * 20:
        assert not world.opens(boot)
        with unsealing(world) as hook:
            assert code_of(hook.take, hook.load(), hook.session()) == RC_POLICY_FAIL
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == before == 0
    assert world.opens(NEW)


def test_power_cuts_behind_an_unsealing_do_not_count_towards_lockout(
    world: World,
) -> None:
    for _ in range(5):
        world.boot(NEW)
        assert world.unseal() == SECRET
    world.power_cycle()
    with connected(world.chip.tcti) as esapi:
        assert lockout_count(esapi) == 0


# --- the bank ---


def allocate(world: World, *active: HashAlgorithm) -> None:
    """Choose the banks with the platform's authorisation, and power-cycle."""
    banks = (HashAlgorithm.SHA1, SHA256)
    world.chip.send(wire.pcr_allocate({bank: bank in active for bank in banks}))
    world.chip.power_off()
    world.chip.power_on()


def test_a_bank_deallocated_opens_nothing(world: World) -> None:
    allocate(world, HashAlgorithm.SHA1)
    stopped_at_the_branches(world)
    allocate(world, SHA256)
    world.boot(NEW)
    assert world.unseal() == SECRET


def test_another_bank_with_the_accepted_digests_opens_nothing(world: World) -> None:
    """In a bank that no launcher extends anybody writes what they like."""
    allocate(world, HashAlgorithm.SHA1, SHA256)
    world.boot(EVIL)
    with unsealing(world) as hook:
        hook.selection = "sha1:13,17,18"
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH


def test_a_smaller_selection_opens_nothing(world: World) -> None:
    world.boot(Boot("other Xen", b"the attacker's xen"))
    for selection in ("sha256:13,17", "sha256:13", "sha256:16"):
        with unsealing(world) as hook:
            hook.selection = selection
            session = hook.session()
            hook.policy_pcr(session)
            assert code_of(hook.policy_or, session) == RC_BRANCH
