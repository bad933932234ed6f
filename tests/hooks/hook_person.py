# SPDX-License-Identifier: GPL-2.0-or-later
"""A person who is asked for a PIN: a program that answers as it was told to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PIN = "hex:31+file:x"
"""Of characters that mean something to tpm2-tools elsewhere."""
QUESTION = "PIN of the aemseal vault:"
AGAIN = f"That PIN was wrong. {QUESTION}"


class Person:
    """Answers with `typed`, one line for each question, then with nothing.

    `then` is shell that runs instead of an answer of nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.program = folder / "person"
        self._answers = folder / "person-answers"
        self._heard = folder / "person-heard"

    def types(self, *answers: str, before: str = ":", then: str = ":") -> None:
        """Answer so, after the shell `before`."""
        self._answers.mkdir(exist_ok=True)
        self._heard.unlink(missing_ok=True)
        for number, answer in enumerate(answers, 1):
            (self._answers / str(number)).write_bytes(answer.encode("latin-1"))
        self._write(
            before,
            f"number=$(wc -l <'{self._heard}')",
            f"file='{self._answers}'/$number",
            f'if [ -f "$file" ]; then cat "$file"; else {then}; fi',
        )

    def does(self, *script: str) -> None:
        """Run this shell when asked."""
        self._write(*script)

    def _write(self, *script: str) -> None:
        heard = f"printf '%s\\n' \"$1\" >>'{self._heard}'"
        lines = ["#!/bin/sh", heard, *script]
        self.program.write_text("".join(f"{line}\n" for line in lines))
        self.program.chmod(0o755)

    @property
    def heard(self) -> Sequence[str]:
        """The questions."""
        return self._heard.read_text().splitlines() if self._heard.exists() else ()
