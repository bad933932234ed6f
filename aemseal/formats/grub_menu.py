# SPDX-License-Identifier: GPL-2.0-or-later
"""Which entry of a menu boots, and what running it leads to.

Source: GRUB 2.06, grub-core/normal/menu.c (get_entry_number, menuentry_eq,
grub_menu_execute_entry). Red Hat's and Qubes' builds look entries up by another
function (their patch "Fix menu entry selection based on ID and title") and hand all
variables to submenus ("Export all variables from the initial context when creating a
submenu"); where that could change the entry, it is refused. One thing is not: a path
of numbers, "1>2", is followed as GRUB 2.06 does, though Red Hat's function takes it for
no number and boots the first entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.formats.grub_machine import BootedError, Machine, MenuError
from aemseal.formats.grub_state import GrubLoad, Item, State
from aemseal.formats.grub_words import SPACES, is_unknown, leading_number, readable
from aemseal.words.errors import GrubError

MAX_SUBMENUS = 16
"""How deep submenus may nest."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running an entry leads to: loads, or another menu."""

    loads: tuple[GrubLoad, ...]
    menu: Menu | None


class Node:
    """An entry in the state of the menu that shows it; run once, when asked."""

    def __init__(self, item: Item, menu: Menu) -> None:
        self.item = item
        self.menu = menu
        self._outcome: Outcome | None = None
        self._failure: GrubError | None = None

    @property
    def outcome(self) -> Outcome:
        """What the entry leads to; GrubError, the same each time, where it fails."""
        if self._failure is not None:
            raise GrubError(self._failure.message, self._failure.hint)
        if self._outcome is None:
            try:
                self._outcome = self._run()
            except GrubError as error:
                self._failure = error
                raise
        return self._outcome

    def _run(self) -> Outcome:
        """Run the entry as grub_menu_execute_entry does."""
        machine, item, before = self.menu.machine, self.item, self.menu.state
        machine.count(item.place, before.weight)
        state = before.opened(machine.unknowns) if item.submenu else before.copy()
        state.variables["chosen"] = self._chosen(before)
        state.exported.add("chosen")
        defaults = self._set_default(state)
        state.parameters, state.in_function = item.arguments, False
        machine.begin(state)
        try:
            machine.run(item.body)
        except MenuError as shown:
            return Outcome((), self._menu_of(shown.state, ("", *defaults)))
        except BootedError:
            return Outcome(tuple(machine.state.loads), None)
        if not item.submenu:
            return Outcome(tuple(machine.state.loads), None)
        return Outcome((), self._menu_of(machine.state, defaults))

    def _menu_of(self, state: State, defaults: tuple[str, ...]) -> Menu:
        """Return the menu this entry shows; `defaults` unless the script set one."""
        if not state.items:
            raise self.item.place.refuse("the submenu is empty")
        menu = self.menu
        path = (*menu.path, self.item)
        if len(path) > MAX_SUBMENUS:
            raise self.item.place.refuse(f"over {MAX_SUBMENUS} nested menus")
        return Menu(menu.machine, state, path, defaults)

    def _chosen(self, before: State) -> str:
        escaped = self.item.ident.replace(">", ">>")
        outer = before.variables.get("chosen")
        return escaped if outer is None else f"{outer}>{escaped}"

    def _set_default(self, state: State) -> tuple[str, ...]:
        """Leave in $default what is meant for the menu inside; return its readings.

        That is what follows the first ">". Without one GRUB unsets $default, and Red
        Hat's build leaves the whole one.
        """
        readings: list[str] = []
        for outer in self.menu.readings:
            if rest := _after_path(outer):
                readings.append(rest)
            else:
                readings += ["", outer]
        only, *others = dict.fromkeys(readings)
        unknown = self.menu.machine.unknowns.value("$default inside of a submenu")
        state.variables["default"] = unknown if others else only
        return (only, *others)


def _after_path(default: str) -> str:
    """Return what follows the first single ">"; "" where there is none."""
    _, _, rest = default.replace(">>", "\0\0").partition(">")
    return default[len(default) - len(rest) :]


