# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks with what was saved from the TPM, over resets and a suspended machine.

The attacker is given what nobody has: a loaded object and a satisfied session, saved
in the accepted boot before its cap.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hierarchy_commands import suspend
from unsealer import SHA256, RefusedError, Unsealer
from vault_world import NEW, World
from victim import (
    RC_INTEGRITY,
    code_of,
    stopped_at_the_branches,
    unsealing,
    victim,
)

from aemseal.formats.hook_files import CAP_DATA

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

RC_PCR_CHANGED = 0x128
MORE_EXTENDS_THAN_A_BOOT_HAS = 64


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with victim(tmp_path) as world:
        yield world


def saved(world: World, *, capped: bool = False) -> tuple[Any, Any]:
    """Boot as accepted, satisfy the policy, save object and session; cap then."""
    world.boot(NEW)
    with unsealing(world) as hook:
        item, session = hook.load(), hook.satisfied()
        contexts = tuple(
            hook.do("context_save", save_handle=each) for each in (item, session)
        )
        hook.handles.remove(session)
        if capped:
            cap(hook)
    return contexts


def cap(hook: Unsealer) -> None:
    hook.do("pcr_event", pcr_handle=ESYS_TR.PCR13, event_data=CAP_DATA)


def update_counter(hook: Unsealer) -> int:
    counter, *_ = hook.do("pcr_read", pcr_selection_in="sha256:16")
    return int(counter)


def test_nothing_saved_survives_a_reset(world: World) -> None:
    item, session = saved(world)
    world.boot(NEW)
    with unsealing(world) as hook:
        for context in (item, session):
            with pytest.raises(RefusedError) as refused:
                hook.do("context_load", context=context)
            assert refused.value.code == RC_INTEGRITY


@pytest.mark.parametrize("resume", [True, False], ids=["resume", "restart"])
def test_a_session_saved_before_the_machine_was_suspended_opens_nothing(
    world: World, *, resume: bool
) -> None:
    item, session = saved(world)
    suspend(world, resume=resume)
    with unsealing(world) as hook:
        loaded = [hook.do("context_load", context=each) for each in (item, session)]
        hook.handles += loaded
        assert code_of(hook.take, *loaded) == RC_PCR_CHANGED


def test_the_pcr_counter_is_not_brought_back_to_where_a_saved_session_saw_it(
    world: World,
) -> None:
    """A TPM compares that number alone, so a restart must not set it back."""
    item, session = saved(world, capped=True)
    with unsealing(world) as hook:
        then = update_counter(hook)
    suspend(world, resume=False)
    with unsealing(world) as hook:
        assert update_counter(hook) > then
        loaded = [hook.do("context_load", context=each) for each in (item, session)]
        hook.handles += loaded
        for _ in range(MORE_EXTENDS_THAN_A_BOOT_HAS):
            assert code_of(hook.take, *loaded) == RC_PCR_CHANGED
            hook.do("pcr_event", pcr_handle=ESYS_TR.PCR13, event_data=b"x")


def test_the_cap_holds_over_a_suspended_machine(world: World) -> None:
    """PCR 13 is kept over a resume, so a launch after it opens nothing either."""
    world.boot(NEW)
    with unsealing(world) as hook:
        cap(hook)
    capped = world.chip.read_pcrs(SHA256)[13]
    suspend(world, resume=True)
    assert world.chip.read_pcrs(SHA256)[13] == capped
    assert world.chip.read_pcrs(SHA256)[17] == SHA256.ones()
    stopped_at_the_branches(world)
    world.launch(NEW)
    stopped_at_the_branches(world)


def test_a_loaded_object_saved_and_loaded_again_asks_for_the_policy(
    world: World,
) -> None:
    item, session = saved(world, capped=True)
    with unsealing(world) as hook:
        loaded = [hook.do("context_load", context=each) for each in (item, session)]
        hook.handles += loaded
        assert code_of(hook.take, *loaded) == RC_PCR_CHANGED
        with pytest.raises(RefusedError):
            hook.take(loaded[0], hook.satisfied())
