# SPDX-License-Identifier: GPL-2.0-or-later
"""The measured launch environment (MLE) inside Xen, as TrenchBoot's GRUB lays it out.

GRUB's multiboot2 loader puts the loadable segments at their physical addresses into
memory filled with zeros; what lies there is hashed, by SINIT or by the Secure Kernel
Loader. Nothing of the command line is in it. Of xen.efi, which firmware loads and which
runs before it is launched, only the entry point is known beforehand.

Sources: TrenchBoot's GRUB, loader/multiboot_elfxx.c (layout, search of the header,
size) and loader/slaunch/x86_efi.c (the header's search in an EFI image's file); Xen
arch/x86/boot/head.S (mle_header), arch/x86/efi/fixmlehdr.c, common/efi/boot.c
(read_section); Intel TXT Software Development Guide 2.1 (MLE header); Microsoft PE
format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum

from aemseal.words.errors import FormatError
from aemseal.words.wanted import View

IMAGE_LIMIT = 64 << 20
"""How large Xen may be in memory (4.17 to 4.21: 4 to 16 MiB)."""

_ALIGNMENT = 2 << 20
_SEARCHED = 0x1000
_STEP = 16
_UUID = bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642")
_HEADER = struct.Struct("<16s9I")
"""UUID; length, version, entry point, first valid page, start and end, capabilities,
start and end of the command line."""

_PAGE_AT = 28
"""Where in the header first valid page, start and end are."""

_ELF = struct.Struct("<4s3B9xHHI4xI8x2xHH6x")
"""Magic; class, byte order, version; type, machine, version; program headers'
offset, size of one and number."""
_PHDR = struct.Struct("<8I")
_ELF_SEARCHED = 0x8000
"""MULTIBOOT_SEARCH: GRUB reads the program headers within it."""
_ET_EXEC, _ET_DYN = 2, 3
_EM_386 = 3
_PT_LOAD = 1

_PE_OFFSET_AT = 0x3C
_COFF = struct.Struct("<4sHH12xH2x")
"""Signature; machine, number of sections; size of the optional header."""
_SECTION_SIZE = 40
_MACHINE_X86_64 = 0x8664
_CARRIED = frozenset({b".config", b".kernel", b".ramdisk", b".xsm", b".ucode"})
"""Sections in which a unified xen.efi carries what its configuration would name."""


class MleRule(Enum):
    """How much of the loaded image is the MLE: it depends on the build of GRUB.

    SINIT and the Secure Kernel Loader hash the same bytes but under ALIGNED, where
    SINIT goes by the header as V04 does. The newest first.
    """

    V04 = "v0.4.1"
    """`mle_end - mle_start`, as the header says. TrenchBoot's GRUB from v0.4.1 on."""

    ALIGNED = "v0.4.0"
    """The loaded size, up to the next 2 MiB. TrenchBoot's GRUB v0.4.0."""

    REWRITTEN = "v0.3"
    """That, with the header's `first_valid_page` set to 0 and `mle_end` to the size.
    TrenchBoot's GRUB v0.2 and v0.3; Qubes OS's grub2 2.06 (patches 1100 to 1119)."""


VIEWS = {
    MleRule.V04: View.SLAUNCH_MLE_V04,
    MleRule.ALIGNED: View.SLAUNCH_MLE_ALIGNED,
    MleRule.REWRITTEN: View.SLAUNCH_MLE_REWRITTEN,
}
"""The view that asks for the MLE by each rule."""


@dataclass(frozen=True, slots=True)
class XenMle:
    """Xen as multiboot2 loads it. Offsets and sizes are bytes, from its lowest address.

    `entry_point` is where it is entered after the launch; `mle_end` is the header's
    and not above the image's size.
    """

    loaded: bytes = field(repr=False)
    header_at: int
    entry_point: int
    mle_end: int

    @classmethod
    def parse(cls, image: bytes) -> XenMle:
        """Lay out a plain (decompressed) ELF image and find the header in it.

        FormatError when this is no ELF32 little-endian file for the 386, when a
        segment leaves the file or IMAGE_LIMIT, when the first 4 KiB hold no header,
        and when its range does not begin with the image, or leaves it. Its offset
        counts in the file for the ELF part, in the loaded image for the rest.
        """
        loaded = _load(image)
        at, fields = _find_header(loaded)
        _, _, entry_point, _, mle_start, mle_end, *_ = fields
        if mle_start or mle_end > len(loaded):
            raise FormatError(
                f"the MLE ({mle_start:#x} to {mle_end:#x}) is not the first part of "
                f"the loaded image ({len(loaded):#x} bytes)",
                at,
            )
        return cls(loaded, at, entry_point, mle_end)

    def measured_bytes(self, rule: MleRule) -> bytes:
        """Return what is hashed of it."""
        if rule is MleRule.V04:
            return self.loaded[: self.mle_end]
        whole = bytearray(self.loaded)
        whole += bytes(-len(whole) % _ALIGNMENT)
        if rule is MleRule.REWRITTEN:
            struct.pack_into("<III", whole, self.header_at + _PAGE_AT, 0, 0, len(whole))
        return bytes(whole)


