# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot directory: a grub.cfg with its grubenv and the files that its entries load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from image_strategies import TBOOT


@dataclass(frozen=True)
class Module:
    """A line that loads a module."""

    path: str
    words: str
    nounzip: bool = False


@dataclass(frozen=True)
class Entry:
    """A menu entry that boots by tboot."""

    tboot_words: str
    modules: tuple[Module, ...]


@dataclass(frozen=True)
class Menu:
    """How grub.cfg is laid out: where the entry that boots stands, how it is chosen.

    `place` is the number of entries before it that boot something else; in a submenu
    when `submenu`, which then is an entry itself. `choice` is how the default names
    it, `through` the variable that carries this.
    """

    title: str
    place: int = 0
    submenu: bool = False
    choice: str = "number"
    through: str = "default"
    loaders: tuple[str, str] = ("multiboot2", "module2")
    prefix: str = ""


@dataclass(frozen=True)
class Directory:
    """A boot directory. `files` are by GRUB's path; `other` is a second entry."""

    files: Mapping[str, bytes]
    entry: Entry
    other: Entry | None
    variables: Mapping[str, str]
    menu: Menu

    @property
    def grub_cfg(self) -> str:
        """The text of grub.cfg."""
        variables = [f"set {name}={text}" for name, text in self.variables.items()]
        exports = [f"export {name}" for name in self.variables]
        return "\n".join(
            (_HEADER, *variables, *exports, self._default(), self._menu(), "")
        )

    @property
    def grubenv(self) -> dict[bytes, bytes]:
        """The variables of grubenv."""
        values = {b"unrelated": b"1"}
        if self.menu.through != "default":
            values[self.menu.through.encode()] = self._choice().encode()
        if self.menu.through == "next_entry":
            values[b"saved_entry"] = b"plain-0"
        return values

    @property
    def used_files(self) -> dict[str, bytes]:
        """The files that some entry loads."""
        return {path: self.files[path] for path in sorted(self.used_paths)}

    @property
    def entry_paths(self) -> set[str]:
        """The files of the entry that boots."""
        return {TBOOT, *(module.path for module in self.entry.modules)}

    @property
    def used_paths(self) -> set[str]:
        """The files of all entries."""
        others = self.other.modules if self.other else ()
        return self.entry_paths | {module.path for module in others}

    def with_module(self, number: int, **changes: Any) -> Directory:
        """Return this directory with a module of the entry that boots changed."""
        modules = list(self.entry.modules)
        modules[number] = replace(modules[number], **changes)
        return self.with_modules(modules)

    def with_modules(self, modules: Sequence[Module]) -> Directory:
        """Return this directory with other modules in the entry that boots."""
        return replace(self, entry=replace(self.entry, modules=tuple(modules)))

    def _choice(self) -> str:
        menu = self.menu
        title = menu.title.replace(">", ">>")
        if not menu.submenu:
            return {"number": str(menu.place), "id": "aem", "title": title}[menu.choice]
        return {
            "number": f"{menu.place}>1",
            "id": "more>aem",
            "title": f"More than one>{title}",
        }[menu.choice]

    def _default(self) -> str:
        if self.menu.through == "default":
            return f'set default="{self._choice()}"'
        return _SAVED_DEFAULT

    def _menu(self) -> str:
        menu = self.menu
        entry = self._entry(menu.title, "aem", self.entry)
        if menu.submenu:
            first = _PLAIN_ENTRY.format("inner")
            entry = f"submenu 'More than one' --id more {{\n{first}\n{entry}\n}}"
        entries = [_PLAIN_ENTRY.format(number) for number in range(menu.place)]
        entries.append(entry)
        if self.other:
            entries.append(self._entry("Another one", "another", self.other))
        return "\n".join(entries)

    def _entry(self, title: str, ident: str, entry: Entry) -> str:
        loader, module = self.menu.loaders
        prefix = self.menu.prefix
        lines = [f"\t{loader} {prefix}{TBOOT}{entry.tboot_words}"]
        for each in entry.modules:
            nounzip = "--nounzip " if each.nounzip else ""
            lines.append(f"\t{module} {nounzip}{prefix}{each.path}{each.words}")
        text = "\n".join(lines)
        return (
            f'menuentry "{title}" --class xen $menuentry_id_option "{ident}" {{\n'
            f"\tsearch --no-floppy --fs-uuid --set=root 1234-ABCD\n{text}\n}}"
        )

    def __repr__(self) -> str:
        """Show what a person needs to see of a failure."""
        files = "".join(
            f"{path}: {len(content)} bytes, {content[:48].hex()}\n"
            for path, content in self.used_files.items()
        )
        return f"\n{self.grub_cfg}\n{self.grubenv}\n{files}"


_HEADER = """\
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
set timeout=5
# A comment's "quotes and $things do not count"
"""
_SAVED_DEFAULT = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi"""
_PLAIN_ENTRY = (
    "menuentry 'Plain {0}' --id plain-{0} {{\n\tlinux /vmlinuz root=/dev/sda\n}}"
)
