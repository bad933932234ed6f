# SPDX-License-Identifier: GPL-2.0-or-later
"""Every move that changes the vault, as a value: where it begins, what it leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest
from opened import NOTHING, Opened
from power_cuts import PowerCut, PowerCutError
from vault_world import (
    INTERNAL,
    NEW,
    NEWER,
    OLD,
    SECRET,
    STICK,
    Boot,
    World,
    enrol,
)

from aemseal.flows import owner
from aemseal.flows.generation import begin_anew, change_pin, retired_by
from aemseal.flows.moves import Circumstances, cancel, confirm, stage
from aemseal.flows.owner import LOCKOUT_FILE
from aemseal.flows.provision import set_lockout_if_ours
from aemseal.flows.remove import remove
from aemseal.flows.revoke import revoke
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.world.config import Medium
from aemseal.world.store import Files
from aemseal.world.tpm_lockout import LockoutSettings, set_lockout

Move = Callable[[Vault], object]

PIN = b"482913-old"
NEW_PIN = b"773105-new"
PINS = (PIN, NEW_PIN)
SEED = b"JBSWY3DPEHPK3PXP"
NEW_SECRET = b"a new line that only its owner knows"
BOTH = (INTERNAL, STICK)


def on(*boots: Boot, values: tuple[bytes, ...] = (SECRET,)) -> Opened:
    return frozenset((boot.name, value) for boot in boots for value in values)


@dataclass(frozen=True)
class Case:
    """A move: what was done before it, which boot runs, what opens before and after.

    `before` and `after` hold for every medium of `media`. `prepare` starts on the old
    Xen, with nothing enrolled.
    """

    name: str
    prepare: tuple[Move, ...]
    running: Boot
    move: Move
    before: Opened
    after: Opened
    media: tuple[Medium, ...] = (INTERNAL,)
    pins: tuple[bytes, ...] = ()
    half_done: str = ""
    """The step of the last of `prepare` before which the power fails."""
    loses: Medium | None = None
    """A medium that opens what is `before`, or nothing, and after the move nothing."""
    is_journalled: bool = True
    """Whether settle leads out of a cut, and not only the move made again."""

    def set_up(self, world: World) -> None:
        """Go to where the move begins; leaves the power on, and no boot."""
        world.boot(OLD)
        with Files(world.root).lock():  # its file is there from now on
            pass
        for number, each in enumerate(self.prepare, start=1):
            if self.half_done and number == len(self.prepare):
                cut_before(world, each, self.half_done)
            else:
                make(world, each)


class CutBefore(PowerCut):
    """Cuts the power before the first step of this name."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if what == self.what and self.at < 0:
            self.at = len(self.steps)
        with super().step(what):
            yield


def make(world: World, move: Move) -> None:
    """Settle what was cut short, as every command does, and make the move."""
    with world.vault() as vault:
        vault.settle()
        move(vault)


def cut_before(world: World, move: Move, step: str) -> None:
    with pytest.raises(PowerCutError), world.vault(CutBefore(step)) as vault:
        move(vault)


# --- moves ---


def enrolling(*media: Medium, secret: bytes = SECRET, pin: bytes | None = None) -> Move:
    def move(vault: Vault) -> object:
        if vault.load() is not None:
            return None
        guard = None if pin is None else Pin(pin)
        return enrol(vault, OLD, secret=secret, media=media or (INTERNAL,), pin=guard)

    return move


def adding(kind: str, value: bytes, pin: bytes) -> Move:
    """Seal one more secret beside, unless that was done."""

    def move(vault: Vault) -> object:
        state = vault.require()
        if any(each.name == kind for each in state.secrets):
            return None
        return seal_beside(vault, state, ToSeal(Secret(kind, kind, value), Pin(pin)))

    return move


def staging(running: Boot, following: Boot, *, new_only: bool = False) -> Move:
    return lambda vault: stage(
        vault, vault.require(), running.policy, following.sealed, new_only=new_only
    )


def confirming(running: Boot) -> Move:
    return lambda vault: confirm(vault, vault.require(), running.sealed)


def cancelling(running: Boot) -> Move:
    return lambda vault: cancel(vault, vault.require(), running.policy)


def refreshing(vault: Vault) -> object:
    return vault.publish(vault.require(), "refresh")


def settling(vault: Vault) -> object:
    return vault.settle()


def recovering(running: Boot, *secrets: ToSeal) -> Move:
    """Begin a new generation with the running boot alone, unless that was done."""

    def move(vault: Vault) -> object:
        old = vault.require()
        if old.generation > 1:
            return None
        new = replace(
            old,
            baseline=running.sealed.boot,
            accepted=(running.sealed,),
            staged=(),
            retired=retired_by(old, running.policy),
        )
        return begin_anew(vault, old, new, secrets, "recover")

    return move


def changing_pin(running: Boot, *secrets: ToSeal) -> Move:
    def move(vault: Vault) -> object:
        old = vault.require()
        if old.generation > 1:
            return None
        return change_pin(vault, old, running.policy, secrets, old.media)

    return move


def revoking(medium: Medium) -> Move:
    return lambda vault: revoke(vault, vault.require(), medium.label, BOTH)


def rotating(running: Boot) -> Move:
    """Confirm a boot that is accepted already, as `rotate: true` has it."""
    known = Circumstances(rotate=True)
    return lambda vault: confirm(vault, vault.require(), running.sealed, known)


def rotating_owner(vault: Vault) -> object:
    return owner.rotate(vault, vault.require().storage, None)


def removing(vault: Vault) -> object:
    return None if vault.load() is None else remove(vault)


def setting_lockout(vault: Vault) -> object:
    return set_lockout_if_ours(vault)


