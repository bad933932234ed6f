# SPDX-License-Identifier: GPL-2.0-or-later
r"""The terminal's rules, in one place.

stdout carries results: text for people, or exactly one JSON object with --json.
stderr carries everything else: what is being done, `aemseal: error: ...` and
`aemseal: hint: ...`, lower case, without a full stop. A secret is read without echo,
from the terminal or from stdin, and never printed. Colour is looked at for each stream
when it is used: off with NO_COLOR, with TERM=dumb and where the stream is no terminal.
Bytes that come from files reach the terminal without control characters, and JSON as
text: those that are no UTF-8 as "\xhh".

A stream that was closed is /dev/null, one that has not all characters is given them
escaped, and a stderr that takes nothing changes no exit code.
"""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from aemseal.formats.slot import MAX_PARTS, PART_DATA
from aemseal.words.errors import EXIT_INTERRUPTED, AemsealError, UsageError
from aemseal.world.rooted import why

SECRET_LIMIT = MAX_PARTS * PART_DATA
"""Bytes; what a slot file holds."""

LINE_LIMIT = 256
"""Characters of an answer that is seen as it is typed."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def legible(text: str) -> str:
    r"""Return text with the bytes that are no UTF-8, surrogates to Python, as "\xhh".

    Any other surrogate, which no bytes give, is U+FFFD.
    """
    return _SURROGATE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    byte = ord(found[0]) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else "\ufffd"


def _legible_json(value: Any) -> Any:
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, Mapping):
        return {_legible_json(key): _legible_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_legible_json(each) for each in value]
    return value


def printable(text: str) -> str:
    """Return text with control characters as "?": file names may hold escapes."""
    return "".join(char if char.isprintable() else "?" for char in legible(text))


def open_streams() -> None:
    """Have stdin, stdout and stderr be there, and the latter take any character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python began
            place = Path(os.devnull)
            nowhere = place.open(mode, errors="backslashreplace")
            setattr(sys, name, nowhere)
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Let what a stream did not take go nowhere, lest Python complain at its end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


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
            text = json.dumps(_legible_json(report), indent=1) + "\n"
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
        self._tell(f"{printable(line)}\n")

    def fail(self, error: AemsealError) -> None:
        """Tell an error and its hint; with --json also as the one JSON object."""
        if self.as_json:
            with suppress(AemsealError, BrokenPipeError):
                self.result(error_report(error), [])
        mark = self._coloured("aemseal: error:", "1;31")
        self._tell(f"{mark} {printable(error.message)}\n")
        if error.hint:
            self._tell(f"aemseal: hint: {printable(error.hint)}\n")

    def _tell(self, text: str) -> None:
        try:
            self.stderr.write(text)
            self.stderr.flush()
        except OSError:
            give_up(self.stderr)

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

        A final line end is not part of it. UsageError when it is empty or too long,
        AemsealError when there is nothing to read from.
        """
        try:
            if self.stdin.isatty():
                secret = self._ask(prompt)
            else:
                secret = self.stdin.buffer.read(SECRET_LIMIT + 2).removesuffix(b"\n")
        except OSError as error:
            raise AemsealError(f"no secret can be read: {why(error)}") from None
        if not secret:
            raise UsageError("the secret is empty", "type or pipe in a text you know")
        if len(secret) > SECRET_LIMIT:
            raise UsageError(
                f"the secret has over {SECRET_LIMIT} bytes", "a line or two will do"
            )
        return secret

    @property
    def is_asking(self) -> bool:
        """Whether a person can be asked: stdin is a terminal."""
        return self.stdin.isatty()

    def ask(self, prompt: str) -> str:
        """Ask for one line, which is seen as it is typed; empty at the end of input.

        AemsealError when there is nothing to read from.
        """
        self._tell(prompt)
        try:
            return self.stdin.readline(LINE_LIMIT).strip()
        except UnicodeError:
            return "?"
        except OSError as error:
            raise AemsealError(f"nothing can be read: {why(error)}") from None

    def ask_hidden(self, prompt: str) -> bytes:
        """Ask for one line without echo; empty at the end of input.

        AemsealError when there is nothing to read from.
        """
        try:
            return self._ask(prompt)
        except OSError as error:
            raise AemsealError(f"nothing can be read: {why(error)}") from None

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