def entry_point(image: bytes) -> int:
    """Return the MLE header's entry point, of a Xen for multiboot2 or of a xen.efi.

    FormatError as XenMle.parse raises it; of a PE file, when it is none for x86-64, has
    no header in its first 4 KiB, or carries modules or a configuration of its own,
    which then count instead of those beside it.
    """
    if not image.startswith(b"MZ"):
        return XenMle.parse(image).entry_point
    _refuse_unified(image)
    _, fields = _find_header(image)
    return fields[2]


def entry_bytes(image: bytes) -> bytes:
    """Return what the Secure Kernel Loader hashes as "DLME entry offset": 4 bytes.

    Raises what `entry_point` does. Source: secure-kernel-loader main.c.
    """
    return entry_point(image).to_bytes(4, "little")


def _load(image: bytes) -> bytes:
    """Put the segments where they belong, in their order, and zeros elsewhere."""
    segments = _segments(image)
    base = min(address for _, (_, address, _, _) in segments)
    size = max(address + in_memory for _, (_, address, _, in_memory) in segments) - base
    # Segments over each other would cost time for each, however small the image.
    if max(size, sum(in_memory for _, (*_, in_memory) in segments)) > IMAGE_LIMIT:
        raise FormatError(f"the image has over {IMAGE_LIMIT} bytes in memory", 28)
    loaded = bytearray(size)
    for at, (offset, address, in_file, in_memory) in segments:
        if in_file > in_memory:
            raise FormatError("the segment is larger in the file than in memory", at)
        if offset + in_file > len(image):
            raise FormatError("the segment leaves the file", at)
        start, end = address - base, address - base + in_memory
        loaded[start : start + in_file] = image[offset : offset + in_file]
        loaded[start + in_file : end] = bytes(in_memory - in_file)
    return bytes(loaded)


def _segments(image: bytes) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return the loadable segments: where each header is, (offset, address, sizes)."""
    if len(image) < _ELF.size:
        raise FormatError("the image is too short for an ELF header", len(image))
    magic, *kinds, phoff, entry, count = _ELF.unpack_from(image)
    if magic != b"\x7fELF":
        raise FormatError("the image is no ELF file", 0)
    if kinds not in ([1, 1, 1, kind, _EM_386, 1] for kind in (_ET_EXEC, _ET_DYN)):
        raise FormatError("the image is no 32-bit ELF program for the 386", 4)
    if entry < _PHDR.size:
        raise FormatError("the program headers are too small", 42)
    if phoff + entry * count > min(len(image), _ELF_SEARCHED):
        raise FormatError(f"program headers beyond the file or {_ELF_SEARCHED}", 28)
    found = []
    for at in range(phoff, phoff + entry * count, entry):
        p_type, offset, _, address, in_file, in_memory, *_ = _PHDR.unpack_from(
            image, at
        )
        if p_type == _PT_LOAD:
            found.append((at, (offset, address, in_file, in_memory)))
    if not found:
        raise FormatError("the image has no loadable segment", 28)
    return found


def _find_header(image: bytes) -> tuple[int, list[int]]:
    """Return where the MLE header is, and its fields without the UUID."""
    for at in range(0, _SEARCHED, _STEP):
        if not image.startswith(_UUID, at):
            continue
        if at + _HEADER.size > len(image):
            raise FormatError("the MLE header is cut off", at)
        _, *fields = _HEADER.unpack_from(image, at)
        return at, fields
    raise FormatError(
        f"no MLE header in the first {_SEARCHED} bytes of the image",
        min(len(image), _SEARCHED),
        "only a Xen of TrenchBoot's can be launched by slaunch",
    )


def _refuse_unified(image: bytes) -> None:
    """Read the section table, as firmware does; refuse sections that Xen would use."""
    at = int.from_bytes(image[_PE_OFFSET_AT : _PE_OFFSET_AT + 4], "little")
    if at + _COFF.size > len(image):
        raise FormatError("the PE header leaves the file", _PE_OFFSET_AT)
    signature, machine, count, optional = _COFF.unpack_from(image, at)
    if signature != b"PE\0\0" or machine != _MACHINE_X86_64:
        raise FormatError("the image is no PE file for x86-64", at)
    table = at + _COFF.size + optional
    if table + count * _SECTION_SIZE > len(image):
        raise FormatError("the section table leaves the file", table)
    for section in range(table, table + count * _SECTION_SIZE, _SECTION_SIZE):
        name = image[section : section + 8].rstrip(b"\0")
        if name in _CARRIED:
            raise FormatError(
                f"xen.efi carries {name.decode()} itself, in place of its files",
                section,
                "a unified xen.efi is not supported: boot one with files beside it",
            )
