# SPDX-License-Identifier: GPL-2.0-or-later
"""The Secure Launch Resource Table's platform tables, and the Secure Kernel Loader.

Sources: TrenchBoot's GRUB (include/grub/slr_table.h, i386/skinit.h, loader/slaunch/
skl.c), TrenchBoot's Xen (arch/x86/slaunch.c: what is zeroed before it is measured),
TrenchBoot/secure-kernel-loader (head.S). All little endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from tpm_sim.errors import SimulationError
from tpm_sim.models import Generation, SklHeader

SLB_SIZE = 0x10000
HEAP_OS_MLE = 0x3FF20400
"""Where the OS-to-MLE data lies in the TXT heap; made up."""

_AMD_INFO = struct.Struct("<IIQIIQQQ4H")
_AMD_INFO_TAG = 5
_INTEL_INFO_TAG = 4
_SAVED_RANGES = 32
_WAKE_SIZE = 0x4000
_SCRATCH_SIZE = 64
_SETUP_SECURE_LAUNCH = 10
_SKL_UUID = bytes.fromhex("78f1268e049211e9832ac85b76c4cc02")
_SKL_INFO = struct.Struct("<16sIH64s")
_MSB_KEY_ALGORITHM = 0x14
_ENTRY = 0x500
_LEAST_SLRT = 0x1000


@dataclass(frozen=True, slots=True)
class Skl:
    """A skl.bin that GRUB accepts: what SKINIT measures, and the room for the SLRT."""

    measured: bytes
    slrt_size: int

    @classmethod
    def of(cls, content: bytes, header: SklHeader) -> Skl | None:
        """Read a skl.bin; None for what GRUB would not take for one."""
        info_at, data_at = header.value
        if not data_at + 2 <= len(content) <= SLB_SIZE - _LEAST_SLRT:
            return None
        entry, length = struct.unpack_from("<HH", content)
        (info,) = struct.unpack_from("<H", content, info_at)
        (data,) = struct.unpack_from("<H", content, data_at)
        sound = (
            entry < length <= min(len(content), data)
            and info + len(_SKL_UUID) <= length
            and SLB_SIZE - data >= _LEAST_SLRT
            and content.startswith(_SKL_UUID + bytes(4), info)
        )
        return cls(content[:length], SLB_SIZE - data) if sound else None


def make_skl(
    header: SklHeader,
    *,
    version: int = 1,
    length: int = 0xC4D4,
    bootloader_data: int = 0xE4D4,
    unmeasured: bytes = b"",
) -> bytes:
    """Return a stand-in for secure-kernel-loader's skl.bin, which no archive ships.

    A true header and information; for the code stand bytes that depend on `version`.
    `length` is what SKINIT measures, `bootloader_data` where the SLRT goes (as in the
    log of an emulated machine); `unmeasured` follows the measured bytes in the file.
    """
    info_at, data_at = header.value
    info_offset = 0x100
    made = bytearray(
        b"".join(
            hashlib.sha256(b"skl %d %d" % (version, block)).digest()
            for block in range(length // 32 + 1)
        )[:length]
    )
    made[: data_at + 2] = bytes(data_at + 2)
    struct.pack_into("<HH", made, 0, _ENTRY, length)
    struct.pack_into("<H", made, info_at, info_offset)
    struct.pack_into("<H", made, data_at, bootloader_data)
    _SKL_INFO.pack_into(made, info_offset, _SKL_UUID, 0, _MSB_KEY_ALGORITHM, b"")
    if Skl.of(bytes(made) + unmeasured, header) is None:
        raise SimulationError("GRUB would not take this for a skl.bin")
    return bytes(made) + unmeasured


def amd_info(slrt_size: int, psp_version: int = 0) -> bytes:
    """Return AMD's platform table as Xen measures it: its addresses are zeroed."""
    size = _AMD_INFO.size
    return _AMD_INFO.pack(
        *(_AMD_INFO_TAG, size, 0, _SETUP_SECURE_LAUNCH, size),
        *(slrt_size, 0, 0, psp_version, 0, 0, 0),
    )


@dataclass(frozen=True, slots=True)
class ProcessorState:
    """What GRUB saves of an Intel processor before the launch; made up."""

    misc_enable: int = 0x850089
    default_type: int = 0xC00
    ranges: tuple[tuple[int, int], ...] = (
        (0x40000000, 0x7FC0000800),
        (0x80000000, 0x7F80000800),
        (0xC0000000, 0x7FC0000800),
    )
    """Base and mask of the variable memory types, as the registers hold them."""

    range_count: int = 10


def intel_info(state: ProcessorState, generation: Generation) -> bytes:
    """Return Intel's platform table as Xen measures it: its addresses are zeroed.

    540 bytes until v0.4, 560 from v0.5 on.
    """
    saved = (*state.ranges, *[(0, 0)] * (_SAVED_RANGES - len(state.ranges)))
    body = struct.pack("<3Q", state.misc_enable, state.default_type, state.range_count)
    body += b"".join(struct.pack("<QQ", *each) for each in saved)
    if generation.has_xen_of_v0_5:
        head = struct.Struct("<IIQQ")
        return head.pack(_INTEL_INFO_TAG, head.size + len(body), 0, 0) + body
    return struct.pack("<HH", _INTEL_INFO_TAG, 4 + len(body)) + body


def os_mle_data(
    generation: Generation, *, information: int, table: int, info: int, wake: int
) -> bytes:
    """Return what GRUB leaves for Xen in the TXT heap: addresses, then zeros.

    `information` is the boot parameters' address, which v0.5 leaves out; `table` the
    resource table's, `info` that of Intel's entry in it, `wake` where the other
    processors wait. 88 bytes until v0.4, 96 from v0.5 on.
    """
    if generation.has_xen_of_v0_5:
        fields = struct.pack("<IIQQII", 1, 0, table, info, wake, _WAKE_SIZE)
    else:
        fields = struct.pack("<6I", 1, information, table, info, wake, _WAKE_SIZE)
    return fields + bytes(_SCRATCH_SIZE)
