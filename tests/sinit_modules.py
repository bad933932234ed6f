# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up SINIT modules for tests, laid out as the Intel TXT guide's appendix A says.

No released module is here. Sizes are kept small: real modules have 64 to 256 KiB.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

INFO_UUID = struct.pack("<IHHH", 0x7FC03AAA, 0x46A7, 0x18DB, 0xAC2E) + bytes.fromhex(
    "698f8d417f5a"
)
HEADER_0_0, HEADER_3_0 = 0, 0x30000

SKYLAKE = (1, 0x8086, 0xB006, 1)
"""A chipset entry: flags, vendor, device, revision."""

ALDER_LAKE = (1, 0x8086, 0xB00C, 1)

SKYLAKE_CPU = (0x406E0, 0xFFF3FF0, 0, 0)
"""A processor entry: family/model/stepping, mask, platform id, mask."""

ALDER_LAKE_CPU = (0x906A0, 0xFFF3FF0, 0, 0)


def modulus(seed: str, size: int = 256) -> bytes:
    """A key that is none: bytes that differ by seed."""
    return hashlib.shake_256(seed.encode()).digest(size)


@dataclass(frozen=True)
class Made:
    """A module to be made; `None` for a size means what the header version has."""

    header_version: int = HEADER_0_0
    key: bytes | None = None
    header_dwords: int | None = None
    scratch_dwords: int = 0x8F
    flags: int = 0
    date: int = 0x20190708
    security_version: int = 2
    table_version: int = 7
    table_length: int = 48
    capabilities: int = 0x36E
    chipsets: Sequence[tuple[int, int, int, int]] = (SKYLAKE,)
    processors: Sequence[tuple[int, int, int, int]] = (SKYLAKE_CPU,)
    algorithms: Sequence[int] = (4, 0xB)
    code: bytes = b"code"
    size: int = 0x2000
    fixes: dict[int, bytes] = field(default_factory=dict)
    """Bytes written over the finished module, by offset from the table's start."""

    @property
    def is_3_0(self) -> bool:
        return self.header_version == HEADER_3_0

    @property
    def table_at(self) -> int:
        dwords = self.header_dwords or (0xE0 if self.is_3_0 else 0xA1)
        return (dwords + self.scratch_dwords) * 4

    @property
    def lists_at(self) -> int:
        """Where the chipset list is; the processor's and the TPM's follow."""
        return self.table_at + 64

    @property
    def file(self) -> bytes:
        """The module."""
        key = self.key or modulus("key", 384 if self.is_3_0 else 256)
        dwords = self.header_dwords or (0xE0 if self.is_3_0 else 0xA1)
        start = struct.pack(
            "<HHIIHHIIIHHIIIIII",
            *(2, 0, dwords, self.header_version, 0xB002, self.flags, 0x8086),
            *(self.date, self.size // 4, self.security_version, 0),
            *(0, 0, 0, 0, 8, 0xDA16),
        )
        start = start.ljust(120, b"\0")
        start += struct.pack("<II", len(key) // 4, self.scratch_dwords) + key
        body = bytearray(start.ljust(self.table_at, b"\xee"))
        chipsets = struct.pack("<I", len(self.chipsets)) + b"".join(
            struct.pack("<IHHHHI", flags, vendor, device, revision, 0, 0)
            for flags, vendor, device, revision in self.chipsets
        )
        processors = struct.pack("<I", len(self.processors)) + b"".join(
            struct.pack("<IIQQ", *row) for row in self.processors
        )
        processors_at = self.lists_at + len(chipsets)
        tpm_at = processors_at + len(processors)
        body += struct.pack(
            "<16sBBHIIIIB3sII",
            *(INFO_UUID, 1, self.table_version, self.table_length, self.lists_at),
            *(7, 0x20000, self.capabilities, 39, b"\1\x0c\x0a", processors_at, tpm_at),
        )
        body = body.ljust(self.lists_at, b"\0") + chipsets + processors
        body += struct.pack("<IH", 0xF, len(self.algorithms))
        body += struct.pack(f"<{len(self.algorithms)}H", *self.algorithms)
        whole = bytearray((body + self.code).ljust(self.size, b"\x5a")[: self.size])
        for at, new in self.fixes.items():
            whole[self.table_at + at : self.table_at + at + len(new)] = new
        return bytes(whole)

    @property
    def measured(self) -> bytes:
        """What the processor hashes of it."""
        return self.file[:128] + self.file[self.table_at :]
