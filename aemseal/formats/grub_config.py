# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB 2 will boot next: grub.cfg and grubenv, evaluated as GRUB 2.06 does.

Pure: the two files come as bytes, others through `GrubWorld`. Whatever GRUB finds
out only while it runs (a device that `search` finds, a key held down) stays unknown,
and GrubError names the line where the entry to boot would depend on it. `fallback`
and `timeout` are not looked at: the boot is taken to work and nobody to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aemseal.formats.grub_commands import COMMANDS, HARMLESS, test_command
from aemseal.formats.grub_files import WorldFiles, variables_of
from aemseal.formats.grub_loaders import MULTIBOOT, SLAUNCH, SLAUNCHED, TRENCHBOOT
from aemseal.formats.grub_machine import BootedError, Machine, MenuError
from aemseal.formats.grub_menu import Menu, Node
from aemseal.formats.grub_parser import parse
from aemseal.formats.grub_state import GrubLoad, GrubWorld
from aemseal.formats.grub_words import raw
from aemseal.words.errors import GrubError

__all__ = ["GrubEntry", "GrubLoad", "GrubMenu", "GrubWorld", "evaluate"]

_FEATURES = """
chainloader_bpb ntldr platform_search_hint default_font_path all_video_module
menuentry_id menuentry_options 200_final nativedisk_cmd timeout_style
"""
"""What GRUB 2.06 sets to "y", each as feature_NAME (normal/main.c)."""

_NO_ENTRY = (
    "no entry of grub.cfg is a measured boot: 99_linux_xen_aemseal writes one, with "
    "GRUB_AEMSEAL=true in /etc/default/grub, when grub-mkconfig runs"
)


class NoWorld:
    """A world without any further file."""

    def exists(self, _path: str, /) -> bool:
        """No file is there."""
        return False

    def read(self, _path: str, /) -> bytes | None:
        """No file can be read."""
        return None


@dataclass(frozen=True, slots=True)
class GrubEntry:
    """An entry of the menu or of a submenu.

    `submenus` are the titles on the way to it, `line` is where it is defined.
    """

    title: str
    id: str
    submenus: tuple[str, ...]
    line: int
    _node: Node = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """The titles on the way to it and its own, joined by ">"."""
        return ">".join((*self.submenus, self.title))

    @property
    def loads(self) -> tuple[GrubLoad, ...]:
        """What it loads, in order; GrubError names the line that is unknown."""
        return tuple(self._node.outcome.loads)

    @property
    def is_measured(self) -> bool:
        """Whether it is evaluated to load tboot and modules, or what GRUB launches."""
        try:
            return _why_unmeasured(self.loads) is None
        except GrubError:
            return False


def _why_unmeasured(loads: Sequence[GrubLoad]) -> str | None:
    """Return why these loads are no measured launch, None when they are one."""
    if any(load.command == SLAUNCH for load in loads):
        return _why_not_by_grub([e for e in loads if e.command not in TRENCHBOOT])
    if not loads:
        return "it loads nothing"
    kernel = loads[0]
    if kernel.command not in MULTIBOOT:
        return f"it boots by {kernel.command!r}"
    if "tboot" not in kernel.path.rpartition("/")[2]:
        return f"its kernel {kernel.path} is not tboot"
    return None if len(loads) > 1 else "it loads tboot without any module"


def _why_not_by_grub(files: Sequence[GrubLoad]) -> str | None:
    """Return why GRUB (TrenchBoot's) would launch no Xen of these files."""
    if not files:
        return f"it says {SLAUNCH!r} and loads nothing"
    if files[0].command not in SLAUNCHED:
        return f"{SLAUNCH!r} launches nothing that {files[0].command!r} loads"
    return None


