# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the PIN: what answers a guess, on which boot, and what the guess costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hierarchy_commands import CLOCK_SET, PLATFORM, send
from pin_victim import (
    PIN,
    WRONG,
    bound_session,
    counted,
    guess_by_session,
    loaded,
    open_with,
    outcome,
    pin_victim,
    use_to_authorise,
    use_to_encrypt,
)
from unsealer import Unsealer
from vault_world import EVIL, NEW, OLD, SECRET, World, enrol
from victim import (
    RC_AUTH_TYPE,
    RC_AUTH_UNAVAILABLE,
    RC_POLICY_FAIL,
    code_of,
    in_force,
    unsealing,
)

from aemseal.flows.provision import LOCKOUT
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_CC, TPM2_SE, TPMT_SYM_DEF_OBJECT

pytestmark = pytest.mark.tpm

RC_AUTH_FAIL = 0x98E
RC_LOCKOUT = 0x921
RC_SESSION_ATTRIBUTES = 0x982

USES = [use_to_encrypt, use_to_authorise]
Use = Callable[[Unsealer, Any], None]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with pin_victim(tmp_path) as world:
        yield world


# --- the way that is meant ---


def test_the_secret_opens_with_its_pin_on_the_accepted_boot_alone(world: World) -> None:
    assert open_with(world, PIN) == SECRET
    for boot in (NEW, EVIL):
        world.launch(boot)
        assert code_of(open_with, world, PIN) == RC_POLICY_FAIL
    world.launch(OLD)
    assert open_with(world, PIN) == SECRET


@pytest.mark.parametrize("wrong", [WRONG, b"", PIN[:-1], PIN + b"0", PIN + b"\n"])
def test_a_wrong_pin_opens_nothing_and_counts(world: World, wrong: bytes) -> None:
    assert code_of(open_with, world, wrong) == RC_AUTH_FAIL
    assert counted(world) == 1


def test_the_way_without_the_pins_step_opens_nothing_and_is_no_guess(
    world: World,
) -> None:
    with unsealing(world) as hook:
        item = hook.load()
        for pin in (PIN, WRONG, b""):
            hook.esapi.tr_set_auth(esys_handle=item, auth_value=pin)
            assert code_of(hook.take, item, hook.satisfied()) == RC_POLICY_FAIL
    assert counted(world) == 0


# --- on a boot that is not accepted ---


@pytest.mark.parametrize("step", ["policy_auth_value", "policy_password"])
@pytest.mark.parametrize("boot", [NEW, EVIL])
def test_another_boot_does_not_tell_a_right_pin_from_a_wrong_one(
    world: World, boot: Any, step: str
) -> None:
    """The TPM holds the policy before it looks at the PIN, so that no guess counts."""
    world.launch(boot)
    for pin in (PIN, WRONG):
        assert code_of(open_with, world, pin, step) == RC_POLICY_FAIL
    assert counted(world) == 0


