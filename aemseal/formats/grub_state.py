# SPDX-License-Identifier: GPL-2.0-or-later
"""What a GRUB script works on: variables, the menu, what is loaded, other files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from aemseal.formats.grub_lexer import Place
from aemseal.formats.grub_parser import Body
from aemseal.formats.grub_words import Unknowns


class GrubWorld(Protocol):
    """The files a configuration may ask for besides itself and grubenv.

    Paths are absolute on the file system GRUB was installed to (its $root at the
    start), without a device.
    """

    def exists(self, path: str, /) -> bool:
        """Whether there is a file or directory of this name."""

    def read(self, path: str, /) -> bytes | None:
        """Return a file's bytes, None when there is no such file."""


@dataclass(frozen=True, slots=True)
class GrubLoad:
    """A file that a menu entry loads, by the command that loads it.

    `path` is without its device, `device` what GRUB opens it on: "hd0,msdos1" or
    "fs-uuid 1234-.." for a device that `search` finds. `arguments` follow the file
    name; bytes that are no UTF-8 are surrogates. `nounzip` keeps GRUB from
    decompressing. `line` is where the command stands. `filters` are the
    decompressors GRUB has by then: "gzio" always, "xzio" and "lzopio" after an
    insmod (an image of GRUB's may have them built in besides).
    """

    command: str
    path: str
    device: str
    arguments: tuple[str, ...]
    nounzip: bool
    line: int
    filters: frozenset[str] = frozenset({"gzio"})


@dataclass(frozen=True, slots=True)
class Item:
    """A menu entry or submenu as `menuentry` leaves it.

    It is not `certain` when a condition that is unknown decides whether it is there.
    """

    title: str
    ident: str
    arguments: tuple[str, ...]
    body: Body
    submenu: bool
    place: Place
    certain: bool = True


@dataclass(slots=True)
class State:
    """What a script can change. `parameters` are None outside of any function."""

    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    functions: dict[str, Body] = field(default_factory=dict)
    grubenv: dict[str, str] | None = None
    items: list[Item] = field(default_factory=list)
    loads: list[GrubLoad] = field(default_factory=list)
    parameters: tuple[str, ...] | None = None
    in_function: bool = False
    loops: int = 0
    breaks: int = 0
    continues: bool = False
    returns: bool = False

    @property
    def weight(self) -> int:
        """How many steps it is fair to count for a copy."""
        return (len(self.variables) + len(self.items) + len(self.loads)) // 16

    def copy(self) -> State:
        """Return a state that changes on its own."""
        return replace(
            self,
            variables=dict(self.variables),
            exported=set(self.exported),
            modules=set(self.modules),
            functions=dict(self.functions),
            grubenv=None if self.grubenv is None else dict(self.grubenv),
            items=list(self.items),
            loads=list(self.loads),
        )

    def opened(self, unknowns: Unknowns) -> State:
        """Return the state a submenu or another configuration file begins with.

        GRUB keeps exported variables (normal/context.c), Red Hat's builds and
        Qubes' all: one that is not exported is unknown.
        """
        inside = self.copy()
        inside.items = []
        for name in self.variables.keys() - self.exported:
            reason = f"${name}, which is not exported into a submenu"
            inside.variables[name] = unknowns.value(reason)
        return inside

    def joined(self, other: State, unknown: Callable[[str], str]) -> State | None:
        """Return what holds after either; None when they differ in what is loaded.

        `unknown` makes the value of a variable that the two disagree about. Of the
        menus one may go on where the other ends.
        """
        shorter, longer = sorted((self.items, other.items), key=len)
        if longer[: len(shorter)] != shorter or (self.grubenv is None) != (
            other.grubenv is None
        ):
            return None
        result = self.copy()
        result.variables = _joined(self.variables, other.variables, unknown)
        if self.grubenv is not None and other.grubenv is not None:
            result.grubenv = _joined(self.grubenv, other.grubenv, unknown)
        result.items = shorter + [
            replace(item, certain=False) for item in longer[len(shorter) :]
        ]
        result.exported &= other.exported
        result.modules &= other.modules
        rest = replace(
            other,
            variables=result.variables,
            grubenv=result.grubenv,
            items=result.items,
            exported=result.exported,
            modules=result.modules,
        )
        return result if result == rest else None


def _joined(
    one: Mapping[str, str], other: Mapping[str, str], unknown: Callable[[str], str]
) -> dict[str, str]:
    names = [*one, *(name for name in other if name not in one)]
    return {
        name: one[name] if one.get(name) == other.get(name) else unknown(name)
        for name in names
    }