@dataclass(frozen=True, slots=True)
class GrubMenu:
    """The menu of one configuration; see `evaluate`."""

    _menu: Menu

    @property
    def entries(self) -> tuple[GrubEntry, ...]:
        """Every entry, submenus' in their place; submenus that fail are left out."""
        return tuple(_entry(node) for node in _leaves(self._menu))

    def measured_entries(self) -> tuple[GrubEntry, ...]:
        """Return the entries that are launched by tboot or by GRUB (TrenchBoot)."""
        return tuple(entry for entry in self.entries if entry.is_measured)

    def default_entry(self) -> GrubEntry:
        """Return the entry GRUB boots next, measured or not.

        GrubError when it cannot be known, with the line.
        """
        node = self._menu.default()
        while (menu := node.outcome.menu) is not None:
            node = menu.default()
        return _entry(node)

    def next_entry(self) -> GrubEntry:
        """Return the entry GRUB boots next.

        GrubError when it cannot be known, and when it is not measured: the hint
        lists those that are.
        """
        return self._measured(self.default_entry(), "the entry that boots next")

    def entry_titled(self, name: str) -> GrubEntry:
        """Return the measured entry of this title, id or path "Submenu>Title".

        GrubError when there is none, or several, or when it is not measured.
        """
        found = [entry for entry in self.entries if name in _names(entry)]
        if not found:
            raise GrubError(f"grub.cfg has no entry {name!r}", self._hint())
        if len(found) > 1:
            lines = ", ".join(str(entry.line) for entry in found)
            raise GrubError(f"several entries are {name!r}: grub.cfg lines {lines}")
        return self._measured(found[0], "the entry")

    def _measured(self, entry: GrubEntry, what: str) -> GrubEntry:
        reason = _why_unmeasured(entry.loads)
        if reason is not None:
            raise GrubError(
                f"{what}, {entry.path!r} (grub.cfg line {entry.line}), is no measured "
                f"boot: {reason}",
                self._hint(),
            )
        return entry

    def _hint(self) -> str:
        titles = [f"{entry.path!r}" for entry in self.measured_entries()]
        if not titles:
            return _NO_ENTRY
        return f"measured are: {', '.join(titles)}"


def _leaves(menu: Menu) -> Iterator[Node]:
    for node in menu.nodes:
        if not node.item.submenu:
            yield node
            continue
        try:
            inner = node.outcome.menu
        except GrubError:
            continue
        if inner is not None:
            yield from _leaves(inner)


def _entry(node: Node) -> GrubEntry:
    shown, item = node.menu.machine.unknowns.shown, node.item
    submenus = tuple(shown(each.title) for each in node.menu.path)
    return GrubEntry(
        shown(item.title), shown(item.ident), submenus, item.place.line, node
    )


def _names(entry: GrubEntry) -> set[str]:
    shown = entry._node.menu.machine.unknowns.shown
    idents = [shown(item.ident) for item in entry._node.menu.path]
    by_ident = ">".join((*idents, entry.id))
    return {entry.title, entry.id, entry.path, by_ident}


def evaluate(
    config: bytes,
    env: bytes | None,
    world: GrubWorld | None = None,
    variables: Mapping[str, str] | None = None,
) -> GrubMenu:
    """Run grub.cfg up to its menu.

    `env` is the environment block beside it, None where there is none. `variables`
    are what GRUB knows before it reads grub.cfg, besides its own: grub_platform
    ("pc"), grub_cpu ("i386"), root (a device, else unknown) and prefix, the folder of
    grub.cfg ("/boot/grub"; on $root where it names no device). They are all exported.
    GrubError names the line where something is malformed, unbounded or cannot be
    known beforehand.
    """
    machine, files = _machine(world or NoWorld(), variables or {})
    if env is not None:
        machine.state.grubenv = variables_of(env, "grubenv")
    body = parse(config)
    try:
        files.run_as(f"{machine.variable('prefix')}/grub.cfg", body)
    except BootedError as end:
        raise end.place.refuse("GRUB boots or ends before it shows a menu") from None
    except MenuError as shown:
        machine.state = shown.state
    state = machine.state
    if state.loads:
        raise GrubError(
            f"grub.cfg line {state.loads[0].line}: a file is loaded outside of any "
            "menu entry"
        )
    if not state.items:
        raise GrubError("grub.cfg has no menu entry")
    return GrubMenu(Menu(machine, state))


def _machine(
    world: GrubWorld, variables: Mapping[str, str]
) -> tuple[Machine, WorldFiles]:
    """Return a machine in the state in which GRUB begins to read grub.cfg."""
    commands = dict(COMMANDS)
    machine = Machine(commands, HARMLESS)
    given = {raw(name): raw(value) for name, value in variables.items()}
    started = machine.unknowns.value("the device GRUB started from", whole=True)
    root = given.setdefault("root", started)
    prefix = given.setdefault("prefix", "/boot/grub")
    if not prefix.startswith("("):
        given["prefix"] = f"({root}){prefix}"
    machine.state.variables = {
        "grub_cpu": "i386",
        "grub_platform": "pc",
        "color_normal": "light-gray/black",
        "color_highlight": "black/light-gray",
        "pager": "",
        **{f"feature_{name}": "y" for name in _FEATURES.split()},
        **given,
    }
    machine.state.exported = set(machine.state.variables)
    files = WorldFiles(machine, world, root)
    commands.update(files.commands())
    commands.update(dict.fromkeys(("test", "["), test_command(files)))
    return machine, files