def test_refused_boots_with_a_pin_do_not_count_towards_lockout(world: World) -> None:
    for boot in (NEW, EVIL) * (LOCKOUT.max_tries // 2 + 1):
        world.launch(boot)
        assert code_of(open_with, world, WRONG) == RC_POLICY_FAIL
    assert counted(world) == 0
    world.launch(OLD)
    assert open_with(world, PIN) == SECRET


# --- oracles ---


def test_policy_password_is_the_same_guess_and_costs_the_same(world: World) -> None:
    assert code_of(open_with, world, WRONG, "policy_password") == RC_AUTH_FAIL
    assert counted(world) == 1
    assert open_with(world, PIN, "policy_password") == SECRET


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("boot", [OLD, EVIL])
def test_a_guess_by_a_session_bound_to_the_object_counts(
    world: World, boot: Any, use: Use
) -> None:
    """No TPM forbids these, on any boot: so the guess must cost what it costs."""
    world.launch(boot)
    for number in range(1, 4):
        answer = guess_by_session(world, WRONG, TPM2_SE.HMAC, use)
        assert (answer, counted(world)) == (RC_AUTH_FAIL, number)
    assert guess_by_session(world, PIN, TPM2_SE.HMAC, use) == 0


def test_a_guess_by_a_bound_policy_session_counts(world: World) -> None:
    world.launch(EVIL)
    answer = guess_by_session(world, WRONG, TPM2_SE.POLICY, use_to_encrypt)
    assert (answer, counted(world)) == (RC_AUTH_FAIL, 1)
    for pin in (PIN, WRONG):
        answer = guess_by_session(world, pin, TPM2_SE.POLICY, use_to_authorise)
        assert answer == RC_AUTH_UNAVAILABLE
    assert counted(world) == 1


@pytest.mark.parametrize("use", USES)
def test_a_bound_trial_session_answers_no_guess(world: World, use: Use) -> None:
    world.launch(EVIL)
    answers = {guess_by_session(world, pin, TPM2_SE.TRIAL, use) for pin in (PIN, WRONG)}
    assert answers == {RC_SESSION_ATTRIBUTES}
    assert counted(world) == 0


def test_a_power_cut_takes_no_guess_back(world: World) -> None:
    """It costs one more, since the TPM cannot know how the last use ended."""
    for number in range(1, 4):
        world.boot(EVIL)
        guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
        assert counted(world) >= number


def test_after_32_guesses_the_tpm_answers_no_more_not_even_the_right_one(
    world: World,
) -> None:
    for _ in range(LOCKOUT.max_tries):
        guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
    assert counted(world) == LOCKOUT.max_tries == 32
    for pin in (PIN, WRONG):
        for kind in (TPM2_SE.HMAC, TPM2_SE.POLICY):
            for use in USES:
                assert guess_by_session(world, pin, kind, use) == RC_LOCKOUT
    for step in ("policy_auth_value", "policy_password"):
        assert code_of(open_with, world, PIN, step) == RC_LOCKOUT
    world.boot(OLD)
    assert code_of(open_with, world, PIN) == RC_LOCKOUT


@pytest.mark.parametrize("pin", [PIN, WRONG])
def test_the_pin_alone_authorises_nothing(world: World, pin: bytes) -> None:
    """userWithAuth is clear: neither a password nor an HMAC session is looked at."""
    with unsealing(world) as hook:
        item = loaded(hook, pin)
        assert code_of(hook.take, item, ESYS_TR.PASSWORD) == RC_AUTH_UNAVAILABLE
        session = bound_session(hook, ESYS_TR.NONE, TPM2_SE.HMAC)
        assert code_of(hook.take, item, session) == RC_AUTH_UNAVAILABLE
        session = bound_session(hook, item, TPM2_SE.HMAC)
        assert code_of(hook.take, item, session) == RC_AUTH_UNAVAILABLE
    assert counted(world) == 0


@pytest.mark.parametrize("pin", [PIN, WRONG])
def test_policy_secret_does_not_ask_the_sealed_object(world: World, pin: bytes) -> None:
    with unsealing(world) as hook:
        item = loaded(hook, pin)

        def ask(authorised_by: Any) -> object:
            return hook.do(
                "policy_secret",
                auth_handle=item,
                policy_session=hook.session(),
                nonce_tpm=b"",
                cp_hash_a=b"",
                policy_ref=b"",
                expiration=0,
                session1=authorised_by,
            )

        for session in (
            ESYS_TR.PASSWORD,
            bound_session(hook, ESYS_TR.NONE, TPM2_SE.HMAC),
        ):
            assert code_of(ask, session) == RC_AUTH_UNAVAILABLE
    assert counted(world) == 0


@pytest.mark.parametrize("pin", [PIN, WRONG])
def test_object_change_auth_answers_no_guess(world: World, pin: bytes) -> None:
    """Its new blob would open with another PIN, and the old one still with the old."""
    with unsealing(world) as hook:
        item = loaded(hook, pin)

        def change(session: Any) -> object:
            return hook.do(
                "object_change_auth",
                object_handle=item,
                parent_handle=hook.esapi.tr_from_tpmpublic(handle=SRK_HANDLE),
                new_auth=b"the attacker's",
                session1=session,
            )

        assert code_of(change, ESYS_TR.PASSWORD) == RC_AUTH_TYPE
        session = hook.satisfied()
        hook.do("policy_auth_value", policy_session=session)
        assert code_of(change, session) == RC_POLICY_FAIL
        code = TPM2_CC.ObjectChangeAuth
        hook.do("policy_command_code", policy_session=session, code=code)
        assert code_of(change, session) == RC_POLICY_FAIL
    assert counted(world) == 0


@pytest.mark.parametrize("pin", [PIN, WRONG])
def test_policy_duplication_select_lets_no_duplicate_out(
    world: World, pin: bytes
) -> None:
    with unsealing(world) as hook:
        item = loaded(hook, pin)
        name = bytes(hook.esapi.tr_get_name(handle=item))
        session = hook.satisfied()
        hook.do(
            "policy_duplication_select",
            policy_session=session,
            object_name=name,
            new_parent_name=b"",
            include_object=True,
        )
        code = outcome(
            lambda: hook.do(
                "duplicate",
                object_handle=item,
                new_parent_handle=ESYS_TR.NULL,
                encryption_key_in=b"",
                symmetric_alg=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
                session1=session,
            )
        )
    assert code == RC_POLICY_FAIL
    assert counted(world) == 0


@pytest.mark.parametrize("days", [1, 400])
def test_a_clock_set_forward_forgets_no_guess(world: World, days: int) -> None:
    """By the platform, in the worst case; a TPM heals by time that has passed."""
    guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)
    with unsealing(world) as hook:
        now = hook.do("read_clock").clockInfo.clock
        later = int(now) + days * 86_400_000
    assert send(world, CLOCK_SET, PLATFORM, later.to_bytes(8, "big")) == 0
    assert counted(world) == 1
    world.boot(OLD)
    assert counted(world) >= 1


# --- what is there to read ---


def attributes_of(world: World) -> int:
    part = in_force(world)[0].secrets[0].parts[0]
    return int.from_bytes(part.public[6:10], "big")


NO_DA, USER_WITH_AUTH, ADMIN_WITH_POLICY = 1 << 10, 1 << 6, 1 << 7


def test_a_guess_counts_because_the_object_with_a_pin_has_no_noda(
    world: World,
) -> None:
    assert not attributes_of(world) & (NO_DA | USER_WITH_AUTH)
    assert attributes_of(world) & ADMIN_WITH_POLICY


def test_without_a_pin_a_lockout_keeps_nobody_out(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD)
        assert attributes_of(world) & NO_DA
        assert not attributes_of(world) & USER_WITH_AUTH


def test_neither_read_public_nor_a_file_tells_of_the_pin(world: World) -> None:
    with unsealing(world) as hook:
        public, _, _ = hook.do("read_public", object_handle=hook.load())
    shown = bytes(public.marshal())
    assert shown == in_force(world)[0].secrets[0].parts[0].public
    assert PIN not in shown
    for each in world.root.rglob("*"):
        assert not each.is_file() or PIN not in each.read_bytes()
