# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for what is to be sealed: one function a kind, each with its own dialogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from aemseal.face.private_screen import PrivateScreen, private_screen
from aemseal.face.run import Run
from aemseal.flows.secret import TEXT, TOTP, Secret
from aemseal.flows.totp import (
    TRIES,
    CodeCheck,
    account_name,
    clock_caution,
    new_seed,
)
from aemseal.formats.totp import DIGITS, in_groups, otpauth_uri, seed_text
from aemseal.words.errors import AemsealError, UsageError
from aemseal.world.qr import qr_lines
from aemseal.world.rooted import Rooted

_DELETE = "delete the entry that your phone made just now: its seed is thrown away"


def ask_text(run: Run) -> Secret:
    """Ask for a text without echo, or read all of stdin.

    UsageError for one that cannot be shown at boot.
    """
    text = run.terminal.read_secret("secret text (not shown): ")
    return Secret(TEXT, TEXT, text)


def ask_totp(run: Run) -> Secret:
    """Show a fresh seed to the person's phone, and return it once a code proves that.

    UsageError where there is no terminal, or no right code after three tries; the seed
    is nowhere then but in the phone. It is shown on the terminal alone, and gone from
    there when this returns.
    """
    files = Rooted(run.root)
    caution = clock_caution(files, time.time())
    if caution is not None:
        run.terminal.say(f"caution: {caution}")
    check = CodeCheck(new_seed())
    try:
        with private_screen(run.terminal) as screen:
            _show_seed(screen, check.seed, account_name(files))
            complaint = _ask_codes(screen, check)
    except KeyboardInterrupt:
        run.terminal.say(f"aemseal: {_DELETE}")
        raise
    if complaint is not None:
        raise UsageError(f"nothing is sealed: {complaint}", _DELETE)
    run.terminal.say("the code is right: your phone has the seed")
    return check.secret


ASKED: Mapping[str, Callable[[Run], Secret]] = {TEXT: ask_text, TOTP: ask_totp}
"""How each kind is asked for that a person types or keeps. A keyfile is neither."""


def _show_seed(screen: PrivateScreen, seed: bytes, account: str) -> None:
    """Show the seed as a QR code where one can be shown, and as text for all phones."""
    problem = _draw(screen, otpauth_uri(seed, account))
    if problem is None:
        screen.say("scan this with an authenticator app; or have it add the key")
    else:
        screen.say(f"no QR code can be shown: {problem}")
        screen.say("have an authenticator app add the key")
    screen.say(f"    {in_groups(seed_text(seed))}   (time-based, {DIGITS} digits)")


def _draw(screen: PrivateScreen, uri: str) -> str | None:
    """Draw a QR code; say why not where it is none."""
    if not screen.can_draw:
        return "this terminal is called dumb"
    try:
        lines = qr_lines(uri, has_blocks=screen.has_blocks)
    except AemsealError as error:
        return error.message
    return None if screen.draw(lines) else "this terminal has too few lines or columns"


def _ask_codes(screen: PrivateScreen, check: CodeCheck) -> str | None:
    """Ask for a code, three times at most; return the last complaint, None for none."""
    complaint: str | None = None
    for number in range(1, TRIES + 1):
        typed = screen.ask(f"the code that the app shows ({number} of {TRIES}): ")
        if typed is None:
            return complaint or "no code was typed"
        complaint = check.complaint(typed, time.time())
        if complaint is None:
            return None
        screen.say(complaint)
    return complaint
