# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the syntax tree of GRUB scripts (GRUB 2.06, grub-core/script/execute.c).

A condition that files at rest cannot decide runs both branches; what they leave
different is unknown from then on (`State.joined`). Everything is counted, so that
no script runs for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from aemseal.formats.grub_lexer import Place
from aemseal.formats.grub_parser import (
    Body,
    For,
    Function,
    If,
    Simple,
    Statement,
    While,
    Word,
)
from aemseal.formats.grub_state import State
from aemseal.formats.grub_words import (
    Arguments,
    Unknowns,
    expand,
    is_unknown,
    number,
)

MAX_STEPS = 100_000
"""Commands and loop rounds of one evaluation, all files together."""

MAX_DEPTH = 80
"""Nested commands and function calls."""

MAX_TEXT = 1 << 22
"""Characters of all arguments of one evaluation, each argument counted as 8 more."""

Status = int | None
"""A command's error number, 0 for success, None for unknown."""

FAILED, NO_FILE, BAD_COMMAND, BAD_ARGUMENT = 1, 5, 17, 18
"""GRUB_ERR_TEST_FAILURE, _FILE_NOT_FOUND, _INVALID_COMMAND, _BAD_ARGUMENT (err.h)."""


class BootedError(Exception):
    """The script starts what it loaded, or ends GRUB: `loads` is all there is."""

    def __init__(self, place: Place) -> None:
        super().__init__(str(place))
        self.place = place


class MenuError(Exception):
    """The script shows another menu (`configfile`), with the state it leaves."""

    def __init__(self, place: Place, state: State) -> None:
        super().__init__(str(place))
        self.place = place
        self.state = state


@dataclass(frozen=True, slots=True)
class Call:
    """A command on its machine, with its arguments expanded; `name` is the first."""

    machine: Machine
    name: str
    arguments: tuple[str, ...]
    block: Body | None
    place: Place


Command = Callable[[Call], Status]


