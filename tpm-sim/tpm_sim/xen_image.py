# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen as GRUB lays it out in memory, with the header of a measured launch in it.

No distribution ships a Xen that TrenchBoot can launch. `launchable` makes one of any
xen.gz: "a Debian Xen with an MLE header patched in". The header stands where
TrenchBoot's Xen has it, behind the multiboot2 header. Only padding was there, so that
Xen boots by GRUB as before; nothing enters it by the header.
Sources: xen/arch/x86/boot/head.S of TrenchBoot's Xen (mle_header), grub-core/loader/
multiboot_elfxx.c of TrenchBoot's GRUB (layout, search, size), tboot's mlehash.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.errors import SimulationError
from tpm_sim.models import Generation
from tpm_sim.unpacked import unpacked

MLE_UUID = struct.pack("<4I", 0x9082AC5A, 0x74A7476F, 0xA2555C0F, 0x42B651CB)
MLE_CAPABILITIES = 0x723

_HEADER = struct.Struct("<16s9I")
"""UUID; header size, version, entry point, first valid page, start, end,
capabilities, start and end of the command line."""

_HEADER_VERSION = 0x20002
_SEARCHED = 0x1000
_STEP = 16
_MULTIBOOT2 = struct.pack("<I", 0xE85250D6)
_ALIGNED = 2 << 20
_ELF_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_SECTION_HEADER = struct.Struct("<10I")
_PT_LOAD = 1
_PADDING = b"\x90"


@dataclass(frozen=True, slots=True)
class Section:
    """A section that GRUB loads somewhere of its own: its number, size, alignment."""

    number: int
    size: int
    align: int


@dataclass(frozen=True, slots=True)
class XenImage:
    """An ELF file's image in memory, and its section headers as they are in the file.

    `content` begins at the lowest physical address of a loaded segment.
    """

    content: bytes
    sections: bytes
    section_size: int
    names_section: int

    @classmethod
    def of(cls, elf: bytes) -> XenImage:
        """Lay a 32-bit ELF file out; SimulationError when GRUB could not load it."""
        try:
            return _laid_out(elf)
        except struct.error:
            raise SimulationError("this Xen is cut short") from None

    @property
    def entry_point(self) -> int:
        """The offset that is entered after the launch, by the MLE header."""
        entry: int = _HEADER.unpack_from(self.content, self._header_offset)[3]
        return entry

    def measured(self, generation: Generation) -> bytes:
        """Return the bytes that are hashed as the MLE.

        Of v0.4.1 on it is the range that the header names; before, the whole image
        filled up to 2 MiB, and in v0.3 GRUB writes that size into the header first.
        """
        at = self._header_offset
        start, end = _HEADER.unpack_from(self.content, at)[5:7]
        if generation.has_exact_mle:
            return self.content[: end - start]
        image = bytearray(self.content)
        image += bytes(-len(image) % _ALIGNED)
        if generation is Generation.V0_3:
            struct.pack_into("<III", image, at + 28, 0, start, len(image))
        return bytes(image)

    def loose_sections(self) -> list[Section]:
        """Return the sections that are not part of the image: the names' table."""
        found = []
        for number in range(len(self.sections) // self.section_size):
            fields = _SECTION_HEADER.unpack_from(
                self.sections, number * self.section_size
            )
            address, size, align = fields[3], fields[5], fields[8]
            if address == 0 and size:
                found.append(Section(number, size, align or 1))
        return found

    @property
    def _header_offset(self) -> int:
        for at in range(0, _SEARCHED, _STEP):
            if self.content.startswith(MLE_UUID, at):
                return at
        raise SimulationError("GRUB finds no MLE header in this Xen")


def is_launchable(image: XenImage) -> bool:
    """Whether GRUB finds an MLE header."""
    return any(image.content.startswith(MLE_UUID, at) for at in range(0, 4096, _STEP))


def mle_header(entry_point: int, end: int) -> bytes:
    """Return an MLE header as TrenchBoot's Xen has it, for an MLE that ends there."""
    return _HEADER.pack(
        MLE_UUID,
        _HEADER.size,
        _HEADER_VERSION,
        entry_point,
        *(0, 0, end, MLE_CAPABILITIES, 0, 0),
    )


def launchable(elf: bytes) -> bytes:
    """Return an ELF Xen with an MLE header; the same Xen always gives the same.

    The entry point is made up of the image, so that another build has another one.
    """
    image = XenImage.of(elf)
    multiboot = image.content.find(_MULTIBOOT2, 0, _SEARCHED)
    if multiboot < 0:
        raise SimulationError("this Xen has no multiboot2 header")
    (length,) = struct.unpack_from("<I", image.content, multiboot + 8)
    at = multiboot + length
    at += -at % _STEP
    if image.content[at : at + _HEADER.size].strip(_PADDING):
        raise SimulationError("this Xen has no room for an MLE header")
    made = zlib.crc32(image.content) % (len(image.content) - 16)
    header = mle_header(made - made % 2, len(image.content))
    offset = _file_offset(elf, at)
    return elf[:offset] + header + elf[offset + len(header) :]


def install_launchable(source: Path, target: Path) -> None:
    """Write `source`, a xen.gz, to `target`, a xen.gz that TrenchBoot can launch."""
    elf = launchable(unpacked(source.read_bytes()))
    target.write_bytes(gzip.compress(elf, compresslevel=1, mtime=0))


def _laid_out(elf: bytes) -> XenImage:
    header = _ELF_HEADER.unpack_from(elf)
    if not header[0].startswith(b"\x7fELF\x01\x01"):
        raise SimulationError("this Xen is no 32-bit ELF file")
    section_offset, section_size, sections, names = header[6], *header[11:14]
    segments = _segments(elf)
    low = min(each[3] for each in segments)
    size = max(each[3] + each[5] for each in segments) - low
    content = bytearray(size)
    for _, offset, _, address, in_file, *_ in segments:
        content[address - low : address - low + in_file] = elf[
            offset : offset + in_file
        ]
    return XenImage(
        bytes(content),
        elf[section_offset : section_offset + sections * section_size],
        section_size,
        names,
    )


def _segments(elf: bytes) -> list[tuple[int, ...]]:
    """Return the program headers of what is loaded."""
    header = _ELF_HEADER.unpack_from(elf)
    offset, size, count = header[5], header[9], header[10]
    headers = [
        _PROGRAM_HEADER.unpack_from(elf, offset + number * size)
        for number in range(count)
    ]
    loaded = [each for each in headers if each[0] == _PT_LOAD]
    if not loaded:
        raise SimulationError("this Xen has nothing to load")
    return loaded


def _file_offset(elf: bytes, at: int) -> int:
    """Return where in the file the image's byte `at` is."""
    segments = _segments(elf)
    low = min(each[3] for each in segments)
    for _, offset, _, address, in_file, *_ in segments:
        if address - low <= at < address - low + in_file:
            return offset + at - (address - low)
    raise SimulationError("this Xen has no bytes there")
