# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's commands that read other files: grubenv and further configurations.

Sources: GRUB 2.06, commands/{loadenv,configfile}.c, normal/main.c
(read_config_file).
"""

from __future__ import annotations

from collections.abc import Mapping

from aemseal.formats import grub_env
from aemseal.formats.grub_condition import Truth
from aemseal.formats.grub_lexer import MAX_CONFIG, Place
from aemseal.formats.grub_machine import (
    BAD_ARGUMENT,
    NO_FILE,
    Call,
    Command,
    Machine,
    MenuError,
    Status,
)
from aemseal.formats.grub_options import Option, Takes, parse
from aemseal.formats.grub_parser import Body
from aemseal.formats.grub_parser import parse as parse_script
from aemseal.formats.grub_state import GrubWorld
from aemseal.formats.grub_words import is_unknown, readable

_LOAD_ENV = (Option("file", "f", Takes.VALUE), Option("skip-sig", "s"))
_SAVE_ENV = (Option("file", "f", Takes.VALUE),)


class WorldFiles:
    """The world's files by the names a script uses, on one evaluation's machine.

    `boot_device` is $root at the start: only there are paths known to the world.
    """

    def __init__(self, machine: Machine, world: GrubWorld, boot_device: str) -> None:
        self._machine = machine
        self._world = world
        self._boot_device = boot_device
        self._room = MAX_CONFIG

    # What a condition asks

    def exists(self, path: str) -> Truth:
        """Whether there is a file or directory; None on other devices."""
        if self.is_grubenv(path):
            return self._machine.state.grubenv is not None
        name = self._name(path)
        return None if name is None else self._world.exists(name)

    def is_file(self, path: str) -> Truth:
        """Whether there is a file that is no directory; None on other devices."""
        if self.is_grubenv(path):
            return self._machine.state.grubenv is not None
        name = self._name(path)
        if name is None:
            return None
        return self._world.exists(name) and self._world.read(name) is not None

    def size(self, path: str) -> int | None:
        """Bytes of a file, 0 for none; None on other devices."""
        if self.is_grubenv(path):
            return 0 if self._machine.state.grubenv is None else 1
        name = self._name(path)
        return None if name is None else len(self._world.read(name) or b"")

    def is_grubenv(self, path: str) -> bool:
        """Whether this is the environment block that the evaluation was given."""
        folders = ("prefix", "config_directory")
        return any(
            path == f"{self._machine.variable(folder)}/grubenv" for folder in folders
        )

    def _name(self, path: str) -> str | None:
        """Return the world's name of a path, None when the world cannot know it."""
        device, closes, name = path.removeprefix("(").partition(")")
        if not path.startswith("("):
            device, closes, name = self._machine.variable("root"), ")", path
        if device != self._boot_device or not closes or not name.startswith("/"):
            return None
        return None if is_unknown(name) else readable(name)

    # What a command reads

    def read(self, place: Place, path: str) -> bytes | None:
        """Return a file's bytes, None for no file; GrubError on other devices."""
        name = self._name(path)
        if name is None:
            shown = self._machine.unknowns.shown(path)
            raise place.refuse(f"{shown!r} cannot be looked up beforehand")
        return self._world.read(name)

    def run_config(self, place: Place, path: str) -> None:
        """Run another configuration file in the present state, if there is one."""
        config = self.read(place, path)
        if config is None:
            return
        self._room -= len(config)
        if self._room < 0:
            raise place.refuse(f"configuration files of over {MAX_CONFIG} bytes")
        body = parse_script(config, self._machine.unknowns.shown(path))
        self.run_as(path, body)

    def run_as(self, path: str, body: Body) -> None:
        """Run statements with $config_file and $config_directory set meanwhile."""
        variables = self._machine.state.variables
        names = ("config_file", "config_directory")
        saved = {name: variables[name] for name in names if name in variables}
        device = self._machine.variable("root")
        full = path if path.startswith("(") else f"({device}){path}"
        values = (full, full.rpartition("/")[0])
        variables.update(zip(names, values, strict=True))
        self._machine.state.exported.update(names)
        self._machine.run(body)
        for name in set(names) - set(saved):
            self._machine.state.variables.pop(name, None)
            self._machine.state.exported.discard(name)
        self._machine.state.variables.update(saved)

    # The commands

    def commands(self) -> dict[str, Command]:
        """Return the commands that read files, by name."""
        return {
            "load_env": self._load_env,
            "save_env": self._save_env,
            "source": self._source,
            ".": self._source,
            "configfile": self._configfile,
        }

    def _load_env(self, call: Call) -> Status:
        parsed = parse(call.arguments, _LOAD_ENV)
        if parsed is None:
            return BAD_ARGUMENT
        block = self._block(call, parsed.options.get("file"))
        if block is None:
            return NO_FILE
        for name, value in block.items():
            if not parsed.rest or name in parsed.rest:
                call.machine.set(call.place, name, value)
        return 0

    def _block(self, call: Call, path: str | None) -> Mapping[str, str] | None:
        if path is None or self.is_grubenv(path):
            return call.machine.state.grubenv
        block = self.read(call.place, path)
        if block is None:
            return None
        return variables_of(block, call.machine.unknowns.shown(path))

    def _save_env(self, call: Call) -> Status:
        """Change the block as a later load_env will find it."""
        parsed = parse(call.arguments, _SAVE_ENV)
        if parsed is None or not parsed.rest:
            return BAD_ARGUMENT
        block, path = call.machine.state.grubenv, parsed.options.get("file")
        if block is None or not (path is None or self.is_grubenv(path)):
            return None
        for name in parsed.rest:
            call.machine.require_known(call.place, name)
            if name in call.machine.state.variables:
                block[name] = call.machine.variable(name)
            else:
                block.pop(name, None)
        return None

    def _source(self, call: Call) -> Status:
        if len(call.arguments) != 1:
            return BAD_ARGUMENT
        self.run_config(call.place, call.arguments[0])
        return 0

    def _configfile(self, call: Call) -> Status:
        """Show another file's menu in place of this one, if it has any entry."""
        if len(call.arguments) != 1:
            return BAD_ARGUMENT
        machine = call.machine
        outside = machine.state
        machine.state = outside.opened(machine.unknowns)
        self.run_config(call.place, call.arguments[0])
        if machine.state.items:
            raise MenuError(call.place, machine.state)
        machine.state = outside
        return 0


def variables_of(block: bytes, file: str) -> dict[str, str]:
    """Return an environment block's variables; GrubError for a malformed one."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in grub_env.parse(block, file)
    }
