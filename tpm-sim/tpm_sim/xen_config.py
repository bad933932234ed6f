# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file of a Xen that is a UEFI program, as Xen reads it.

Source: xen/common/efi/boot.c (pre_parse, get_value, split_string, efi_start) and
arch/x86/efi/efi-boot.h (efi_arch_cfg_file_late: microcode) of Xen 4.17. The first line
that fits counts, a number sign begins a comment anywhere, space in front of a line or
a value does not count, space behind it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpm_sim.errors import SimulationError

_SPACE = b" \t\n\v\f\r"
_MODULES = ("kernel", "ramdisk", "xsm", "ucode")
"""In the order in which Xen loads them, and measures them."""

_SPLIT = ("kernel", "ucode")
"""Of these the first word is the file; the other values are file names as a whole."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that Xen loads: its name beside the configuration, and its words."""

    name: bytes
    words: bytes

    @property
    def text(self) -> bytes:
        """What the boot module's string is: the name, a space and the words."""
        return self.name + b" " + self.words if self.words else self.name


@dataclass(frozen=True, slots=True)
class XenConfig:
    """What a section of the configuration says."""

    options: bytes
    modules: tuple[NamedFile, ...]

    @classmethod
    def of(cls, content: bytes, section: bytes) -> XenConfig:
        """Read a section; the default one when its name is empty.

        SimulationError when it names no kernel: Xen stops there.
        """
        lines = _lines(content)
        section = section or _value(lines, b"global", b"default") or b""
        modules = []
        for item in _MODULES:
            value = _value(lines, section, item.encode())
            if value is None and item == "kernel":
                raise SimulationError("Xen finds no kernel in its configuration")
            if value is None and item == "ucode":
                value = _value(lines, b"global", b"ucode")
            if value is not None:
                modules.append(_named(item, value))
        return cls(_value(lines, section, b"options") or b"", tuple(modules))


def _lines(content: bytes) -> list[bytes]:
    """Return the lines without comments and the space in front of them.

    What stands behind the last control character is no line: Xen ignores it.
    """
    text = bytes(0x0A if byte < 0x20 or byte == 0x7F else byte for byte in content)
    lines = []
    for line in text.split(b"\n")[:-1]:
        kept = line.lstrip(_SPACE)
        kept = b"" if kept.startswith(b";") else kept.split(b"#", 1)[0]
        lines.append(kept)
    return lines


def _value(lines: list[bytes], section: bytes, item: bytes) -> bytes | None:
    """Return an item's value; without a section's name, from anywhere."""
    is_in = not section
    for line in lines:
        if line.startswith(b"["):
            if section and is_in:
                return None
            is_in = is_in or line.startswith(b"[" + section + b"]")
        elif is_in and line.startswith(item + b"="):
            return line[len(item) + 1 :].lstrip(_SPACE)
    return None


def _named(item: str, value: bytes) -> NamedFile:
    if item not in _SPLIT:
        return NamedFile(value, b"")
    name, _, words = value.partition(b" ")
    return NamedFile(name, words.lstrip(_SPACE) if item == "kernel" else b"")
