# SPDX-License-Identifier: GPL-2.0-or-later
"""A screen that leaves nothing behind it, whatever happens on it."""

from __future__ import annotations

import errno
import io

import pytest

from aemseal.face.private_screen import private_screen
from aemseal.face.terminal import Terminal
from aemseal.words.errors import AemsealError, UsageError

BEGIN, END = "\x1b[?1049h\x1b[H\x1b[2J", "\x1b[H\x1b[2J\x1b[?1049l"


class Tty(io.StringIO):
    """A terminal with a size that nobody knows."""

    def isatty(self) -> bool:
        return True


class Encoded(Tty):
    """One whose locale is known."""

    def __init__(self, encoding: str | None) -> None:
        super().__init__()
        self.told = encoding

    @property
    def encoding(self) -> str | None:  # type: ignore[override]  # read-only above, too
        return self.told


class Gone(Tty):
    """One whose other side has gone, or does so after a while."""

    def __init__(self, writes: int = 0) -> None:
        super().__init__()
        self.writes = writes

    def write(self, text: str) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)

    def readline(self, *_: object) -> str:  # type: ignore[override]  # of any size
        raise OSError(errno.EIO, "Input/output error")

    def fileno(self) -> int:
        return 9999


class NoText(Tty):
    def readline(self, *_: object) -> str:  # type: ignore[override]  # of any size
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def terminal(
    stdin: io.StringIO | None = None, stderr: io.StringIO | None = None
) -> Terminal:
    return Terminal(
        {"TERM": "xterm"}, stdin=stdin or Tty("one\ntwo"), stderr=stderr or Tty()
    )


def shown(which: Terminal) -> str:
    assert isinstance(which.stderr, io.StringIO)
    return which.stderr.getvalue()


def test_what_is_drawn_said_and_asked_is_between_the_two_ends() -> None:
    some = terminal()
    with private_screen(some) as screen:
        assert screen.draw(["\x1b[40mX\x1b[0m"]), "a size that is not known is enough"
        screen.say("a line\x1b")
        assert screen.ask("? ") == "one\n"
        assert screen.ask("? ") == "two"
        assert screen.ask("? ") is None
    assert shown(some) == f"{BEGIN}\x1b[40mX\x1b[0m\na line?\n? ? ? {END}"


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError, ZeroDivisionError])
def test_it_is_left_whatever_is_raised(error: type[BaseException]) -> None:
    some = terminal()
    with pytest.raises(error), private_screen(some):
        raise error("no")
    assert shown(some) == BEGIN + END


@pytest.mark.parametrize("which", ["stdin", "stderr"])
def test_without_a_terminal_there_is_none(which: str) -> None:
    some = terminal(**{which: io.StringIO()})
    with (
        pytest.raises(UsageError, match="stdin or stderr is none"),
        private_screen(some),
    ):
        pytest.fail("it was opened")
    assert shown(some) == ""


def test_an_answer_that_is_no_text_is_a_wrong_one() -> None:
    with private_screen(terminal(stdin=NoText())) as screen:
        assert screen.ask("? ") == "?"


def test_an_answer_is_bounded() -> None:
    with private_screen(terminal(stdin=Tty("1" * 1000))) as screen:
        assert screen.ask("? ") == "1" * 64


def test_a_terminal_that_went_away_is_told() -> None:
    with (
        pytest.raises(AemsealError, match="nothing can be read: input/output error"),
        private_screen(terminal(stdin=Gone())) as screen,
    ):
        screen.ask("? ")


@pytest.mark.parametrize("writes", [0, 1])
def test_one_that_takes_nothing_ends_it(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aemseal.face.private_screen.give_up", lambda stream: None)
    with (
        pytest.raises(AemsealError, match="the terminal takes nothing: input/output"),
        private_screen(terminal(stderr=Gone(writes))) as screen,
    ):
        screen.say("x")


BLOCKS = {"utf-8": True, "UTF8": True, "ascii": False, "iso8859-1": False, None: False}


@pytest.mark.parametrize(("encoding", "has_blocks"), BLOCKS.items())
def test_half_blocks_are_for_terminals_of_unicode(
    encoding: str | None, has_blocks: bool
) -> None:
    with private_screen(terminal(stderr=Encoded(encoding))) as screen:
        assert screen.has_blocks is has_blocks
