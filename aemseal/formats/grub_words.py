# SPDX-License-Identifier: GPL-2.0-or-later
"""From written words to arguments (GRUB 2.06, script/execute.c and script/argv.c).

A value is one character a byte. What files at rest cannot tell (a device that
`search` finds, the answer of `keystatus`) stands in values as one character above
U+00FF, which `Unknowns` gives a reason; such a value may be carried about and
compared with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aemseal.formats.grub_lexer import PartKind, Place
from aemseal.formats.grub_parser import Word
from aemseal.words.errors import GrubError

MAX_ARGUMENTS = 1 << 16
"""Characters of one command's arguments, and of one variable's value."""

SPACES = "\t\n\v\f\r "
"""What grub_isspace calls white space."""

_FIRST_UNKNOWN, _FIRST_WHOLE, _MAX_UNKNOWN = 0x10000, 0x80000, 0x60000
_LONGEST_NUMBER = 64
"""Digits; what is longer is more than GRUB can hold, leading zeros aside."""
_PATTERN_STARTS = ("/", "(", "*")


class Unknowns:
    """The reasons behind unknown values, one character each.

    A `whole` one stands for exactly one word (a device's name); any other may be
    empty, or several words where it is not quoted.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._known: dict[tuple[str, bool], str] = {}

    def value(self, reason: str, *, whole: bool = False) -> str:
        """Return the character that stands for a value unknown for this reason."""
        known = self._known.get((reason, whole))
        if known is not None:
            return known
        if len(self._reasons) > _MAX_UNKNOWN:
            raise GrubError("grub.cfg: too much depends on what cannot be known")
        sign = chr((_FIRST_WHOLE if whole else _FIRST_UNKNOWN) + len(self._reasons))
        self._reasons[sign] = reason
        self._known[reason, whole] = sign
        return sign

    def reason(self, text: str) -> str:
        """Return why the first unknown in this text is unknown."""
        return self._reasons[next(sign for sign in text if is_unknown(sign))]

    def shown(self, text: str) -> str:
        """Return text for people: UTF-8 where it is, "<reason>" for an unknown."""
        return "".join(
            f"<{self.reason(run)}>" if is_unknown(run) else readable(run)
            for run in _runs(text)
        )


def _runs(text: str) -> list[str]:
    """Cut at each unknown character, so that bytes of UTF-8 stay together."""
    runs = [""]
    for sign in text:
        if is_unknown(sign):
            runs += [sign, ""]
        else:
            runs[-1] += sign
    return [run for run in runs if run]


def is_unknown(text: str) -> bool:
    """Whether any of this text is unknown."""
    return max(text, default="") > "\xff"


def is_torn(text: str) -> bool:
    """Whether some of this text is unknown and need not be one word."""
    return any("\xff" < sign < chr(_FIRST_WHOLE) for sign in text)


def readable(text: str) -> str:
    """Return known text as Python shows file names: UTF-8, surrogates elsewhere."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def raw(text: str) -> str:
    """Return text of the outside as this evaluator's one character a byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a command gets; `pattern` is one that GRUB may replace by file names."""

    values: tuple[str, ...]
    pattern: str | None = None


class _Slots:
    """The argument vector under construction (struct grub_script_argv).

    A slot that nothing was added to, not even an empty string, is no argument: the
    next one takes its place.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._room = MAX_ARGUMENTS
        self._slots: list[str | None] = []
        self._bare: list[bool] = []

    def begin(self) -> None:
        if not self._slots or self._slots[-1] is not None:
            self._slots.append(None)
            self._bare.append(False)

    def add(self, text: str, *, bare: bool = False) -> None:
        self._room -= len(text) + 1
        if self._room < 0:
            raise self._place.refuse(f"arguments of over {MAX_ARGUMENTS} characters")
        self._slots[-1] = (self._slots[-1] or "") + text
        self._bare[-1] |= bare and ("*" in text or "?" in text)

    def arguments(self) -> Arguments:
        values = tuple(slot for slot in self._slots if slot is not None)
        patterns = (
            slot
            for slot, bare in zip(self._slots, self._bare, strict=True)
            if bare and slot is not None and slot.startswith(_PATTERN_STARTS)
        )
        return Arguments(values, next(patterns, None))


def expand(
    words: Sequence[Word],
    place: Place,
    lookup: Callable[[str], Sequence[str]],
    unknowns: Unknowns,
) -> Arguments:
    """Return the arguments that these words become.

    `lookup` returns a variable's values: none when unset or empty, one, or each
    parameter for ``@``. GrubError above MAX_ARGUMENTS characters.
    """
    slots = _Slots(place)
    for word in words:
        slots.begin()
        for kind, text in word.parts:
            if kind in (PartKind.TEXT, PartKind.PATTERN, PartKind.QUOTED):
                slots.add(text, bare=kind is PartKind.PATTERN)
            elif kind is PartKind.TRANSLATED:
                slots.add(unknowns.value("a translated text"))
            elif kind is PartKind.VARIABLE:
                pieces = [piece for value in lookup(text) for piece in split(value)]
                _add_all(slots, pieces, bare=True)
            else:
                _add_all(slots, lookup(text), bare=False)
    return slots.arguments()


def _add_all(slots: _Slots, pieces: Sequence[str], *, bare: bool) -> None:
    for number, piece in enumerate(pieces):
        if number:
            slots.begin()
        slots.add(piece, bare=bare)


def split(value: str) -> list[str]:
    """Cut at GRUB's white space; leading and trailing white space leave nothing."""
    for space in SPACES[:-1]:
        value = value.replace(space, " ")
    return [piece for piece in value.split(" ") if piece]


def leading_number(text: str) -> tuple[int | None, str]:
    """Read the number a text begins with, as grub_strtoul with base 0 does.

    Returns it and what follows; None when there is none: GRUB takes 0 then and
    complains. Numbers that no GRUB can hold come back as 2**64.
    """
    text = text.lstrip(SPACES)
    base, digits = 10, "0123456789"
    if text.startswith("0x"):
        base, digits, text = 16, "0123456789abcdefABCDEF", text[2:]
    elif text[:1] == "0" and text[1:2] and text[1] in "01234567":
        base, digits = 8, "01234567"
    rest = text.lstrip(digits)
    found = text[: len(text) - len(rest)]
    if len(found) > _LONGEST_NUMBER:
        return 1 << 64, rest
    return (int(found, base) if found else None), rest


def number(text: str) -> int | None:
    """Return the number a text begins with (`leading_number`)."""
    return leading_number(text)[0]
