# SPDX-License-Identifier: GPL-2.0-or-later
r"""Words and signs of GRUB script, as GRUB 2.06 cuts a grub.cfg into them.

Text is one character a byte (latin-1), so that no byte is lost; characters above
U+00FF never come from a file and are free to mean "unknown" (`grub_words`).

What differs from a POSIX shell (grub-core/script/yylex.l, and seen in grub-emu):
a line that begins with ``#`` is dropped even inside quotes, and so is every
carriage return (normal/main.c read_config_file_getline, grub_file_getline); ``{``
and ``}`` end a word wherever they stand; ``$`` must be followed by a name, also in
double quotes; ``| & < >`` have no meaning and are errors; a word longer than flex's
YYLMAX stops GRUB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NoReturn

from aemseal.words.errors import GrubError

MAX_CONFIG = 1 << 20
"""Bytes of one configuration file. Real ones have some ten thousand."""

MAX_TOKEN = 8191
"""Characters of one word: flex's YYLMAX less the closing NUL; beyond, GRUB stops."""

_RESERVED = """
case do done elif else esac fi for if in select then until while function
"""
RESERVED = frozenset(_RESERVED.split())


class PartKind(Enum):
    """How a piece of a word was written, which decides how it expands."""

    TEXT = "text"
    """Unquoted, backslashes already taken away."""

    PATTERN = "pattern"
    """Unquoted text with a bare ``*`` or ``?``: GRUB may replace it by file names."""

    QUOTED = "quoted"
    """From '..' or ".."; makes an argument even when it is empty."""

    VARIABLE = "variable"
    """``$name`` outside of quotes: split at white space, nothing when empty."""

    QUOTED_VARIABLE = "quoted variable"

    TRANSLATED = "translated"
    """``$".."``, which GRUB looks up in a message catalogue."""


class Part(NamedTuple):
    """A piece of a word; `text` is the name for the two kinds of variables."""

    kind: PartKind
    text: str


class Place(NamedTuple):
    """A line (from 1) of a file, for messages: "grub.cfg line 12"."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"

    def refuse(self, what: str, hint: str | None = None) -> GrubError:
        """Return the GrubError that names this line, for the caller to raise."""
        return GrubError(f"{self}: {what}", hint)


class Kind(Enum):
    """The terminals of GRUB's grammar; RESERVED ones are told by their text."""

    WORD = "a word"
    NAME = "a name"
    RESERVED = "a reserved word"
    SIGN = "a sign"
    NEWLINE = "the end of the line"
    END = "the end of the file"


@dataclass(frozen=True, slots=True)
class Token:
    """A terminal. `text` is the sign, name or reserved word; words have `parts`."""

    kind: Kind
    text: str
    parts: tuple[Part, ...]
    place: Place


_BLANKS = re.compile(r"[ \t]+")
_COMMENT = re.compile(r"#[^\n]*")
_PLAIN = re.compile(r"[^{}|&$;<> \t\n'\"\\]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VARIABLE = re.compile(
    r"\$(?:([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@])"
    r"|\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@])\})"
)
_IN_DOUBLE = re.compile(r"[^\"\\$]+")
_WORD_ENDS = "{}|&;<> \t\n"
_NOT_GRAMMAR = ("||", "&&", ";;", "|", "&", "<", ">")


def read_lines(config: bytes, file: str) -> tuple[str, list[int]]:
    """Return the text that GRUB's lexer sees and the file's line for each of its lines.

    GrubError above MAX_CONFIG bytes and for a NUL.
    """
    if len(config) > MAX_CONFIG:
        raise GrubError(f"{file} has more than {MAX_CONFIG} bytes")
    if (nul := config.find(b"\0")) >= 0:
        line = config.count(b"\n", 0, nul) + 1
        raise Place(file, line).refuse("a NUL byte is no text")
    text = config.decode("latin-1").replace("\r", "")
    kept = [
        (line, number)
        for number, line in enumerate(text.split("\n"), 1)
        if not line.startswith("#")
    ]
    return "\n".join(line for line, _ in kept) + "\n", [n for _, n in kept]


