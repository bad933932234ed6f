# SPDX-License-Identifier: GPL-2.0-or-later
"""The multiboot2 information that GRUB hands to Xen, built for real.

Source: grub-core/loader/multiboot_mbi2.c of TrenchBoot's GRUB (order of the tags,
alignment), Multiboot2 specification 2.0 section 3.6 (their forms); little endian.
Padding is zero here; GRUB leaves in it what the memory held.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tpm_sim.memory import MemoryRange

_ALIGN = 8
_END = 0
_CMDLINE = 1
_LOADER_NAME = 2
_MODULE = 3
_BASIC_MEMORY = 4
_BOOT_DEVICE = 5
_MEMORY_MAP = 6
_FRAMEBUFFER = 8
_ELF_SECTIONS = 9
_OLD_ACPI = 14
_NEW_ACPI = 15
_LOAD_BASE = 21

_KIB = 1024
_UPPER_START = 0x100000
_FIRST_DISK = (0x80, 0, 0xFFFFFFFF)
"""BIOS drive, partition, and none within it."""

_TEXT_SCREEN = struct.pack("<QIIIBBH", 0xB8000, 160, 80, 25, 16, 2, 0)
"""Address, pitch, 80 columns, 25 lines, 16 bits a cell, kind 2: EGA text."""

_RSDP_ADDRESSES = (0x7A0F0028, 0x7A0F00B0)
"""RSDT and XSDT, as plausible as any."""


@dataclass(frozen=True, slots=True)
class PlacedModule:
    """A module in memory, and what GRUB hands over with it."""

    start: int
    size: int
    cmdline: bytes


@dataclass(frozen=True, slots=True)
class PlacedSections:
    """The ELF section headers, with the addresses of those that GRUB placed."""

    headers: bytes
    header_size: int
    names_section: int


def multiboot2_information(
    *,
    load_base: int,
    cmdline: bytes,
    loader_name: str,
    modules: Sequence[PlacedModule],
    memory: Sequence[MemoryRange],
    sections: PlacedSections,
) -> bytes:
    """Return the whole structure, `total_size` and all."""
    tags = [
        _tag(_LOAD_BASE, struct.pack("<I", load_base)),
        _tag(_CMDLINE, cmdline + b"\0"),
        _tag(_LOADER_NAME, loader_name.encode() + b"\0"),
        *map(_module_tag, modules),
        _memory_map_tag(memory),
        _sections_tag(sections),
        _tag(_BASIC_MEMORY, struct.pack("<II", *_lower_and_upper(memory))),
        _tag(_BOOT_DEVICE, struct.pack("<III", *_FIRST_DISK)),
        _tag(_FRAMEBUFFER, _TEXT_SCREEN),
        _tag(_OLD_ACPI, _rsdp()[:20]),
        _tag(_NEW_ACPI, _rsdp()),
        _tag(_END, b""),
    ]
    body = b"".join(tags)
    return struct.pack("<II", 8 + len(body), 0) + body


def _tag(kind: int, content: bytes) -> bytes:
    tag = struct.pack("<II", kind, 8 + len(content)) + content
    return tag + bytes(-len(tag) % _ALIGN)


def _module_tag(module: PlacedModule) -> bytes:
    ends = struct.pack("<II", module.start, module.start + module.size)
    return _tag(_MODULE, ends + module.cmdline + b"\0")


def _memory_map_tag(memory: Sequence[MemoryRange]) -> bytes:
    entries = b"".join(
        struct.pack("<QQII", each.start, each.size, each.kind, 0) for each in memory
    )
    return _tag(_MEMORY_MAP, struct.pack("<II", 24, 0) + entries)


def _sections_tag(sections: PlacedSections) -> bytes:
    count = len(sections.headers) // sections.header_size
    head = struct.pack("<III", count, sections.header_size, sections.names_section)
    return _tag(_ELF_SECTIONS, head + sections.headers)


def _lower_and_upper(memory: Sequence[MemoryRange]) -> tuple[int, int]:
    """Return the KiB of RAM from 0 on and from 1 MiB on."""
    sizes = {each.start: each.size for each in memory if each.kind == 1}
    return sizes.get(0, 0) // _KIB, sizes.get(_UPPER_START, 0) // _KIB


def _rsdp() -> bytes:
    """Return the ACPI root pointer, revision 2, with right checksums."""
    rsdt, xsdt = _RSDP_ADDRESSES
    old = b"RSD PTR \0" + b"AEMSIM" + struct.pack("<BI", 2, rsdt)
    old = old[:8] + bytes([-sum(old) % 256]) + old[9:]
    new = old + struct.pack("<IQ", 36, xsdt) + bytes(4)
    return new[:32] + bytes([-sum(new) % 256]) + new[33:]
