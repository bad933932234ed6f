# SPDX-License-Identifier: GPL-2.0-or-later
"""A screen for what a person is to see and nothing is to keep.

It is drawn on stderr, and only where that and stdin are terminals: a redirected stream
would be a file with the secret in it, and a person who is not there scans no code. What
is drawn goes to the terminal's alternate screen (xterm's ctlseqs, DECSET 1049), which
has no scrollback and gives the screen before it back; on Linux's console, which has
none, screen and scrollback are erased (console_codes(4), CSI 3 J).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from aemseal.face.terminal import Terminal, give_up, printable
from aemseal.words.errors import AemsealError, UsageError
from aemseal.world.qr import width_of
from aemseal.world.rooted import why

_CLEAR = "\x1b[H\x1b[2J"
_ALTERNATE = ("\x1b[?1049h" + _CLEAR, _CLEAR + "\x1b[?1049l")
_CONSOLE = (_CLEAR, _CLEAR + "\x1b[3J")
_DUMB = ("", "")

LINE_LIMIT = 64
"""Characters of an answer; a code has six."""

LINES_BELOW = 3
"""What is said and asked below a drawing."""


@dataclass(frozen=True, slots=True)
class PrivateScreen:
    """What may be shown to the person alone, and asked of them.

    `can_draw` is False on a dumb terminal: no escape goes there. AemsealError where the
    terminal went away.
    """

    terminal: Terminal
    can_draw: bool

    def draw(self, lines: list[str]) -> bool:
        """Show lines with their escapes; False where the terminal is too small.

        LINES_BELOW lines are left for what is said and asked.
        """
        columns, rows = _size(self.terminal)
        if width_of(lines) > columns or len(lines) + LINES_BELOW > rows:
            return False
        self._write("".join(f"{line}\n" for line in lines))
        return True

    def say(self, line: str) -> None:
        """Tell a line on this screen."""
        self._write(f"{printable(line)}\n")

    def ask(self, prompt: str) -> str | None:
        """Ask for a line, which is seen as it is typed; None at the end of input."""
        self._write(prompt)
        try:
            return self.terminal.stdin.readline(LINE_LIMIT) or None
        except UnicodeError:
            return "?"
        except OSError as error:
            raise AemsealError(f"nothing can be read: {why(error)}") from None

    @property
    def has_blocks(self) -> bool:
        """Whether the terminal takes Unicode, as far as the locale tells."""
        encoding = self.terminal.stderr.encoding or ""
        return encoding.lower().replace("-", "") == "utf8"

    def _write(self, text: str) -> None:
        try:
            self.terminal.stderr.write(text)
            self.terminal.stderr.flush()
        except OSError as error:
            give_up(self.terminal.stderr)
            raise AemsealError(f"the terminal takes nothing: {why(error)}") from None


@contextmanager
def private_screen(terminal: Terminal) -> Iterator[PrivateScreen]:
    """Have a private screen, and leave nothing of it, whichever way it is left.

    UsageError where stdin or stderr is no terminal. A dumb terminal cannot be cleared:
    that is said afterwards.
    """
    require_person(terminal)
    name = terminal.environment.get("TERM", "dumb")
    begin, end = {"dumb": _DUMB, "linux": _CONSOLE}.get(name, _ALTERNATE)
    screen = PrivateScreen(terminal, can_draw=bool(begin))
    try:
        screen._write(begin)
        yield screen
    finally:
        with suppress(AemsealError):
            screen._write(end)
        if not end:
            terminal.say("aemseal: this terminal cannot be cleared: close it")


def require_person(terminal: Terminal) -> None:
    """Raise UsageError unless stdin and stderr are terminals."""
    if not (terminal.stdin.isatty() and terminal.stderr.isatty()):
        raise UsageError(
            "a seed is shown on a terminal, and a code typed there: stdin or stderr is "
            "none",
            "run it in a terminal, with nothing redirected but stdout",
        )


def _size(terminal: Terminal) -> tuple[int, int]:
    """Return columns and rows; many, where the terminal does not know its own."""
    try:
        columns, rows = os.get_terminal_size(terminal.stderr.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or 1000, rows or 1000
