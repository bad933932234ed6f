# SPDX-License-Identifier: GPL-2.0-or-later
"""The Secure Kernel Loader (skl.bin), which AMD's SKINIT measures and starts.

SKINIT hashes the first `length` bytes of the 64 KiB block that the loader is in. GRUB
puts the SLRT behind them, at the bootloader data's offset, unmeasured.

Two layouts are in use, and a loader says which by where its information is: its UUID
must stand at the offset that the layout's field holds.

Sources: AMD64 Architecture Programmer's Manual 2, 15.27.2 (SLB header); TrenchBoot/
secure-kernel-loader head.S (both layouts, in different years) and sanity_check.sh;
TrenchBoot's GRUB, include/grub/i386/skinit.h and loader/slaunch/skl.c
(grub_skl_set_module: the conditions, grub_skl_setup_module: the SLRT's size).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from aemseal.words.errors import FormatError

SLB_SIZE = 0x10000
"""The block that SKINIT works on."""

SLRT_LEAST = 0x1000
"""Bytes that GRUB wants free for the SLRT."""

SKL_LIMIT = SLB_SIZE - SLRT_LEAST
"""Bytes of the largest skl.bin that GRUB takes."""

_HEADER = struct.Struct("<HH")
_OFFSETS = struct.Struct("<HH")
_LAYOUTS = (4, 66)
"""Where the offsets of information and bootloader data are: behind the entry point and
the length, or behind 62 reserved bytes more (GRUB's and Xen's newer headers)."""

_UUID = bytes.fromhex("78f1268e049211e9832ac85b76c4cc02")
_VERSION = bytes(4)


@dataclass(frozen=True, slots=True)
class SecureKernelLoader:
    """A skl.bin. Offsets and sizes are bytes, from its start.

    `measured` is what SKINIT hashes; `slrt_size` is what GRUB has for the SLRT.
    """

    measured: bytes = field(repr=False)
    entry: int
    info: int
    bootloader_data: int

    @property
    def slrt_size(self) -> int:
        """The rest of the block from the bootloader data on."""
        return SLB_SIZE - self.bootloader_data

    @classmethod
    def parse(cls, image: bytes) -> SecureKernelLoader:
        """Read a skl.bin as GRUB does; FormatError for what GRUB would refuse.

        And for one that both layouts fit: the SLRT's size would be a guess.
        """
        if len(image) > SKL_LIMIT:
            raise FormatError(f"a skl.bin has at most {SKL_LIMIT} bytes", SKL_LIMIT)
        at = _layout_of(image)
        entry, length = _HEADER.unpack_from(image)
        info, data = _OFFSETS.unpack_from(image, at)
        if length > len(image):
            raise FormatError(f"{length:#x} bytes are to be measured, not all there", 2)
        if entry >= length:
            raise FormatError(f"the entry point {entry:#x} is not measured", 0)
        if info + len(_UUID) > length:
            raise FormatError(f"the information at {info:#x} is not measured", at)
        if not length <= data <= SKL_LIMIT:
            raise FormatError(f"no room for the SLRT at {data:#x}", at + 2)
        return cls(image[:length], entry, info, data)


def _layout_of(image: bytes) -> int:
    """Return where the offsets are; FormatError when no layout or each leads to it."""
    found = [at for at in _LAYOUTS if _has_info(image, at)]
    if len(found) != 1:
        how = "by two layouts" if found else "by no layout"
        raise FormatError(f"the loader's information is found {how}", _LAYOUTS[0])
    return found[0]


def _has_info(image: bytes, at: int) -> bool:
    if at + _OFFSETS.size > len(image):
        return False
    info, _ = _OFFSETS.unpack_from(image, at)
    return image.startswith(_UUID + _VERSION, info)
