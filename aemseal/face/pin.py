# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for a PIN: from --pin-file, or twice at a prompt without echo."""

from __future__ import annotations

from aemseal.face.named_file import open_named
from aemseal.face.run import Run
from aemseal.flows.secret import PIN_MOST, Pin, needs_pin
from aemseal.flows.state import VaultState
from aemseal.words.errors import UsageError

_ONE_PIN = (
    "a vault has one PIN, asked for once at boot: type the one that you gave before. "
    "It cannot be checked here; another one would leave this secret shut"
)


def read_pin(run: Run, kind: str, state: VaultState | None = None) -> Pin | None:
    """Return the PIN for a secret of this kind; None where there need not be one.

    `state` is the vault that the secret is to be sealed in beside others: it has one
    PIN, which nothing but an accepted boot can check. UsageError where one is needed
    and none is given, where the two that were typed differ, or for one that cannot be
    typed at boot.
    """
    sealed_to = () if state is None else state.media
    needed = needs_pin(kind, (*run.config.media, *sealed_to))
    is_given = state is not None and any(each.pin for each in state.secrets)
    path = run.arguments.pin_file
    if path is not None:
        with open_named(path) as file:
            return Pin(file.read(PIN_MOST + 2).removesuffix(b"\n"))
    if not run.terminal.is_asking:
        if needed:
            raise UsageError(
                f"a {kind} on a medium that stays with the machine needs a PIN",
                "name a file that holds it: --pin-file; or mark a medium that you take "
                "with you as carried: true in /etc/aemseal.yaml",
            )
        return None
    if is_given:
        run.terminal.say(_ONE_PIN)
    what = "the PIN that you gave before" if is_given else "PIN"
    again = "" if needed else ", or nothing for none"
    typed = run.terminal.ask_hidden(f"{what} (not shown){again}: ")
    if not typed and not needed:
        return None
    pin = Pin(typed)
    if run.terminal.ask_hidden("the same PIN again: ") != typed:
        raise UsageError("the two PINs differ", "try again")
    return pin
