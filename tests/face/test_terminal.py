# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal's rules: what goes where, in which colour, and what never comes out."""

from __future__ import annotations

import getpass
import io
import json
from collections.abc import Mapping

import pytest

from aemseal.face.terminal import SECRET_LIMIT, Terminal, error_report, printable
from aemseal.words.errors import BankError, UsageError


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Streams:
    """A terminal whose streams can be looked at; `tty` names those that are one."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        tty: str = "",
        typed: bytes = b"",
        as_json: bool = False,
    ) -> None:
        self.out = Tty() if "out" in tty else io.StringIO()
        self.err = Tty() if "err" in tty else io.StringIO()
        stdin = Tty() if "in" in tty.split() else io.TextIOWrapper(io.BytesIO(typed))
        self.terminal = Terminal(
            {} if environment is None else environment,
            as_json,
            stdin,
            self.out,
            self.err,
        )


ERROR = BankError("the TPM has no sha1 bank", "take sha256")


def test_a_result_is_text_or_one_json_object() -> None:
    text, as_json = Streams(), Streams(as_json=True)
    for each in (text, as_json):
        each.terminal.result({"a": 1}, ["one", "two"])
    assert text.out.getvalue() == "one\ntwo\n"
    assert json.loads(as_json.out.getvalue()) == {"a": 1}
    assert text.err.getvalue() == as_json.err.getvalue() == ""


def test_an_error_is_two_lines_for_people_and_one_object_for_programs() -> None:
    text, as_json = Streams(), Streams(as_json=True)
    for each in (text, as_json):
        each.terminal.fail(ERROR)
        assert each.err.getvalue() == (
            "aemseal: error: the TPM has no sha1 bank\naemseal: hint: take sha256\n"
        )
    assert text.out.getvalue() == ""
    assert json.loads(as_json.out.getvalue()) == error_report(ERROR)
    assert error_report(ERROR) == {
        "schema": "aemseal.error/1",
        "kind": "bank",
        "message": "the TPM has no sha1 bank",
        "hint": "take sha256",
        "exit": 4,
    }


def test_an_error_without_a_hint_is_one_line() -> None:
    streams = Streams()
    streams.terminal.fail(UsageError("no"))
    assert streams.err.getvalue() == "aemseal: error: no\n"


@pytest.mark.parametrize(
    ("environment", "tty", "coloured"),
    [
        ({}, "out err", True),
        ({}, "out", False),
        ({"NO_COLOR": ""}, "out err", False),
        ({"TERM": "dumb"}, "out err", False),
        ({"TERM": "xterm"}, "err", True),
    ],
)
def test_colour_is_looked_at_for_the_stream_it_goes_to(
    environment: dict[str, str], tty: str, coloured: bool
) -> None:
    streams = Streams(environment, tty)
    streams.terminal.fail(ERROR)
    assert ("\x1b[1;31m" in streams.err.getvalue()) is coloured


def test_control_characters_reach_no_terminal() -> None:
    assert printable("a\x1b[2J\tb\u202ec") == "a?[2J?b?c"
    streams = Streams(tty="out err")
    streams.terminal.say("\x1b]0;title\x07")
    streams.terminal.result({}, ["\x9b31m"])
    assert streams.err.getvalue() == "?]0;title?\n"
    assert streams.out.getvalue() == "?31m\n"


PIPED = {
    b"secret": b"secret",
    b"secret\n": b"secret",
    b"two\nlines\n": b"two\nlines",
    b"\xff\x00\n\n": b"\xff\x00\n",
    b"x" * SECRET_LIMIT + b"\n": b"x" * SECRET_LIMIT,
}


@pytest.mark.parametrize(("piped", "secret"), PIPED.items())
def test_a_piped_secret_is_all_but_its_last_line_end(
    piped: bytes, secret: bytes
) -> None:
    assert Streams(typed=piped).terminal.read_secret("? ") == secret


@pytest.mark.parametrize("piped", [b"", b"\n"])
def test_an_empty_secret_is_refused(piped: bytes) -> None:
    with pytest.raises(UsageError, match="the secret is empty"):
        Streams(typed=piped).terminal.read_secret("? ")


@pytest.mark.parametrize("over", [1, 2, 100_000])
def test_a_secret_that_is_too_long_is_refused(over: int) -> None:
    piped = b"x" * (SECRET_LIMIT + over)
    with pytest.raises(UsageError, match=f"over {SECRET_LIMIT} bytes"):
        Streams(typed=piped).terminal.read_secret("? ")


def test_a_typed_secret_comes_from_getpass_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt, stream: f"{prompt}typed")
    streams = Streams(tty="in err")
    assert streams.terminal.read_secret("? ") == b"? typed"
    assert streams.err.getvalue() == ""


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (EOFError(), "the secret is empty"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "no text in this terminal"),
    ],
)
def test_a_prompt_that_ends_badly_is_told(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    def fails(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr(getpass, "getpass", fails)
    with pytest.raises(UsageError, match=message):
        Streams(tty="in err").terminal.read_secret("? ")
