# SPDX-License-Identifier: GPL-2.0-or-later
"""The bus while the hook as shipped unseals: by one secret, by its PIN, by all three.

As in every move (test_wire.py) what is heard once may be chance, and is heard again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mutated_hook import hook_on
from pin_victim import PIN, WRONG
from vault_world import OLD, SECRET, World, enrol
from wire_moves import SEED, told, values_of

from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import Pin, Secret
from bench.counting_bus import CountingBus

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(shutil.which("tpm2_unseal") is None, reason="no tpm2-tools"),
]

KEYFILE = bytes(range(0x80, 0x80 + 64))
SALT_KEY, NULL = slice(10, 14), bytes.fromhex("40000007")
"""TPM2_StartAuthSession's first handle, tpmKey; TPM_RH_NULL where it is not salted."""

AUTHORISING = slice(18, 22)
"""The session of TPM2_Unseal, behind the object's handle and the area's size."""

START_AUTH_SESSION, UNSEAL = 0x176, 0x15E


class ListeningBus(CountingBus):
    """Keeps what went by."""

    def __init__(self, world: World) -> None:
        super().__init__(world.chip)
        self.heard: list[bytes] = []

    def _count(self, command: bytes, response: bytes) -> None:
        super()._count(command, response)
        self.heard += [command, response]

    def commands(self, code: int) -> list[bytes]:
        sent = self.heard[::2]
        return [each for each in sent if int.from_bytes(each[6:10], "big") == code]


def asker(folder: Path, answer: bytes) -> Path:
    """A program that types a PIN."""
    path = folder / "asker"
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{answer.decode()}'\n")
    path.chmod(0o755)
    return path


def machine(world: World, kinds: str, pin: bytes) -> None:
    world.boot(OLD)
    typed = Pin(pin) if pin else None
    with world.vault() as vault:
        enrol(vault, OLD, pin=typed)
        for kind, value in (("totp", SEED), ("keyfile", KEYFILE)):
            if kind in kinds:
                added = ToSeal(Secret(kind, kind, value), typed)
                seal_beside(vault, vault.require(), added)


def listened(
    folder: Path, kinds: str, pin: bytes, typed: bytes, code: int = 0
) -> tuple[ListeningBus, set[tuple[str, int]]]:
    """Boot and unseal by the hook; the bus, and what it told."""
    with World(folder) as world:
        machine(world, kinds, pin)
        world.boot(OLD)
        program = asker(folder, typed)
        with ListeningBus(world) as bus:
            done = hook_on(world, "-p", str(program), "-t", "0", tcti=bus.tcti)
        assert done.returncode == code
        if code == 0:
            assert SECRET in done.stdout
            # a TPM may have the first use of a guarded object asked for again
            assert len(bus.commands(UNSEAL)) >= 1 + kinds.count(",")
        values = values_of(world) | {"keyfile": KEYFILE, "typed": typed}
        return bus, told(bus.heard, values)


@pytest.mark.parametrize(
    ("kinds", "pin", "typed", "code"),
    [
        ("text", b"", b"", 0),
        ("text", PIN, PIN, 0),
        ("text,totp,keyfile", PIN, PIN, 0),
        ("text", PIN, WRONG, 22),
    ],
    ids=["a text", "a text with a PIN", "all three", "a wrong PIN"],
)
def test_the_hook_tells_the_bus_no_secret_and_no_pin(
    tmp_path: Path, kinds: str, pin: bytes, typed: bytes, code: int
) -> None:
    bus, heard = listened(tmp_path / "once", kinds, pin, typed, code)
    if heard:
        heard &= listened(tmp_path / "again", kinds, pin, typed, code)[1]
    assert heard == set()
    assert bus.commands(UNSEAL)


def test_the_session_that_a_pin_is_used_in_is_salted(tmp_path: Path) -> None:
    """Else its HMAC would be held against every PIN there is, off the bus."""
    bus, _ = listened(tmp_path, "text", PIN, PIN)
    salted = {
        response[10:14]
        for command, response in zip(bus.heard[::2], bus.heard[1::2], strict=True)
        if command in bus.commands(START_AUTH_SESSION) and command[SALT_KEY] != NULL
    }
    used = {each[AUTHORISING] for each in bus.commands(UNSEAL)}
    assert used
    assert used <= salted
