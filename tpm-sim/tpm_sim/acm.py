# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT modules: made up with a true header, and read as GRUB and tboot read them.

Intel's own modules may not be handed on, so none is here: `Acm` makes modules whose
header, platform lists and capabilities are as Intel documents them and whose code and
key are random. They launch nothing but a simulated machine.
Sources: Intel TXT Software Development Guide appendix A.1 (header, lists); tboot/txt/
acmod.c (is_acmod, is_sinit_acmod, does_acmod_match_platform) and TrenchBoot's GRUB
loader/slaunch/txt.c (grub_txt_acmod_match_platform): what is taken for a SINIT.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum

_HEADER = struct.Struct("<HHIIHHIIIHH")
"""Type, subtype, header length, header version, chipset, flags, vendor, date, size
(lengths in 4 bytes), security versions."""

_HEADER_SIZE = 1216
_KEY_AT = 128
_SIZES_AT = 120
_CHIPSET = 2
_INTEL = 0x8086
_SINIT = 1
_SCRATCH_WORDS = 143
_LEAST_TABLE_VERSION = 3
_ALLOWED_PADDING = range(0x10000, 0x40001)
_TABLE = struct.Struct("<16sBBHIIIIB3sII")
"""UUID, type, version, length, chipset list, OS-to-SINIT version, least MLE version,
capabilities, version, revision, processor list, TPM list."""

_TABLE_UUID = struct.pack("<IHHH", 0x7FC03AAA, 0x46A7, 0x18DB, 0xAC2E) + bytes.fromhex(
    "698f8d417f5a"
)
_CHIPSET_ID = struct.Struct("<IHHHHI")
_PROCESSOR_ID = struct.Struct("<IIQQ")
_ALL_BITS = 0xFFFFFFFF


class AcmHeader(Enum):
    """Header version, length in 4 bytes and the key's size in bytes."""

    V0_0 = (0x0, 161, 256)
    V3_0 = (0x30000, 224, 384)


@dataclass(frozen=True, slots=True)
class Platform:
    """What a module names the machines by that it is for."""

    device: int
    """The chipset's device identifier (TXT.DIDVID, vendor 8086)."""

    signature: int
    """The processor's family, model and stepping (CPUID leaf 1, EAX)."""

    revision: int = 1
    flags: int = 0
    """The processor's platform bits (MSR 17h)."""


@dataclass(frozen=True, slots=True)
class Acm:
    """The recipe of a made-up SINIT module; the same recipe gives the same bytes.

    `date` is as the header has it, 0x20210615. `build` and `key` are random numbers'
    seeds: another build, another signing key.
    """

    platform: Platform
    date: int = 0x20210615
    capabilities: int = 0x36E
    header: AcmHeader = AcmHeader.V0_0
    table_version: int = 5
    build: int = 1
    key: int = 1

    @property
    def content(self) -> bytes:
        """The module's bytes."""
        version, header_words, key_size = self.header.value
        body = self._table(header_words * 4 + _SCRATCH_WORDS * 4)
        body += _noise("code", self.build, 0x1000 - len(body))
        front = bytearray(header_words * 4 + _SCRATCH_WORDS * 4)
        size_words = (len(front) + len(body)) // 4
        _HEADER.pack_into(
            *(front, 0, _CHIPSET, 0, header_words, version),
            *(self.platform.device, 0, _INTEL, self.date, size_words, 0, 0),
        )
        struct.pack_into("<II", front, _SIZES_AT, key_size // 4, _SCRATCH_WORDS)
        key = _noise("key", self.key, key_size)
        front[_KEY_AT : _KEY_AT + key_size] = key
        signature = _noise("signature", self.build, key_size)
        front[header_words * 4 - key_size : header_words * 4] = signature
        return bytes(front) + body

    def _table(self, start: int) -> bytes:
        chipsets = start + _TABLE.size
        processors = chipsets + 4 + _CHIPSET_ID.size
        tpms = processors + 4 + _PROCESSOR_ID.size
        table = _TABLE.pack(
            *(_TABLE_UUID, _SINIT, self.table_version, _TABLE.size, chipsets),
            *(7, 0x20001, self.capabilities, 1, bytes([10, 0, 0]), processors, tpms),
        )
        table += struct.pack("<I", 1) + _CHIPSET_ID.pack(
            *(0, _INTEL, self.platform.device, self.platform.revision, 0, 0)
        )
        table += struct.pack("<I", 1) + _PROCESSOR_ID.pack(
            *(self.platform.signature, _ALL_BITS, self.platform.flags, 0)
        )
        return table + struct.pack("<IHHH", 0xF, 2, 0x4, 0xB)


@dataclass(frozen=True, slots=True)
class SinitModule:
    """A SINIT module as the launcher sees it, and what the processor measures of it."""

    measured: bytes
    modulus: bytes
    date: int
    capabilities: int
    platforms: tuple[Platform, ...]

    @classmethod
    def of(cls, content: bytes) -> SinitModule | None:
        """Read a module; None for what is no SINIT module."""
        if not is_sinit_acm(content):
            return None
        fields = _HEADER.unpack_from(content)
        header_words, date, size_words = fields[2], fields[7], fields[8]
        key_words, scratch_words = struct.unpack_from("<II", content, _SIZES_AT)
        start = (header_words + scratch_words) * 4
        return cls(
            content[:_KEY_AT] + content[start : size_words * 4],
            content[_KEY_AT : _KEY_AT + key_words * 4],
            date,
            _TABLE.unpack_from(content, start)[7],
            _platforms(content, start),
        )

    def matches(self, platform: Platform) -> bool:
        """Whether the module is for this machine."""
        return platform in self.platforms


def is_sinit_acm(content: bytes) -> bool:
    """Whether tboot takes a module for a SINIT one, of whatever platform."""
    if len(content) < _HEADER_SIZE:
        return False
    fields = _HEADER.unpack_from(content)
    kind, header_words, vendor, size_words = fields[0], fields[2], fields[6], fields[8]
    (scratch_words,) = struct.unpack_from("<I", content, _SIZES_AT + 4)
    padding = len(content) - size_words * 4
    if padding and padding not in _ALLOWED_PADDING:
        return False
    if kind != _CHIPSET or vendor != _INTEL:
        return False
    table = (header_words + scratch_words) * 4
    if table + _TABLE.size > size_words * 4:
        return False
    uuid, acm_type, version = _TABLE.unpack_from(content, table)[:3]
    return (uuid, acm_type) == (_TABLE_UUID, _SINIT) and bool(
        version >= _LEAST_TABLE_VERSION
    )


def _platforms(content: bytes, table: int) -> tuple[Platform, ...]:
    """Return every pair of the two lists, none where they are no lists."""
    fields = _TABLE.unpack_from(content, table)
    try:
        chipsets = _list(content, fields[4], _CHIPSET_ID)
        processors = _list(content, fields[10], _PROCESSOR_ID)
    except struct.error:
        return ()
    return tuple(
        Platform(chipset[2], processor[0], chipset[3], processor[2])
        for chipset in chipsets
        for processor in processors
    )


def _list(content: bytes, at: int, form: struct.Struct) -> list[tuple[int, ...]]:
    (count,) = struct.unpack_from("<I", content, at)
    return [
        form.unpack_from(content, at + 4 + number * form.size)
        for number in range(min(count, 64))
    ]


def _noise(purpose: str, seed: int, size: int) -> bytes:
    """Return bytes that look like nothing, and are always the same."""
    return hashlib.shake_128(f"{purpose} {seed}".encode()).digest(size)