class Lexer:
    """Cuts one file into tokens; iterate over it once."""

    def __init__(self, config: bytes, file: str) -> None:
        self.file = file
        self.text, self._numbers = read_lines(config, file)
        self._at = 0
        self._line = 0
        self._counted = 0

    def __iter__(self) -> Iterator[Token]:
        """Yield the tokens, an END last. GrubError where GRUB sees no token."""
        text = self.text
        while self._at < len(text):
            if (found := _BLANKS.match(text, self._at)) or (
                found := _COMMENT.match(text, self._at)
            ):
                self._at = found.end()
            else:
                yield self._token()
        yield Token(Kind.END, "", (), self._place())

    def _place(self) -> Place:
        """Where the lexer stands; counts only the lines since the last call."""
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        line = min(self._line, len(self._numbers) - 1)
        return Place(self.file, self._numbers[line] if self._numbers else 1)

    def _token(self) -> Token:
        place, start = self._place(), self._at
        sign = self.text[start]
        if sign == "\n":
            self._at += 1
            return Token(Kind.NEWLINE, sign, (), place)
        for bad in _NOT_GRAMMAR:
            if self.text.startswith(bad, start):
                raise place.refuse(f"{bad!r} has no meaning in GRUB script")
        if sign in "{};":
            self._at += 1
            return Token(Kind.SIGN, sign, (), place)
        parts = tuple(self._word(place))
        written = self.text[start : self._at]
        if len(written) > MAX_TOKEN:
            raise place.refuse(f"a word is longer than {MAX_TOKEN} characters")
        return Token(_kind_of(written, place), written, parts, place)

    def _word(self, place: Place) -> Iterator[Part]:
        text = self.text
        while text[self._at] not in _WORD_ENDS:
            sign = text[self._at]
            if sign == "'":
                yield Part(PartKind.QUOTED, self._single(place))
            elif sign == '"':
                yield from self._double(place)
            elif sign == "\\":
                yield from self._escaped(place)
            elif text.startswith('$"', self._at):
                yield self._translated(place)
            elif sign == "$":
                yield Part(PartKind.VARIABLE, self._variable(place))
            else:
                found = _PLAIN.match(text, self._at)
                assert found is not None
                self._at = found.end()
                pattern = "*" in found[0] or "?" in found[0]
                kind = PartKind.PATTERN if pattern else PartKind.TEXT
                yield Part(kind, found[0])

    def _single(self, place: Place) -> str:
        end = self.text.find("'", self._at + 1)
        if end < 0:
            self._unterminated("'", place)
        content = self.text[self._at + 1 : end]
        self._at = end + 1
        return content

    def _escaped(self, place: Place) -> Iterator[Part]:
        """Take a backslash outside of quotes: the next character, or a joined line."""
        taken = self.text[self._at + 1 : self._at + 2]
        self._at += 2
        if self._at >= len(self.text):
            raise place.refuse("the file ends in a backslash")
        if taken != "\n":
            yield Part(PartKind.TEXT, taken)

    def _variable(self, place: Place) -> str:
        found = _VARIABLE.match(self.text, self._at)
        if found is None:
            raise place.refuse("a '$' is followed by no variable name")
        self._at = found.end()
        return found[1] or found[2]

    def _double(self, place: Place) -> Iterator[Part]:
        r"""Yield the pieces of ".."; escapes are ``\$ \\ \"`` and a joined line."""
        self._at += 1
        yield Part(PartKind.QUOTED, "")
        while True:
            sign = self.text[self._at : self._at + 1]
            if sign == "":
                self._unterminated('"', place)
            elif sign == '"':
                self._at += 1
                return
            elif sign == "$":
                yield Part(PartKind.QUOTED_VARIABLE, self._variable(place))
            elif sign == "\\":
                yield Part(PartKind.QUOTED, self._escaped_in_double())
            else:
                found = _IN_DOUBLE.match(self.text, self._at)
                assert found is not None
                self._at = found.end()
                yield Part(PartKind.QUOTED, found[0])

    def _escaped_in_double(self) -> str:
        taken = self.text[self._at + 1 : self._at + 2]
        if taken == "\n":
            self._at += 2
            return ""
        if taken and taken in '$\\"':
            self._at += 2
            return taken
        self._at += 1
        return "\\"

    def _translated(self, place: Place) -> Part:
        """$"..": what it says is not needed, for it counts as unknown."""
        end = self._at + 2
        while (sign := self.text[end : end + 1]) != '"':
            if sign == "":
                self._unterminated('$"', place)
            end += 2 if sign == "\\" else 1
        content = self.text[self._at + 2 : end]
        self._at = end + 1
        return Part(PartKind.TRANSLATED, content)

    def _unterminated(self, quote: str, place: Place) -> NoReturn:
        raise place.refuse(f"the {quote} that opens here is never closed")


def _kind_of(written: str, place: Place) -> Kind:
    if written in RESERVED:
        return Kind.RESERVED
    if written in ("[[", "]]"):
        raise place.refuse(f"{written!r} has no meaning in GRUB script")
    return Kind.NAME if _NAME.match(written) else Kind.WORD