class Menu:
    """Entries with the state that the script which made them left."""

    def __init__(
        self,
        machine: Machine,
        state: State,
        path: tuple[Item, ...] = (),
        defaults: tuple[str, ...] = (),
    ) -> None:
        self.machine = machine
        self.state = state
        self.path = path
        self._defaults = defaults
        self.nodes = [Node(item, self) for item in state.items]

    @property
    def readings(self) -> tuple[str, ...]:
        """The values $default can have here, several where builds of GRUB differ."""
        default = self.state.variables.get("default", "")
        return self._defaults if self._defaults and is_unknown(default) else (default,)

    def default(self) -> Node:
        """Return the entry that boots when nobody chooses (run_menu)."""
        found = {self._entry_number(reading) for reading in self.readings}
        if len(found) > 1:
            raise self.path[-1].place.refuse(
                "which entry of this submenu boots depends on the build of GRUB",
                "set GRUB_DEFAULT to the whole path, for example 1>0",
            )
        return self.nodes[found.pop()]

    def _entry_number(self, default: str) -> int:
        """Return the index of the entry that $default means (get_entry_number)."""
        if is_unknown(default):
            reason = self.machine.unknowns.reason(default)
            raise GrubError(f"the default entry depends on {reason}")
        by_number, after = leading_number(default)
        by_name = self._named(default, is_number=by_number is not None)
        if by_number is not None:
            self._require_plain_number(default, by_number, after, by_name)
            return self._counted(by_number)
        return self._counted(0) if by_name is None else by_name

    def _counted(self, wanted: int) -> int:
        """Return the index of the entry of this number, of the first if none has it."""
        found = wanted if wanted < len(self.nodes) else 0
        for node in self.nodes[: found + 1]:
            self._require_certain(node)
        return found

    def _require_certain(self, node: Node) -> None:
        if not node.item.certain:
            raise node.item.place.refuse(
                "whether this entry is in the menu cannot be known beforehand",
                "set GRUB_DEFAULT to the id of an entry",
            )

    def _named(self, default: str, *, is_number: bool) -> int | None:
        """Return the first entry of this title or id.

        GRUB 2.06 asks entry by entry, Red Hat's build all ids and then all titles.
        An unknown title is passed over where a number has the say.
        """
        for index, node in enumerate(self.nodes):
            self._require_known(node, is_number=is_number)
            if _is_named(node.item.ident, default):
                self._require_certain(node)
                return index
            if _is_named(node.item.title, default):
                self._require_certain(node)
                self._require_no_id(default, self.nodes[index:])
                return index
        return None

    def _require_known(self, node: Node, *, is_number: bool) -> None:
        names = node.item.title + node.item.ident
        if is_unknown(names) and not is_number:
            reason = self.machine.unknowns.reason(names)
            raise node.item.place.refuse(f"the entry's title depends on {reason}")

    def _require_no_id(self, default: str, nodes: Sequence[Node]) -> None:
        if any(_is_named(node.item.ident, default) for node in nodes):
            raise GrubError(
                f"the default entry {readable(default)!r} is the title of one entry "
                "and the id of another",
                "which of them boots depends on the build of GRUB",
            )

    def _require_plain_number(
        self, default: str, by_number: int, after: str, by_name: int | None
    ) -> None:
        """Refuse a default that begins with a number and is or could be a title."""
        plain = after.strip(SPACES) == "" or after.startswith(">")
        if by_name not in (None, by_number) or not plain:
            raise GrubError(
                f"whether the default entry {readable(default)!r} is a number or a "
                "title depends on the build of GRUB"
            )


def _is_named(name: str, default: str) -> bool:
    """Whether a default is this name, or a path that begins with it (menuentry_eq)."""
    escaped = name.replace(">", ">>")
    after = default[len(escaped) :]
    follows = after == "" or (after[0] == ">" and after[:2] != ">>")
    return default.startswith(escaped) and follows
