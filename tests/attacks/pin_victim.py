# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose secret has a PIN, and the ways there are to try one.

It runs the old Xen, which is the one accepted boot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unsealer import RefusedError, Unsealer, connected, lockout_count
from vault_world import OLD, World, enrol
from victim import COUNTER, unsealing

from aemseal.flows.secret import Pin

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPMA_SESSION

PIN, WRONG = b"739251", b"739252"


@contextmanager
def pin_victim(folder: Path) -> Iterator[World]:
    with World(folder) as world:
        world.boot(OLD)
        with world.vault() as vault:
            enrol(vault, OLD, pin=Pin(PIN))
        yield world


def outcome(attempt: Callable[[], object]) -> int:
    """The TPM's answer: 0, or its response code."""
    try:
        attempt()
    except RefusedError as refused:
        return refused.code
    return 0


def counted(world: World) -> int:
    with connected(world.chip.tcti) as esapi:
        return lockout_count(esapi)


def loaded(hook: Unsealer, pin: bytes) -> Any:
    """Load the sealed object and tell the TSS (not the TPM) a PIN for it."""
    item = hook.load()
    hook.esapi.tr_set_auth(esys_handle=item, auth_value=pin)
    return item


def open_with(
    world: World, pin: bytes, step: str = "policy_auth_value", **other: Any
) -> bytes:
    """Go the whole way with a PIN, as far as the TPM lets one go."""
    with unsealing(world, **other) as hook:
        item, session = loaded(hook, pin), hook.session()
        hook.policy_pcr(session)
        for each in (hook.policy_or, hook.policy_nv, hook.policy_authorize):
            with suppress(RefusedError):  # on a boot that is not accepted
                each(session)
        hook.do(step, policy_session=session)
        return hook.behind_label(hook.take(item, session))


def bound_session(hook: Unsealer, item: Any, kind: Any) -> Any:
    """Start a session bound to the sealed object: its key is made of the PIN."""
    return hook._kept(
        hook.do(
            "start_auth_session",
            tpm_key=ESYS_TR.NONE,
            bind=item,
            session_type=kind,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
    )


def use_to_encrypt(hook: Unsealer, session: Any) -> None:
    """Any command will do; its HMAC says whether the guess was right."""
    attributes = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.ENCRYPT
    hook.esapi.trsess_set_attributes(session=session, attributes=attributes)
    hook.do("get_random", bytes_requested=8, session1=session)


def use_to_authorise(hook: Unsealer, session: Any) -> None:
    """Of another object, one with an empty authValue: the counter."""
    index = hook.do("tr_from_tpmpublic", handle=COUNTER)
    hook.do(
        "nv_read", nv_index=index, size=8, offset=0, auth_handle=index, session1=session
    )


def guess_by_session(
    world: World, pin: bytes, kind: Any, use: Callable[[Unsealer, Any], None]
) -> int:
    """Guess with a session bound to the sealed object; the TPM's answer."""
    with unsealing(world) as hook:
        session = bound_session(hook, loaded(hook, pin), kind)
        return outcome(lambda: use(hook, session))
