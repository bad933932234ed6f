# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies and limits planted on a hierarchy while its authorisation was empty.

A value that is set later does not take one away, and who satisfies it needs no value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hierarchy_commands import (
    LOCK_PARAMETERS,
    LOCK_RESET,
    LOCKOUT,
    NV_INCREMENT,
    OWNER,
    allowing,
    plant_policy,
    send,
)
from pin_victim import (
    PIN,
    WRONG,
    counted,
    guess_by_session,
    pin_victim,
    use_to_encrypt,
)
from power_cuts import PowerCut, PowerCutError
from vault_world import OLD, World, enrol
from victim import COUNTER, RC_AUTH_UNAVAILABLE, attacking, code_of

from aemseal.flows.owner import rotate, settle
from aemseal.flows.provision import LOCKOUT as LIMITS
from aemseal.flows.secret import Pin
from aemseal.world.tpm_lockout import lockout_state

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_SE

pytestmark = pytest.mark.tpm


def reset_by_policy(world: World) -> None:
    """Forget the wrong PINs that were counted, without the lockout's value."""
    with attacking(world) as attacker, allowing(attacker.esapi, LOCK_RESET) as session:
        attacker.do(
            "dictionary_attack_lock_reset",
            lock_handle=ESYS_TR.LOCKOUT,
            session1=session,
        )


def count_by_policy(world: World) -> None:
    with attacking(world) as attacker, allowing(attacker.esapi, NV_INCREMENT) as it:
        attacker.do(
            "nv_increment",
            nv_index=attacker.index(COUNTER),
            auth_handle=ESYS_TR.OWNER,
            session1=it,
        )


def planted(world: World) -> None:
    assert plant_policy(world, LOCKOUT, LOCK_RESET) == 0
    assert plant_policy(world, OWNER, NV_INCREMENT) == 0


def test_a_lockout_policy_planted_before_enrolling_resets_no_count(
    tmp_path: Path,
) -> None:
    """Else PINs are guessed without an end, by sessions bound to the object."""
    with World(tmp_path) as world:
        planted(world)
        reset_by_policy(world)  # so it works while nobody has enrolled
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, pin=Pin(PIN))
        assert guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
        assert counted(world) == 1
        assert code_of(reset_by_policy, world) == RC_AUTH_UNAVAILABLE
        assert code_of(count_by_policy, world) == RC_AUTH_UNAVAILABLE
        assert counted(world) == 1


@pytest.mark.parametrize("recovery", [0, 1], ids=["off", "one a second"])
def test_limits_raised_before_enrolling_are_those_of_enrol_after_it(
    tmp_path: Path, recovery: int
) -> None:
    """A recovery time of 0 switches the protection off."""
    with World(tmp_path) as world:
        raised = struct.pack(">III", 1 << 20, recovery, 0)
        assert send(world, LOCK_PARAMETERS, LOCKOUT, raised) == 0
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, pin=Pin(PIN))
            assert lockout_state(vault.tpm).settings == LIMITS
        assert send(world, LOCK_PARAMETERS, LOCKOUT, raised) != 0
        for _ in range(LIMITS.max_tries):
            guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
        assert guess_by_session(world, PIN, TPM2_SE.HMAC, use_to_encrypt) == 0x921


@pytest.mark.parametrize("change", range(1, 5))
def test_a_policy_planted_while_the_values_are_rotated_is_no_way_in(
    tmp_path: Path, change: int
) -> None:
    """Each value changes by way of none, and the power may fail between."""
    with pin_victim(tmp_path) as world:
        guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
        with pytest.raises(PowerCutError), world.vault(CutAt(change)) as vault:
            rotate(vault, vault.require().storage, None)
        world.power_cycle()
        taken = [
            hierarchy
            for hierarchy, command in ((OWNER, NV_INCREMENT), (LOCKOUT, LOCK_RESET))
            if plant_policy(world, hierarchy, command) == 0
        ]
        assert taken == {1: [OWNER], 2: [], 3: [LOCKOUT], 4: []}[change]
        world.boot(OLD)
        with world.vault() as vault:
            settle(vault)
        guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
        for by_policy in (reset_by_policy, count_by_policy):
            assert code_of(by_policy, world) == RC_AUTH_UNAVAILABLE


class CutAt(PowerCut):
    """Cuts the power once so many of the hierarchies' values were changed."""

    def __init__(self, change: int) -> None:
        super().__init__()
        self.change = change

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.change -= what == "HierarchyChangeAuth"
        if self.change == 0 and what == "HierarchyChangeAuth":
            self.at, self.after = len(self.steps), True
        with super().step(what):
            yield
