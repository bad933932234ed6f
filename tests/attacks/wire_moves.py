# SPDX-License-Identifier: GPL-2.0-or-later
"""Every move of the vault with a listener on the bus, and what may not be heard.

A row is a verb's part that talks to the TPM. A new verb, or a new name of a move in a
journal, has to be given a row (test_wire.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pin_victim import PIN, WRONG, guess_by_session, use_to_encrypt
from power_cuts import PowerCutError
from vault_world import (
    INTERNAL,
    NEW,
    OLD,
    SECRET,
    STICK,
    Wire,
    World,
    enrol,
)

import aemseal
from aemseal.flows.generation import begin_anew, change_pin
from aemseal.flows.moves import cancel, confirm, stage
from aemseal.flows.owner import rotate
from aemseal.flows.provision import LOCKOUT, set_lockout_if_ours
from aemseal.flows.remove import remove
from aemseal.flows.revoke import revoke
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.state import VaultState
from aemseal.flows.tries import forget_tries
from aemseal.flows.vault import Vault
from aemseal.world.seam import Seam
from aemseal.world.tpm_lockout import lockout_state, set_lockout

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import TPM2_SE

FOLDER = "var/lib/aemseal"
NEW_SECRET = b"What was typed after the blind boot of Tuesday"
NEW_PIN = b"kX9!qw;27"
SEED = bytes(range(0x41, 0x41 + 20))
"""A further secret: a TOTP seed."""

LONG = (SECRET + b" and on ") * 6
"""More than one sealed object holds."""

WINDOW = 4
Make = Callable[[World, Vault], object]


@dataclass(frozen=True)
class Row:
    """A move, what it does to a vault, and the verb or the journals' name of it.

    `prepare` comes before, unheard; the machine is enrolled with a PIN on two media.
    """

    make: Make
    verbs: frozenset[str]
    moves: frozenset[str] = frozenset()
    prepare: Make = lambda world, vault: None
    is_enrolled: bool = True


def row(make: Make, verbs: str, moves: str = "", **more: object) -> Row:
    return Row(make, frozenset(verbs.split()), frozenset(moves.split()), **more)  # type: ignore[arg-type] # by name


def staged(world: World, vault: Vault) -> VaultState:
    return stage(vault, vault.require(), OLD.policy, NEW.sealed)


def enrolled(vault: Vault, pin: bytes | None, secret: bytes = SECRET) -> VaultState:
    typed = None if pin is None else Pin(pin)
    return enrol(vault, OLD, secret=secret, media=(INTERNAL, STICK), pin=typed)


def beside(kind: str) -> Make:
    def make(world: World, vault: Vault) -> object:
        added = ToSeal(Secret(kind, kind, SEED), Pin(PIN))
        return seal_beside(vault, vault.require(), added)

    return make


def anew(world: World, vault: Vault) -> object:
    before = vault.require()
    secrets = [ToSeal(Secret("text", "text", NEW_SECRET), Pin(NEW_PIN))]
    state = replace(before, staged=())
    return begin_anew(vault, before, state, secrets, "recover")


def another_pin(world: World, vault: Vault) -> object:
    secrets = [ToSeal(Secret("text", "text", NEW_SECRET), Pin(NEW_PIN))]
    before = vault.require()
    return change_pin(vault, before, OLD.policy, secrets, before.media)


def without_the_first_medium(world: World, vault: Vault) -> object:
    return revoke(vault, vault.require(), STICK.label)


def a_wrong_pin(world: World, vault: Vault) -> object:
    vault.tpm.close()
    return guess_by_session(world, WRONG, TPM2_SE.HMAC, use_to_encrypt)


def other_lockout(world: World, vault: Vault) -> object:
    value = (world.root / FOLDER / "lockout.auth").read_bytes()
    other = replace(LOCKOUT, max_tries=LOCKOUT.max_tries - 1)
    set_lockout(vault.tpm, other, value)
    return None


def lockout_again(world: World, vault: Vault) -> object:
    assert set_lockout_if_ours(vault)
    return lockout_state(vault.tpm)


class BeforeCounting(Seam):
    """The power fails in a publish, before its count."""

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if what == "NV_Increment":
            raise PowerCutError(what)
        yield


def cut_short(world: World, vault: Vault) -> object:
    vault.tpm.close()
    with suppress(PowerCutError), world.vault(BeforeCounting()) as cut:
        staged(world, cut)
    return None


ROWS: Mapping[str, Row] = {
    "enrol": row(
        lambda world, vault: enrolled(vault, None, LONG),
        "enrol",
        "enrol",
        is_enrolled=False,
    ),
    "enrol with a PIN": row(
        lambda world, vault: enrolled(vault, PIN), "enrol", is_enrolled=False
    ),
    "enrol a totp beside": row(beside("totp"), "enrol"),
    "enrol a keyfile beside": row(beside("keyfile"), "enrol"),
    "stage": row(staged, "reseal", "stage"),
    "refresh": row(
        lambda world, vault: vault.publish(vault.require(), "refresh"),
        "reseal",
        "refresh",
    ),
    "cancel": row(
        lambda world, vault: cancel(vault, vault.require(), OLD.policy),
        "cancel",
        "cancel",
        prepare=staged,
    ),
    "confirm": row(
        lambda world, vault: confirm(vault, vault.require(), NEW.sealed),
        "confirm",
        "confirm",
        prepare=staged,
    ),
    "undo": row(
        lambda world, vault: vault.settle(), "status", "undo", prepare=cut_short
    ),
    "revoke": row(without_the_first_medium, "revoke", "revoke"),
    "rotate": row(
        lambda world, vault: rotate(vault, vault.require().storage, None), "recover pin"
    ),
    "recover": row(anew, "recover", "recover"),
    "pin": row(another_pin, "pin", "pin"),
    "remove": row(lambda world, vault: remove(vault), "remove"),
    "lockout parameters": row(
        lockout_again, "enrol confirm recover", prepare=other_lockout
    ),
    "lockout reset": row(
        lambda world, vault: forget_tries(vault), "confirm", prepare=a_wrong_pin
    ),
}

READING = frozenset(
    ["status", "doctor", "log", "predict", "plan", "explain", "record", "hash"]
)
"""Verbs that change nothing: they read PCRs, the counter and what the TPM says of
itself. What settles a move that was cut short is in the rows."""


def values_of(world: World) -> dict[str, bytes]:
    """Every value that is not to be heard, as it stands now."""
    found = {
        "secret": SECRET,
        "new secret": NEW_SECRET,
        "further secret": SEED,
        "PIN": PIN,
        "new PIN": NEW_PIN,
    }
    for path in sorted((world.root / FOLDER).glob("*")):
        if ".auth" in path.name:
            found[f"{path.name} text"] = path.read_bytes()
            found[f"{path.name}"] = bytes.fromhex(path.read_text())
        if path.suffix == ".pem":
            found[path.name] = private_number(path.read_bytes())
    return found


def private_number(pem: bytes) -> bytes:
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def told(messages: list[bytes], values: Mapping[str, bytes]) -> set[tuple[str, int]]:
    """Which WINDOW bytes of which values went by: a name and where in it."""
    heard = b"\0\0\0\0".join(messages)
    return {
        (name, at)
        for name, value in values.items()
        for at in range(len(value) - WINDOW + 1)
        if value[at : at + WINDOW] in heard
    }


def listen(folder: Path, row: Row) -> tuple[Wire, set[tuple[str, int]]]:
    """Make a move on a machine of its own, listening; what was told."""
    with World(folder) as world:
        world.boot(OLD)
        if row.is_enrolled:
            with world.vault() as vault:
                enrolled(vault, PIN)
            with world.vault() as vault:
                row.prepare(world, vault)
        values = {f"{name} before": it for name, it in values_of(world).items()}
        wire = Wire(world.chip.tcti)
        with world.vault(wire=wire) as vault:
            row.make(world, vault)
        values |= values_of(world)
        return wire, told(wire.heard, values)


def names_of_moves() -> set[str]:
    """The moves' names in the package: what is handed to publish and to a Sealing."""
    found = set()
    for path in (Path(aemseal.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found |= _move_named(node)
            if isinstance(node, ast.FunctionDef):
                found |= _move_by_default(node)
    return found


def _move_named(call: ast.Call) -> set[str]:
    name = ast.unparse(call.func).rpartition(".")[2]
    place = {
        "publish": 1,
        "_publish": 1,
        "Journal": 0,
        "Sealing": 0,
        "seal_generation": 3,
        "begin_anew": 4,
    }.get(name)
    if place is None or len(call.args) <= place:
        return set()
    given = call.args[place]
    return {str(given.value)} if isinstance(given, ast.Constant) else set()


def _move_by_default(function: ast.FunctionDef) -> set[str]:
    arguments = function.args
    last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    return {
        str(value.value)
        for each, value in zip(last, arguments.defaults, strict=True)
        if each.arg == "move" and isinstance(value, ast.Constant)
    }