class Machine:
    """Runs statements on `state`; the counters are those of a whole evaluation."""

    def __init__(
        self, commands: Mapping[str, Command], harmless: frozenset[str]
    ) -> None:
        self._commands = commands
        self._harmless = harmless
        self.unknowns = Unknowns()
        self.state = State()
        self._steps = 0
        self._depth = 0
        self._text = 0

    def begin(self, state: State) -> None:
        """Work on this state from now on, outside of any command."""
        self.state = state
        self._depth = 0

    def run(self, body: Body) -> Status:
        """Run statements one after another (grub_script_execute_cmdlist)."""
        status: Status = 0
        for statement in body:
            if self.state.breaks:
                break
            status = self._execute(statement)
            if self.state.returns:
                break
        return status

    def variable(self, name: str) -> str:
        """Return a variable's value, "" when it is not set."""
        return self.state.variables.get(name, "")

    def set(self, place: Place, name: str, value: str) -> None:
        """Set a variable; GrubError where its name is unknown."""
        self.require_known(place, name)
        self.state.variables[name] = value

    def require_known(self, place: Place, text: str) -> None:
        """Raise GrubError when any of this text is unknown."""
        if is_unknown(text):
            raise place.refuse(f"depends on {self.unknowns.reason(text)}")

    def count(self, place: Place, steps: int = 1) -> None:
        """Take steps; GrubError above MAX_STEPS."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise place.refuse(f"more than {MAX_STEPS} commands")

    # One statement

    def _execute(self, statement: Statement) -> Status:
        """Run one statement and leave its status in $?."""
        self.count(statement.place)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise statement.place.refuse(f"commands nest deeper than {MAX_DEPTH}")
        status = self._dispatch(statement)
        self._depth -= 1
        self._leave(status, statement.place)
        return status

    def _leave(self, status: Status, place: Place) -> None:
        self.state.variables["?"] = (
            self.unknowns.value(f"what the command at {place} answers")
            if status is None
            else str(status)
        )

    def _dispatch(self, statement: Statement) -> Status:
        if isinstance(statement, Simple):
            return self._simple(statement)
        if isinstance(statement, If):
            return self._if(statement)
        if isinstance(statement, For):
            return self._for(statement)
        if isinstance(statement, While):
            return self._while(statement)
        return self._define(statement)

    def _define(self, function: Function) -> Status:
        """Define a function. No command of GRUB's: $? stays as it is."""
        self.state.functions[function.name] = function.body
        return self.last()

    def last(self) -> Status:
        """Return the status of the last command."""
        last = self.variable("?")
        return None if is_unknown(last) else int(last or "0")

    def _if(self, node: If) -> Status:
        self.run(node.condition)
        if self.state.returns:
            return self.last()
        answer = self.variable("?")
        if is_unknown(answer):
            return self._both(node, self.unknowns.reason(answer))
        return self.run(node.then if answer == "0" else node.otherwise)

    def _both(self, node: If, reason: str) -> Status:
        """Run the two branches of an undecided condition and join what they leave."""
        before, depth = self.state, self._depth
        self.count(node.place, before.weight)
        ends: list[tuple[Status, State]] = []
        for branch in (node.then, node.otherwise):
            self.state, self._depth = before.copy(), depth
            try:
                status = self.run(branch)
            except (BootedError, MenuError) as end:
                self._undecided(end.place, reason)
            ends.append((status, self.state))
        (then, left), (otherwise, right) = ends
        left.variables["?"] = right.variables["?"] = "0"
        joined = left.joined(
            right, lambda name: self.unknowns.value(f"${name} after {node.place}")
        )
        if joined is None:
            self._undecided(node.place, reason)
        self.state = joined
        return then if then == otherwise else None

    def _undecided(self, place: Place, reason: str) -> NoReturn:
        raise place.refuse(f"what happens here depends on {reason}")

    def _for(self, node: For) -> Status:
        words = self._expand(node.words, node.place)
        self._no_pattern(words, node.place)
        for word in words.values:
            self.require_known(node.place, word)
        status: Status = 0
        self.state.loops += 1
        for word in words.values:
            self.count(node.place)
            if self.state.continues and self.state.breaks == 1:
                self.state.breaks = 0
            if not self.state.breaks:
                self.state.variables[node.variable] = word
                status = self.run(node.body)
                if self.state.returns:
                    break
        self._leave_loop()
        return status

    def _while(self, node: While) -> Status:
        self.state.loops += 1
        while True:
            self.count(node.place)
            status = self.run(node.condition)
            if self._returns():
                break
            if status is None:
                self._undecided(node.place, "a condition that is unknown")
            if (status == 0) == node.until:
                break
            status = self.run(node.body)
            if self._returns():
                break
            if self.state.breaks == 1 and self.state.continues:
                self.state.breaks = 0
            if self.state.breaks:
                break
        self._leave_loop()
        return status

    def _returns(self) -> bool:
        return self.state.returns

    def _leave_loop(self) -> None:
        if self.state.breaks:
            self.state.breaks -= 1
        self.state.loops -= 1

    # One command

    def _expand(self, words: Sequence[Word], place: Place) -> Arguments:
        arguments = expand(words, place, self._lookup, self.unknowns)
        self._text += sum(map(len, arguments.values)) + 8 * len(arguments.values)
        if self._text > MAX_TEXT:
            raise place.refuse(f"more than {MAX_TEXT} characters of arguments")
        return arguments

    def _lookup(self, name: str) -> Sequence[str]:
        """Return the values of a variable or of parameters (grub_script_env_get)."""
        if not is_special(name):
            value = self.variable(name)
            return (value,) if value else ()
        parameters = self.state.parameters
        if parameters is None:
            return ()
        if name == "#":
            return (str(len(parameters)),)
        if name == "*":
            return (" ".join(parameters),) if parameters else ()
        if name == "@":
            return parameters
        chosen = number(name.lstrip("0")) or 0
        return parameters[chosen - 1 : chosen] if chosen else ()

    def _simple(self, node: Simple) -> Status:
        arguments = self._expand(node.words, node.place)
        values = arguments.values
        if not values:
            return 0
        negated = values[0] == "!"
        if negated:
            values = values[1:]
        if not values:
            return BAD_ARGUMENT
        self.require_known(node.place, values[0].partition("=")[0])
        call = Call(self, values[0], values[1:], node.block, node.place)
        if call.name not in self._harmless:
            self._no_pattern(arguments, node.place)
        found, status = self._call(call)
        if not negated or not found:
            return status
        if status is None:
            return None
        return FAILED if status == 0 else 0

    def _no_pattern(self, arguments: Arguments, place: Place) -> None:
        if arguments.pattern is not None:
            shown = self.unknowns.shown(arguments.pattern)
            raise place.refuse(
                f"GRUB may replace the pattern {shown!r} by file names",
                "put it in quotes",
            )

    def _call(self, call: Call) -> tuple[bool, Status]:
        """Run a command, a function or an assignment, in GRUB's order.

        Returns whether there is such a command; GRUB counts a missing one as done.
        """
        if command := self._commands.get(call.name):
            return True, command(call)
        if (function := self.state.functions.get(call.name)) is not None:
            return True, self._call_function(function, call.arguments)
        name, equals, value = call.name.partition("=")
        if not equals:
            shown = self.unknowns.shown(call.name)
            raise call.place.refuse(f"the command {shown!r} is not known")
        if not is_special(name):
            self.set(call.place, name, value)
        return False, 0

    def _call_function(self, body: Body, arguments: tuple[str, ...]) -> Status:
        state = self.state
        saved = state.parameters, state.in_function, state.loops
        state.parameters, state.in_function, state.loops = arguments, True, 0
        status = self.run(body)
        self.state.returns = False
        self.state.parameters, self.state.in_function, self.state.loops = saved
        return status


def is_special(name: str) -> bool:
    """Whether a name is a parameter's, which no assignment changes."""
    return name[:1].isdigit() or name in ("#", "*", "@")
