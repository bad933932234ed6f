# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax tree of a GRUB script (GRUB 2.06, grub-core/script/parser.y).

GRUB reports a syntax error, drops some lines and goes on; what it drops depends on
its parser's recovery, so every syntax error is refused here with its line. The
grammar is strict in ways a shell is not: an empty block or branch, a lone ``;`` and
``}`` straight after a function's last command are errors in GRUB too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from aemseal.formats.grub_lexer import Kind, Lexer, Part, Place, Token

MAX_TOKENS = 100_000
MAX_NESTING = 40


@dataclass(frozen=True, slots=True)
class Word:
    """One argument as written."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Simple:
    """A command with its words (the first names it) and, for menu entries, a block."""

    words: tuple[Word, ...]
    block: Body | None
    place: Place


@dataclass(frozen=True, slots=True)
class If:
    """If condition; then; else. An elif is an If in `otherwise`."""

    condition: Body
    then: Body
    otherwise: Body
    place: Place


@dataclass(frozen=True, slots=True)
class For:
    """For `variable` in `words`."""

    variable: str
    words: tuple[Word, ...]
    body: Body
    place: Place


@dataclass(frozen=True, slots=True)
class While:
    """While condition, or until it when `until` is set."""

    condition: Body
    body: Body
    until: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Function:
    """A definition; GRUB allows it at the top of a file only."""

    name: str
    body: Body
    place: Place


Statement = Simple | If | For | While | Function
Body = tuple[Statement, ...]

_THEN, _DO, _DONE = frozenset({"then"}), frozenset({"do"}), frozenset({"done"})
_AFTER_THEN = frozenset({"elif", "else", "fi"})
_ELIF, _FI = frozenset({"elif"}), frozenset({"fi"})
_LEFT, _RIGHT = frozenset({"{"}), frozenset({"}"})
_SEMICOLON, _FUNCTION = frozenset({";"}), frozenset({"function"})


def parse(config: bytes, file: str = "grub.cfg") -> Body:
    """Return the statements of one file; GrubError names the line that is wrong."""
    return _Parser(Lexer(config, file)).script()


class _Parser:
    def __init__(self, lexer: Lexer) -> None:
        self._tokens: Iterator[Token] = iter(lexer)
        self._count = 0
        self._nesting = 0
        self._next = next(self._tokens)

    def script(self) -> Body:
        statements: list[Statement] = []
        self._newlines()
        while self._next.kind is not Kind.END:
            statements.append(self._statement())
            if not self._delimiter():
                self._unexpected()
            self._newlines()
        return tuple(statements)

    # Reading tokens

    def _take(self) -> Token:
        taken = self._next
        self._count += 1
        if self._count > MAX_TOKENS:
            raise taken.place.refuse(f"more than {MAX_TOKENS} words")
        self._next = next(self._tokens)
        return taken

    def _unexpected(self) -> NoReturn:
        token = self._next
        if token.kind is Kind.END:
            raise token.place.refuse("the file ends inside of a command")
        shown = token.kind.value if token.kind is Kind.NEWLINE else repr(token.text)
        raise token.place.refuse(f"{shown} is not expected here")

    def _is_mark(self, marks: frozenset[str]) -> bool:
        """Whether a sign or reserved word of these comes next."""
        kind = self._next.kind
        return kind in (Kind.SIGN, Kind.RESERVED) and self._next.text in marks

    def _expect(self, mark: str) -> Token:
        if not self._is_mark(frozenset({mark})):
            self._unexpected()
        return self._take()

    def _newlines(self) -> None:
        while self._next.kind is Kind.NEWLINE:
            self._take()

    def _delimiter(self) -> bool:
        """Take one newline or semicolon, if there is one."""
        ends = self._next.kind is Kind.NEWLINE or self._is_mark(_SEMICOLON)
        if ends:
            self._take()
        return ends

    # The grammar

    def _statement(self) -> Statement:
        if self._is_mark(_FUNCTION):
            return self._function()
        return self._command()

    def _command(self) -> Statement:
        token = self._next
        if token.kind in (Kind.NAME, Kind.WORD):
            return self._simple()
        if token.kind is not Kind.RESERVED:
            self._unexpected()
        with self._deeper(token.place):
            if token.text == "if":
                return self._if()
            if token.text == "for":
                return self._for()
            if token.text in ("while", "until"):
                return self._while()
        return self._unexpected()

    @contextmanager
    def _deeper(self, place: Place) -> Iterator[None]:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise place.refuse(f"commands nest deeper than {MAX_NESTING}")
        yield
        self._nesting -= 1

    def _commands(self, ends: frozenset[str], needs_delimiter: bool) -> Body:
        """One command or more, up to one of `ends`, which is left to be taken."""
        self._newlines()
        commands = [self._command()]
        while self._delimiter():
            self._newlines()
            if self._is_mark(ends):
                return tuple(commands)
            commands.append(self._command())
        if needs_delimiter or not self._is_mark(ends):
            self._unexpected()
        return tuple(commands)

    def _words(self) -> tuple[Word, ...]:
        words = []
        while self._next.kind in (Kind.NAME, Kind.WORD, Kind.RESERVED):
            words.append(Word(self._take().parts))
        return tuple(words)

    def _simple(self) -> Simple:
        place = self._next.place
        words = self._words()
        if not self._is_mark(_LEFT):
            return Simple(words, None, place)
        with self._deeper(self._take().place):
            block = self._commands(_RIGHT, needs_delimiter=False)
            self._expect("}")
        return Simple(words, block, place)

    def _function(self) -> Function:
        place = self._take().place
        if self._next.kind is not Kind.NAME:
            self._unexpected()
        name = self._take().text
        self._newlines()
        self._expect("{")
        body = self._commands(_RIGHT, needs_delimiter=True)
        self._expect("}")
        return Function(name, body, place)

    def _if(self) -> If:
        """Take an if, or the elif of one: both end with the same fi."""
        place = self._take().place
        condition = self._commands(_THEN, needs_delimiter=True)
        self._expect("then")
        then = self._commands(_AFTER_THEN, needs_delimiter=True)
        if self._is_mark(_ELIF):
            with self._deeper(self._next.place):
                return If(condition, then, (self._if(),), place)
        otherwise: Body = ()
        if self._take().text == "else":
            otherwise = self._commands(_FI, needs_delimiter=True)
            self._expect("fi")
        return If(condition, then, otherwise, place)

    def _for(self) -> For:
        place = self._take().place
        if self._next.kind is not Kind.NAME:
            self._unexpected()
        variable = self._take().text
        self._expect("in")
        words = self._words()
        if not self._delimiter():
            self._unexpected()
        self._newlines()
        return For(variable, words, self._loop_body(), place)

    def _while(self) -> While:
        mark = self._take()
        condition = self._commands(_DO, needs_delimiter=True)
        return While(condition, self._loop_body(), mark.text == "until", mark.place)

    def _loop_body(self) -> Body:
        self._expect("do")
        body = self._commands(_DONE, needs_delimiter=True)
        self._expect("done")
        return body
