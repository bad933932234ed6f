# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of GRUB's commands, as GRUB 2.06 reads them (lib/arg.c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Takes(Enum):
    """Whether an option has a value."""

    NOTHING = "nothing"
    VALUE = "a value"
    OPTIONAL = "perhaps a value"


@dataclass(frozen=True, slots=True)
class Option:
    """An option's long name, its letter ("" for none) and its value."""

    name: str
    letter: str = ""
    takes: Takes = Takes.NOTHING


@dataclass(slots=True)
class Parsed:
    """Options by long name (their last value, "" for none) and what is no option."""

    options: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)


_HELP = (Option("help", "h"), Option("usage", "u"))


class _WrongError(Exception):
    """GRUB would print an error or a help text and not run the command."""


def parse(
    arguments: Sequence[str], known: Sequence[Option], *, accept_dash: bool = False
) -> Parsed | None:
    """Return options and the rest; None where GRUB would not run the command.

    With `accept_dash` an option that is not known is an ordinary argument.
    """
    try:
        return _Parser(arguments, known, accept_dash).parsed()
    except _WrongError:
        return None


class _Parser:
    def __init__(
        self, arguments: Sequence[str], known: Sequence[Option], accept_dash: bool
    ) -> None:
        self._left = list(arguments)[::-1]
        every = (*_HELP, *known)
        self._long: Mapping[str, Option] = {each.name: each for each in every}
        self._short = {each.letter: each for each in every if each.letter}
        self._accept_dash = accept_dash
        self._parsed = Parsed()

    def parsed(self) -> Parsed:
        while self._left:
            argument = self._left.pop()
            if argument == "--":
                self._parsed.rest += self._left[::-1]
                break
            if not argument.startswith("-") or argument == "-":
                self._parsed.rest.append(argument)
            elif argument.startswith("--"):
                self._take_long(argument)
            else:
                self._take_short(argument)
        return self._parsed

    def _take_long(self, argument: str) -> None:
        name, equals, value = argument[2:].partition("=")
        option = self._long.get(name)
        if option is None:
            self._foreign(argument)
            return
        given: str | None = value if equals else None
        follows = self._left and not self._left[-1].startswith("-")
        if given is None and option.takes is not Takes.NOTHING and follows:
            given = self._left.pop()
        self._keep(option, given)

    def _take_short(self, argument: str) -> None:
        letters = argument[1:]
        if self._accept_dash and any(each not in self._short for each in letters):
            self._parsed.rest.append(argument)
            return
        for at, letter in enumerate(letters):
            option = self._short.get(letter)
            if option is None:
                raise _WrongError
            given = None
            if at == len(letters) - 1:
                given = self._value_after_letter(option)
            self._keep(option, given)

    def _value_after_letter(self, option: Option) -> str | None:
        if option.takes is Takes.NOTHING or not self._left:
            return None
        follows = self._left[-1]
        if option.takes is Takes.OPTIONAL and follows[:1] == "-" and follows != "-":
            return None
        return self._left.pop()

    def _foreign(self, argument: str) -> None:
        if not self._accept_dash:
            raise _WrongError
        self._parsed.rest.append(argument)

    def _keep(self, option: Option, given: str | None) -> None:
        if option in _HELP or (given is None and option.takes is Takes.VALUE):
            raise _WrongError
        if given is not None and option.takes is Takes.NOTHING:
            raise _WrongError
        self._parsed.options[option.name] = given or ""
