# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb `enrol KIND`: the first secret with all that goes with it, or one beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aemseal.face import render
from aemseal.face.ask_secrets import ASKED
from aemseal.face.pin import read_pin
from aemseal.face.private_screen import require_person
from aemseal.face.run import Run
from aemseal.flows.initramfs import ImageLists
from aemseal.flows.moves import NOT_ACCEPTED
from aemseal.flows.secret import KEYFILE, TOTP
from aemseal.flows.state import VaultState
from aemseal.measure.plan import Plan
from aemseal.words.errors import EXIT_DONE, AemsealError

if TYPE_CHECKING:
    from aemseal.flows.first_boot import Setting
    from aemseal.flows.sealing import ToSeal
    from aemseal.flows.vault import Vault
    from aemseal.world.luks_headers import HeaderChange


@dataclass
class Asking:
    """Asks for the PIN and the secret of a kind, and knows whether it was answered."""

    run: Run
    kind: str
    is_answered: bool = False

    def __call__(self, state: VaultState | None = None) -> ToSeal:
        """Ask; `state` is the vault's, where there is one already."""
        from aemseal.flows.sealing import ToSeal

        pin = read_pin(self.run, self.kind, state)
        secret = ASKED[self.kind](self.run)
        self.is_answered = True
        return ToSeal(secret, pin)

    def header(self) -> HeaderChange | None:
        """Return the LUKS header that was drafted: only for a keyfile there is one."""
        return None


def verb_enrol(run: Run) -> int:
    """Seal a secret of the kind that was named."""
    return KINDS[run.arguments.kind](run)


def enrol_shown(run: Run, kind: str) -> int:
    """Seal a secret that a person is shown at boot: a text, or a TOTP seed."""
    if kind == TOTP:
        require_person(run.terminal)
    with run.vault() as vault:
        asking = Asking(run, kind)
        try:
            if vault.load() is None:
                return show_enrolled(run, *enrol_first(run, vault, asking))
            return _enrol_beside(run, vault, asking)
        except (AemsealError, KeyboardInterrupt):
            if asking.is_answered and kind == TOTP:
                run.terminal.say(f"aemseal: {PHONE_ENTRY}")
            raise


PHONE_ENTRY = (
    "the entry that your phone made is of use only if aemseal status names a totp: "
    "else delete it"
)


def _enrol_keyfile(run: Run) -> int:
    from aemseal.face.enrol_keyfile import enrol_keyfile  # it builds on this module

    return enrol_keyfile(run)


KINDS: Mapping[str, Callable[[Run], int]] = {
    **{kind: partial(enrol_shown, kind=kind) for kind in ASKED},
    KEYFILE: _enrol_keyfile,
}
"""How each kind is enrolled; each holds the vault itself, and returns the exit code."""


def enrol_first(run: Run, vault: Vault, asking: Asking) -> tuple[VaultState, list[str]]:
    """Seal to the running boot, or to the next one with the hook in it.

    Returns the state, and what was done, in words.
    """
    # here, not above: they load the TPM's library, which most verbs do without
    from aemseal.flows.enrol import Enrolment, enrol

    setting = setting_of(run, vault)
    state = enrol(Enrolment(setting, asking.kind, asking, asking.header))
    trouble = setting.lists.keep(vault.files, state)
    if trouble is not None:
        run.terminal.say(f"aemseal: {trouble}")
    boots = (*state.accepted, *state.staged)
    word = "accepted" if state.accepted else "staged"
    return state, [f"sealed to {state.selection}", f"{word}: {boots[0].name}"]


def setting_of(run: Run, vault: Vault, verb: str = "enrol") -> Setting:
    """Return the machine of this run, as what is sealed anew by a verb needs it."""
    from aemseal.flows.enrol import read_foreign_owner
    from aemseal.flows.first_boot import Setting
    from aemseal.world.programs import run_program

    return Setting(
        host=run.host,
        host_now=run.live_host,
        vault=vault,
        config=run.config,
        asked=run.asked,
        entry=run.arguments.entry,
        rebuild=run_program,
        say=run.terminal.say,
        show=lambda changes: _say_plan(run, changes),
        foreign_owner=read_foreign_owner(vault, run.config),
        lists=ImageLists(run.host),
        verb=verb,
        kind=run.arguments.kind if verb == "enrol" else "",
    )


def _enrol_beside(run: Run, vault: Vault, asking: Asking) -> int:
    """Seal one more secret for the boots that are accepted already."""
    from aemseal.flows.enrol_beside import enrol_beside, require_room_beside

    state = require_room_beside(vault, run.host, asking.kind)
    after = enrol_beside(vault, state, asking(state))
    others = ", ".join(each.name for each in state.secrets)
    return show_enrolled(run, after, [f"sealed a {asking.kind} beside: {others}"])


def show_enrolled(run: Run, state: VaultState, lines: list[str]) -> int:
    """Show what was enrolled, and what to do next; `lines` say what was done."""
    report = {
        "schema": "aemseal.enrol/1",
        "accepted": [boot.name for boot in state.accepted],
        "staged": [boot.name for boot in state.staged],
        "selection": str(state.selection),
        "secrets": [each.name for each in state.secrets],
    }
    if state.checked is None or state.checked.result == NOT_ACCEPTED:
        step = "look at the next boot: aemseal status --check"
    else:
        step = render.reboot_step(state)
    run.terminal.result(report, [*lines, f"next step: {step}"])
    return EXIT_DONE


def _say_plan(run: Run, changes: Plan) -> None:
    for line in render.plan_lines(changes):
        run.terminal.say(line)
