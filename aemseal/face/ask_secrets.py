# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for what is to be sealed: one function a kind, each with its own dialogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aemseal.face.run import Run
from aemseal.flows.secret import TEXT, Secret


def ask_text(run: Run) -> Secret:
    """Ask for a text without echo, or read all of stdin.

    UsageError for one that cannot be shown at boot.
    """
    text = run.terminal.read_secret("secret text (not shown): ")
    return Secret(TEXT, TEXT, text)


ASKED: Mapping[str, Callable[[Run], Secret]] = {TEXT: ask_text}
"""How each kind is asked for that a person types or keeps. A keyfile is neither."""
