# SPDX-License-Identifier: GPL-2.0-or-later
"""A person with a phone, at a pseudo-terminal on which the command line runs.

The phone takes the key off the screen, and the person types what is next on the list
whenever something is asked. What is asked without echo is read from the same terminal,
and not from the one that the tests may be run on.
"""

from __future__ import annotations

import base64
import codecs
import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO
from unittest.mock import patch

from laptop import Laptop, Ran

from aemseal.face.cli import main
from aemseal.formats.totp import totp

_KEY = re.compile(r"    ((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})   \(time-based")

END = "\x04"
"""Ctrl-D: the end of input."""

Answer = str | Callable[["Phone"], str]
"""What is typed: as it is, or what the phone says."""


def code_of(offset: float = 0) -> Callable[[Phone], str]:
    """What the phone shows; its clock is so many seconds ahead."""
    return lambda phone: totp(phone.seed, time.time() + offset) + "\n"


@dataclass
class Phone:
    """Looks at the screen, and answers in turn; after the last answer it hangs up."""

    answers: list[Answer]
    shown: str = ""
    trouble: AssertionError | None = None

    @property
    def key(self) -> str:
        """The seed as it is shown to be typed into a phone."""
        found = _KEY.findall(self.shown)
        assert found, self.shown
        return str(found[-1])

    @property
    def seed(self) -> bytes:
        """The seed that was shown last."""
        return base64.b32decode(self.key.replace(" ", ""))

    def sit(self, terminal: int) -> None:
        """Read until the other side is closed."""
        # a character may come in two parts
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # EIO: nobody holds the other side any more
                return
            self.shown += decoder.decode(part).replace("\r", "")
            if self.shown.endswith(": "):
                os.write(terminal, self._typed().encode(errors="surrogateescape"))

    def _typed(self) -> str:
        if not self.answers or self.trouble is not None:
            return END
        answer = self.answers.pop(0)
        try:
            return answer if isinstance(answer, str) else answer(self)
        except AssertionError as error:  # told by the test, and not by this thread
            self.trouble = error
            return END


def _asked_here(prompt: str, stream: TextIO) -> str:
    stream.write(prompt)
    stream.flush()
    return sys.stdin.readline().rstrip("\n")


@dataclass
class Sitting:
    """A terminal of some size and kind."""

    rows: int = 40
    columns: int = 80
    term: str = "xterm"
    stderr_is_file: bool = False

    def run(
        self, laptop: Laptop, words: str, answers: Sequence[Answer]
    ) -> tuple[Ran, Phone]:
        """Give a command; stdout is a file, stdin and stderr are the terminal."""
        phone = Phone(list(answers))
        master, slave = pty.openpty()
        size = struct.pack("HHHH", self.rows, self.columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        thread = threading.Thread(target=phone.sit, args=(master,))
        thread.start()
        environment = {"TPM2TOOLS_TCTI": laptop.machine.tcti, "TERM": self.term}
        argv = [*words.split(), "--root", str(laptop.root)]
        before = sys.stdin, sys.stdout, sys.stderr
        try:
            with (
                tempfile.TemporaryFile("w+") as out,
                tempfile.TemporaryFile("w+") as errors,
                open(slave, encoding="utf-8", closefd=False) as typed,
                open(slave, "w", encoding="utf-8", closefd=False) as screen,
            ):
                told = errors if self.stderr_is_file else screen
                sys.stdin, sys.stdout, sys.stderr = typed, out, told
                with patch("getpass.getpass", _asked_here):
                    code = main(argv, environment)
                told.flush()
                out.seek(0)
                errors.seek(0)
                ran = code, out.read(), errors.read()
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
            os.close(slave)
            thread.join(60)
            os.close(master)
        if phone.trouble is not None:
            raise phone.trouble
        return Ran(ran[0], ran[1], ran[2] or phone.shown), phone
