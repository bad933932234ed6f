# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's `test` and `[` (GRUB 2.06, grub-core/commands/test.c).

GRUB reads an expression from left to right with an "and" and an "or" register, not
by a grammar: nothing is an error, ``-a`` is decoration, and words that fit no test
are true when they are not empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aemseal.formats.grub_words import is_torn, is_unknown, number

Truth = bool | None
"""None where files at rest do not tell."""

MAX_PARENTHESES = 40
_LONG_MAX = (1 << 31) - 1


class Files(Protocol):
    """What file tests ask; None where it cannot be known."""

    def exists(self, path: str) -> Truth:
        """Whether there is a file or directory."""

    def size(self, path: str) -> int | None:
        """Bytes of a file, 0 where there is no file, None for unknown."""

    def is_file(self, path: str) -> Truth:
        """Whether there is a file that is no directory."""


@dataclass(slots=True)
class _Registers:
    """`both` and `either` are GRUB's ctx.and and ctx.or; `negate` its ctx.invert."""

    both: Truth = True
    either: Truth = False
    negate: bool = False

    def take(self, value: Truth) -> None:
        if value is not None and self.negate:
            value = not value
        self.both, self.negate = _and(self.both, value), False

    def next_alternative(self) -> None:
        self.either, self.both = self.result(), True

    def result(self) -> Truth:
        return _or(self.either, self.both)


def _and(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: Truth, right: Truth) -> Truth:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def holds(arguments: Sequence[str], files: Files) -> Truth:
    """Evaluate what follows `test` or `[`; a closing ``]`` is dropped for both.

    None when a word is unknown that may have become several.
    """
    words = list(arguments)
    if words and words[-1] == "]":
        words.pop()
    if any(is_torn(word) for word in words) or words.count("(") > MAX_PARENTHESES:
        return None
    return _Expression(words, files).read()


class _Expression:
    def __init__(self, words: list[str], files: Files) -> None:
        self._words = words
        self._files = files
        self._at = 0

    def read(self) -> Truth:
        """Evaluate up to the closing parenthesis or the end."""
        registers = _Registers()
        while self._at < len(self._words):
            found, value = self._primary()
            if found:
                registers.take(value)
                continue
            word = self._words[self._at]
            self._at += 1
            if word == ")":
                break
            self._modifier(word, registers)
        return registers.result()

    def _primary(self) -> tuple[bool, Truth]:
        """Take a test of three or of two words; tell whether there is one."""
        left = len(self._words) - self._at
        if left > 2:
            first, operator, second = self._words[self._at : self._at + 3]
            if operator in _COMPARISONS or operator[:3] in ("-nt", "-ot"):
                self._at += 3
                return True, compare(first, operator, second)
        if left > 1 and self._words[self._at] in ("-d", "-e", "-f", "-s", "-n", "-z"):
            operator, operand = self._words[self._at : self._at + 2]
            self._at += 2
            return True, self._unary(operator, operand)
        return False, None

    def _unary(self, operator: str, operand: str) -> Truth:
        if operator == "-n":
            return operand != ""
        if operator == "-z":
            return operand == ""
        if operator == "-e":
            return self._files.exists(operand)
        if operator == "-s":
            size = self._files.size(operand)
            return None if size is None else size > 0
        is_file = self._files.is_file(operand)
        if operator == "-f" or is_file is None:
            return is_file
        return False if is_file else self._files.exists(operand)

    def _modifier(self, word: str, registers: _Registers) -> None:
        if word == "(":
            registers.take(self.read())
        elif word == "!":
            registers.negate = not registers.negate
        elif word == "-o":
            registers.next_alternative()
        elif word != "-a":
            registers.take(word != "")


_STRINGS = {"=", "==", "!=", "<", "<=", ">", ">="}
_NUMBERS = {"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-pgt", "-plt"}
_COMPARISONS = frozenset(_STRINGS | _NUMBERS)


def compare(first: str, operator: str, second: str) -> Truth:
    """Compare two words; None for times, and for numbers no 32-bit GRUB can hold."""
    if operator[:3] in ("-nt", "-ot"):
        return None
    if is_unknown(first + second) and first != second:
        return None
    if not operator.startswith("-"):
        return _ordered(operator, (first > second) - (first < second))
    if operator in ("-pgt", "-plt"):
        first, second = _after_common_prefix(first, second)
        one, other = number(first) or 0, number(second) or 0
    else:
        one, other = _signed(first), _signed(second)
    if max(abs(one), abs(other)) > _LONG_MAX:
        return None
    return _ordered(operator, (one > other) - (one < other))


def _ordered(operator: str, order: int) -> bool:
    if operator in ("=", "==", "-eq"):
        return order == 0
    if operator in ("!=", "-ne"):
        return order != 0
    if operator in ("<", "-lt", "-plt"):
        return order < 0
    if operator in ("<=", "-le"):
        return order <= 0
    if operator in (">", "-gt", "-pgt"):
        return order > 0
    return order >= 0


def _signed(text: str) -> int:
    if text.startswith("-"):
        return -(number(text[1:]) or 0)
    return number(text) or 0


def _after_common_prefix(first: str, second: str) -> tuple[str, str]:
    """Drop what both begin with, but no digit of the numbers that then differ."""
    at = 0
    while at < min(len(first), len(second)) and first[at] == second[at]:
        at += 1
    at -= 1
    while at > 0 and first[at] in "0123456789":
        at -= 1
    at += 1
    return first[at:], second[at:]
