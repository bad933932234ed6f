# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors: each command of a move answered by each code that a TPM may answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import cycle

from campaign_cases import Case
from faulty_wire import IO_ERROR, Fault, FaultyWire, Lost
from unsealer import connected
from vault_world import World
from verdict import held

from aemseal.flows.owner import REFUSED_FILE
from aemseal.words.errors import AemsealError

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import TPM2_CAP

CODES = {
    "RETRY": 0x922,
    "LOCKOUT": 0x921,
    "NV_RATE": 0x920,
    "NV_LOCKED": 0x148,
    "NV_UNAVAILABLE": 0x923,
    "MEMORY": 0x904,
    "OBJECT_MEMORY": 0x902,
    "SESSION_MEMORY": 0x903,
    "PCR_CHANGED": 0x128,
    "YIELDED": 0x908,
    "TESTING": 0x90A,
    "FAILURE": 0x101,
    "INITIALIZE": 0x100,
    "AUTH_FAIL": 0x98E,
    "I/O error": IO_ERROR,
}
_BUSY = {CODES[name] for name in ("RETRY", "NV_RATE", "YIELDED", "TESTING")}
"""By these a TPM says that it has not carried the command out."""

_TRANSIENT, _LOADED_SESSIONS = 0x80000000, 0x02000000
"""Where TPM2_GetCapability begins to list; the second lists policy sessions too."""

DONE = "made all the same"
REFUSED = "refused"
UNTOUCHED = "refused, nothing changed"


def commands_of(world: World, case: Case) -> list[str]:
    """Make the move; return the names of the commands that the TPM got."""
    world.boot(case.running)
    wire = FaultyWire(world.chip.tcti)
    with world.vault(wire=wire) as vault:
        case.move(vault)
    return wire.sent


def every_fault(commands: list[str]) -> Iterator[Fault]:
    """Each code at each command, not carried out; the other ways with codes in turn."""
    for at in range(len(commands)):
        for code in CODES.values():
            yield Fault(at, code)
    codes = cycle(CODES.values())
    for at in range(len(commands)):
        yield Fault(at, next(codes), Lost.LASTING)
        code = next(code for code in codes if code not in _BUSY)
        yield Fault(at, code, Lost.SENT)


def some_faults(commands: list[str]) -> Iterator[Fault]:
    """One fault at each command: codes and ways take turns."""
    codes, ways = cycle(CODES.values()), cycle(Lost)
    for at in range(len(commands)):
        code, lost = next(codes), next(ways)
        if lost is Lost.SENT and code in _BUSY:
            code = IO_ERROR
        yield Fault(at, code, lost)


def endured(world: World, case: Case, fault: Fault, command: str) -> str:
    """Make the move with the fault in it, and hold the machine to its promises.

    The world is where the move begins, booted; so it is afterwards if nothing changed.
    """
    code = next(name for name, code in CODES.items() if code == fault.code)
    where = f"{command} (no. {fault.at}) {fault.lost.value}: {code}"
    before = world.fingerprint()
    said = _failed(world, case, fault)
    if said is not None:
        _require_fit(case, fault, said, where)
    flush_all(world)
    if fault.code == CODES["AUTH_FAIL"]:
        # What a person is told to do where the value was right in the end.
        (world.root / REFUSED_FILE.lstrip("/")).unlink(missing_ok=True)
    if world.fingerprint() == before:
        assert said is not None or case.before == case.after, where
        return UNTOUCHED
    held(world, case, where)
    world.restore("start")
    world.boot(case.running)
    return DONE if said is None else REFUSED


def _failed(world: World, case: Case, fault: Fault) -> AemsealError | None:
    """Return the error; any other exception is a defect and goes on."""
    try:
        with world.vault(wire=FaultyWire(world.chip.tcti, fault)) as vault:
            case.move(vault)
    except AemsealError as error:
        return error
    return None


def _require_fit(case: Case, fault: Fault, said: AemsealError, where: str) -> None:
    """The exit code and the words are such that a person can do something."""
    where = f"{case.name}, {where}: {said.message} / {said.hint}"
    assert said.exit_code in (4, 5), where
    assert said.hint, where
    if fault.code in (CODES["LOCKOUT"], CODES["AUTH_FAIL"]):
        return
    assert said.exit_code == 5, where
    told = "did not answer" if fault.code == IO_ERROR else f"0x{fault.code:x}"
    assert told in said.message or fault.lost is Lost.SENT, where


def flush_all(world: World) -> None:
    """Do what a resource manager does when the connection ends."""
    with connected(world.chip.tcti) as esapi:
        for first in _TRANSIENT, _LOADED_SESSIONS:
            _, data = esapi.get_capability(
                capability=TPM2_CAP.HANDLES, prop=first, property_count=64
            )
            for handle, *_ in struct.iter_unpack(">I", bytes(data.marshal())[8:]):
                kept = esapi.tr_from_tpmpublic(handle=handle)
                esapi.flush_context(flush_handle=kept)
