# SPDX-License-Identifier: GPL-2.0-or-later
"""xen.efi in memory, with the header of a measured launch in it.

Debian's xen.efi has none: `launchable` patches one in where TrenchBoot's Xen has it,
behind the multiboot2 header. What is measured of a running UEFI program is its live
image, variables and all; `live` stands for that: the image as it is loaded, with every
address and size that Xen notes written into its variables. The figures of a real one
cannot be had so; that it changes when one of them does is what counts.
Sources: Microsoft PE format; xen/arch/x86/boot/head.S and arch/x86/efi/efi-boot.h of
TrenchBoot's Xen (what is measured begins at the image's base, and is as long as Xen
from `start` on, which lies 2 MiB higher).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.errors import SimulationError
from tpm_sim.xen_image import MLE_UUID, mle_header

_MULTIBOOT2 = struct.pack("<I", 0xE85250D6)
_STEP = 16
_PE_AT = 0x3C
_PAGE = 0x1000
_SECTION = struct.Struct("<8sIIII16x")
_TEXT = b".text"
_INIT = b".init"
_BSS = b".bss"
_VARIABLES_AT = 0x8000
"""Where in .init the variables are; made up."""


@dataclass(frozen=True, slots=True)
class Part:
    """A section: where it is in memory and in the file, and its sizes there."""

    name: bytes
    memory_size: int
    address: int
    file_size: int
    offset: int


@dataclass(frozen=True, slots=True)
class EfiXen:
    """A xen.efi that can be launched: its bytes, its sections, its MLE header."""

    content: bytes
    parts: tuple[Part, ...]
    header_offset: int

    @classmethod
    def of(cls, content: bytes) -> EfiXen | None:
        """Read a xen.efi; None when it has no MLE header."""
        parts = _parts(content)
        text = _part(parts, _TEXT)
        for at in range(text.offset, text.offset + _PAGE, _STEP):
            if content.startswith(MLE_UUID, at):
                return cls(content, parts, at)
        return None

    @property
    def entry_point(self) -> int:
        """The offset that is entered after the launch, by the MLE header."""
        (entry,) = struct.unpack_from("<I", self.content, self.header_offset + 24)
        return int(entry)

    def live(self, variables: bytes) -> bytes:
        """Return the measured bytes of the running Xen, with its variables in them."""
        start, end = struct.unpack_from("<II", self.content, self.header_offset + 32)
        image = bytearray(end - start)
        for part in self.parts:
            size = min(part.file_size, part.memory_size)
            loaded = self.content[part.offset : part.offset + size]
            room = max(0, len(image) - part.address)
            image[part.address : part.address + size] = loaded[:room]
        at = _part(self.parts, _INIT).address + _VARIABLES_AT
        image[at : at + len(variables)] = variables
        return bytes(image)

    @property
    def memory_size(self) -> int:
        """Bytes that the program takes in memory."""
        return max(part.address + part.memory_size for part in self.parts)


def launchable(content: bytes) -> bytes:
    """Return a xen.efi with an MLE header; the same Xen always gives the same."""
    parts = _parts(content)
    text, init, bss = (_part(parts, name) for name in (_TEXT, _INIT, _BSS))
    multiboot = content.find(_MULTIBOOT2, text.offset, text.offset + _PAGE)
    if multiboot < 0:
        raise SimulationError("this xen.efi has no multiboot2 header")
    (length,) = struct.unpack_from("<I", content, multiboot + 8)
    at = multiboot + length
    at += -(at - text.offset) % _STEP
    made = init.address + zlib.crc32(content) % init.memory_size
    end = bss.address + bss.memory_size - text.address
    header = mle_header(made - made % 2, end + -end % _PAGE)
    return content[:at] + header + content[at + len(header) :]


def install_launchable_efi(source: Path, target: Path) -> None:
    """Write `source`, a xen.efi, to `target`, one that TrenchBoot can launch."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(launchable(source.read_bytes()))


def _parts(content: bytes) -> tuple[Part, ...]:
    try:
        (pe,) = struct.unpack_from("<I", content, _PE_AT)
        if not content.startswith(b"PE\0\0", pe):
            raise SimulationError("this xen.efi is no PE file")
        count, optional = struct.unpack_from("<H12xH", content, pe + 6)
        first = pe + 24 + optional
        found = []
        for number in range(count):
            fields = _SECTION.unpack_from(content, first + number * _SECTION.size)
            found.append(Part(fields[0].rstrip(b"\0"), *fields[1:]))
        return tuple(found)
    except struct.error:
        raise SimulationError("this xen.efi is cut short") from None


def _part(parts: tuple[Part, ...], name: bytes) -> Part:
    for part in parts:
        if part.name == name:
            return part
    raise SimulationError(f"this xen.efi has no section {name.decode()}")
