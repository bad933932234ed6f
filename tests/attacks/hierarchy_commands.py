# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of a hierarchy with its authorisation empty, byte by byte.

tpm2-pytss refuses to send some of them. TPM 2.0 Library part 3, sections 24 to 31;
command codes and handles: part 2, sections 6.5.2 and 7.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tpm_sim import wire
from unsealer import connected
from vault_world import World

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TSS2_Exception

OWNER, LOCKOUT, PLATFORM = 0x40000001, 0x4000000A, 0x4000000C

HIERARCHY_CONTROL = 0x121
NV_UNDEFINE_SPACE = 0x122
CHANGE_EPS, CHANGE_PPS = 0x124, 0x125
CLEAR, CLEAR_CONTROL = 0x126, 0x127
CLOCK_SET = 0x128
HIERARCHY_CHANGE_AUTH = 0x129
SET_PRIMARY_POLICY = 0x12E
NV_GLOBAL_WRITE_LOCK = 0x132
NV_INCREMENT = 0x134
LOCK_RESET, LOCK_PARAMETERS = 0x139, 0x13A
_STARTUP, _SHUTDOWN = 0x144, 0x145

_NO_AUTH = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
"""An authorisation area of one: TPM_RS_PW with an empty password."""

ANY_POLICY = struct.pack(">H", 32) + bytes(32) + struct.pack(">H", 0x000B)
"""TPM2_SetPrimaryPolicy's parameters: a digest that nothing satisfies, SHA-256."""


def send(
    world: World,
    command: int,
    hierarchy: int,
    parameters: bytes = b"",
    handles: bytes = b"",
) -> int:
    """Send a command with an empty password; the TPM's response code."""
    body = struct.pack(">I", hierarchy) + handles + _NO_AUTH + parameters
    header = struct.pack(">HII", 0x8002, 10 + len(body), command)
    return wire.response_code(world.chip._exchange(header + body))


def suspend(world: World, *, resume: bool) -> None:
    """Suspend the machine to memory and wake it; not `resume`: switch it off there.

    The TPM gets TPM2_Shutdown(STATE), loses its power, and gets TPM2_Startup(STATE)
    when the firmware resumes, else TPM2_Startup(CLEAR): a TPM Resume, a TPM Restart.
    """
    world.chip.send(struct.pack(">HIIH", 0x8001, 12, _SHUTDOWN, 1))
    world.chip.power_cut()
    world.chip._start()
    world.chip.send(struct.pack(">HIIH", 0x8001, 12, _STARTUP, int(resume)))


def policy_for(world: World, command: int) -> bytes:
    """The digest of a policy that anybody satisfies, for one command."""
    with (
        connected(world.chip.tcti) as esapi,
        allowing(esapi, command, TPM2_SE.TRIAL) as it,
    ):
        return bytes(esapi.policy_get_digest(policy_session=it))


@contextmanager
def allowing(esapi: Any, command: int, kind: Any = TPM2_SE.POLICY) -> Iterator[Any]:
    """A session that satisfies PolicyCommandCode of this command."""
    session = esapi.start_auth_session(
        tpm_key=ESYS_TR.NONE,
        bind=ESYS_TR.NONE,
        session_type=kind,
        symmetric="null",
        auth_hash=TPM2_ALG.SHA256,
    )
    try:
        esapi.policy_command_code(policy_session=session, code=command)
        yield session
    finally:
        with suppress(TSS2_Exception):  # it was used, and is gone with that
            esapi.flush_context(flush_handle=session)


def plant_policy(world: World, hierarchy: int, command: int) -> int:
    """Leave a way to a hierarchy that a value set later does not close.

    The TPM's response code: it takes the policy where the authorisation is empty.
    """
    digest = policy_for(world, command)
    parameters = struct.pack(">H", len(digest)) + digest + struct.pack(">H", 0x000B)
    return send(world, SET_PRIMARY_POLICY, hierarchy, parameters)