def loosening_lockout(vault: Vault) -> object:
    """Leave the TPM with lockout settings that are not ours."""
    value = vault.files.read(LOCKOUT_FILE)
    assert value is not None
    set_lockout(vault.tpm, LockoutSettings(5, 60, 60), value)
    return None


def text(value: bytes, pin: bytes | None = None) -> ToSeal:
    return ToSeal(Secret("text", "text", value), None if pin is None else Pin(pin))


def state_of(world: World) -> VaultState | None:
    with world.vault() as vault:
        return vault.load()


# --- all of them ---

ENROLLED: tuple[Move, ...] = (enrolling(),)
STAGED = (*ENROLLED, staging(OLD, NEW))

CASES = (
    Case(
        "enrol, two media",
        (),
        OLD,
        enrolling(*BOTH, pin=PIN),
        NOTHING,
        on(OLD),
        media=BOTH,
        pins=PINS,
    ),
    Case(
        "enrol one more secret",
        (enrolling(*BOTH),),
        OLD,
        adding("totp", SEED, PIN),
        on(OLD),
        on(OLD, values=(SECRET, SEED)),
        media=BOTH,
        pins=PINS,
    ),
    Case("stage", ENROLLED, OLD, staging(OLD, NEW), on(OLD), on(OLD, NEW)),
    Case(
        "stage, with a PIN",
        (enrolling(pin=PIN),),
        OLD,
        staging(OLD, NEW),
        on(OLD),
        on(OLD, NEW),
        pins=PINS,
    ),
    Case(
        "stage, two media",
        (enrolling(*BOTH),),
        OLD,
        staging(OLD, NEW),
        on(OLD),
        on(OLD, NEW),
        media=BOTH,
    ),
    Case(
        "stage, new only",
        ENROLLED,
        OLD,
        staging(OLD, NEW, new_only=True),
        on(OLD),
        on(NEW),
    ),
    Case(
        "stage another",
        STAGED,
        OLD,
        staging(OLD, NEWER),
        on(OLD, NEW),
        on(OLD, NEWER),
    ),
    Case(
        "stage, reboot, stage",
        STAGED,
        NEW,
        staging(NEW, NEWER),
        on(OLD, NEW),
        on(OLD, NEW, NEWER),
    ),
    Case("confirm", STAGED, NEW, confirming(NEW), on(OLD, NEW), on(NEW)),
    Case(
        "confirm beside a staged boot",
        (*STAGED, staging(NEW, NEWER)),
        NEW,
        confirming(NEW),
        on(OLD, NEW, NEWER),
        on(NEW, NEWER),
    ),
    Case("cancel", STAGED, OLD, cancelling(OLD), on(OLD, NEW), on(OLD)),
    Case(
        "refresh",
        (enrolling(*BOTH),),
        OLD,
        refreshing,
        on(OLD),
        on(OLD),
        media=BOTH,
    ),
    Case(
        "settle (undo)",
        (*STAGED, confirming(NEW)),
        NEW,
        settling,
        on(OLD, NEW),
        on(OLD, NEW),
        half_done="NV_Increment",
    ),
    Case(
        "settle (finish)",
        (*STAGED, confirming(NEW)),
        NEW,
        settling,
        on(NEW),
        on(NEW),
        half_done="write /var/lib/aemseal/state.json",
    ),
    Case(
        "settle (undo an enrolment)",
        (enrolling(*BOTH),),
        OLD,
        settling,
        NOTHING,
        NOTHING,
        media=BOTH,
        half_done="Create",
    ),
    Case(
        "settle (finish an enrolment)",
        (enrolling(*BOTH),),
        OLD,
        settling,
        NOTHING,
        on(OLD),
        media=BOTH,
        half_done="write /var/lib/aemseal/vault-internal",
    ),
    Case(
        "lockout settings",
        (enrolling(pin=PIN), loosening_lockout),
        OLD,
        setting_lockout,
        on(OLD),
        on(OLD),
        pins=PINS,
    ),
    Case("rotate acceptances", STAGED, OLD, rotating(OLD), on(OLD, NEW), on(OLD, NEW)),
    Case("rotate owner and lockout", ENROLLED, OLD, rotating_owner, on(OLD), on(OLD)),
    Case(
        "change the PIN",
        (enrolling(*BOTH, pin=PIN), staging(OLD, NEW)),
        OLD,
        changing_pin(OLD, text(NEW_SECRET, NEW_PIN)),
        on(OLD, NEW),
        on(OLD, NEW, values=(NEW_SECRET,)),
        media=BOTH,
        pins=PINS,
    ),
    Case(
        "revoke",
        (enrolling(*BOTH),),
        NEW,
        revoking(STICK),
        on(OLD),
        on(OLD),
        loses=STICK,
    ),
    Case(
        "recover",
        (enrolling(*BOTH, pin=PIN),),
        NEW,
        recovering(NEW, text(NEW_SECRET, NEW_PIN)),
        on(OLD),
        on(NEW, values=(NEW_SECRET,)),
        media=BOTH,
        pins=PINS,
    ),
    Case("remove", ENROLLED, OLD, removing, on(OLD), NOTHING, is_journalled=False),
)


def case_called(name: str) -> Case:
    return next(each for each in CASES if each.name == name)


_T = TypeVar("_T")


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """Take at most so many, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[at * (len(items) - 1) // (most - 1)] for at in range(most)]


@contextmanager
def beginning(case: Case, folder: Path) -> Iterator[World]:
    """A machine on which this move is about to be made, with a snapshot of that."""
    folder.mkdir(parents=True, exist_ok=True)
    with World(folder) as world:
        case.set_up(world)
        world.snapshot("start")
        yield world
