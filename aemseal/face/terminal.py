# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal's rules, in one place.

stdout carries results: text for people, or exactly one JSON object with --json.
stderr carries everything else: what is being done, `aemseal: error: ...` and
`aemseal: hint: ...`, lower case, without a full stop. A secret is read without echo,
from the terminal or from stdin, and never printed. Colour is looked at for each stream
when it is used: off with NO_COLOR, with TERM=dumb and where the stream is no terminal.
Bytes that come from files reach the terminal without control characters.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from aemseal.formats.slot import MAX_PARTS, PART_SIZE
from aemseal.words.errors import EXIT_INTERRUPTED, AemsealError, UsageError
from aemseal.world.rooted import why

SECRET_LIMIT = MAX_PARTS * PART_SIZE
"""Bytes; what a slot file holds."""


def printable(text: str) -> str:
    """Return text with control characters as "?": file names may hold escapes."""
    return "".join(char if char.isprintable() else "?" for char in text)


@dataclass(frozen=True)
class Terminal:
    """The three streams of one run, and whether results are JSON."""

    environment: Mapping[str, str]
    as_json: bool = False
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    def result(self, report: dict[str, Any], lines: list[str]) -> None:
        """Print a result: the report as JSON, or its lines.

        AemsealError where stdout takes no more, BrokenPipeError where nobody reads.
        """
        if self.as_json:
            text = json.dumps(report, indent=1, sort_keys=False) + "\n"
        else:
            text = "".join(f"{printable(line)}\n" for line in lines)
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise AemsealError(f"stdout cannot be written: {why(error)}") from None

    def say(self, line: str) -> None:
        """Tell the person what is being done."""
        self.stderr.write(f"{printable(line)}\n")
        self.stderr.flush()

    def fail(self, error: AemsealError) -> None:
        """Tell an error and its hint; with --json also as the one JSON object."""
        if self.as_json:
            with suppress(AemsealError, BrokenPipeError):
                self.result(error_report(error), [])
        mark = self._coloured("aemseal: error:", "1;31")
        self.stderr.write(f"{mark} {printable(error.message)}\n")
        if error.hint:
            self.stderr.write(f"aemseal: hint: {printable(error.hint)}\n")

    def interrupted(self) -> None:
        """Tell that the person stopped it; with --json also as the one object."""
        if self.as_json:
            report = error_report(AemsealError("interrupted"))
            with suppress(AemsealError, BrokenPipeError):
                kind = {"kind": "interrupted", "exit": EXIT_INTERRUPTED}
                self.result({**report, **kind}, [])
        self.say("aemseal: interrupted")

    def read_secret(self, prompt: str) -> bytes:
        """Read one line without echo from the terminal, or all of stdin.

        A final line end is not part of it. UsageError when it is empty or too long.
        """
        if self.stdin.isatty():
            secret = self._ask(prompt)
        else:
            secret = self.stdin.buffer.read(SECRET_LIMIT + 2).removesuffix(b"\n")
        if not secret:
            raise UsageError("the secret is empty", "type or pipe in a text you know")
        if len(secret) > SECRET_LIMIT:
            raise UsageError(
                f"the secret has over {SECRET_LIMIT} bytes", "a line or two will do"
            )
        return secret

    def _ask(self, prompt: str) -> bytes:
        try:
            return getpass.getpass(prompt, stream=self.stderr).encode()
        except EOFError:
            return b""
        except UnicodeError:
            raise UsageError(
                "the secret is no text in this terminal's encoding",
                "type other characters, or pipe it in",
            ) from None

    def _coloured(self, text: str, code: str) -> str:
        """Colour a text for stderr."""
        plain = (
            "NO_COLOR" in self.environment
            or self.environment.get("TERM") == "dumb"
            or not self.stderr.isatty()
        )
        return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def error_report(error: AemsealError) -> dict[str, Any]:
    """Return the `aemseal.error/1` object."""
    return {
        "schema": "aemseal.error/1",
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "exit": error.exit_code,
    }
