# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for a PIN: from --pin-file, or twice at a prompt without echo."""

from __future__ import annotations

from aemseal.face.named_file import open_named
from aemseal.face.run import Run
from aemseal.flows.secret import PIN_MOST, Pin, needs_pin
from aemseal.words.errors import UsageError


def read_pin(run: Run, kind: str) -> Pin | None:
    """Return the PIN for a secret of this kind; None where there need not be one.

    UsageError where one is needed and none is given, where the two that were typed
    differ, or for one that cannot be typed at boot.
    """
    needed = needs_pin(kind, run.config.media)
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
    again = "" if needed else ", or nothing for none"
    typed = run.terminal.ask_hidden(f"PIN (not shown){again}: ")
    if not typed and not needed:
        return None
    pin = Pin(typed)
    if run.terminal.ask_hidden("the same PIN again: ") != typed:
        raise UsageError("the two PINs differ", "try again")
    return pin
