# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's physical memory as a sparse file, and what tboot and Xen leave in it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

MEMORY_SIZE = 1 << 32
HEAP_REGISTERS = 0xFED30300
TBOOT_LOG = 0x60000
TBOOT_BUFFER = 0x8000 - 62
TBOOT_UUID = bytes.fromhex("262519c0306bb44d4c84a3e953b88174")


def plant_memory(
    root: Path, parts: Mapping[int, bytes], size: int = MEMORY_SIZE
) -> Path:
    """Write /dev/mem below `root`: zeros, but for the parts at these addresses."""
    (root / "dev").mkdir(parents=True, exist_ok=True)
    with (root / "dev/mem").open("wb") as file:
        file.truncate(size)
        for address, data in parts.items():
            file.seek(address)
            file.write(data)
    return root


def heap_registers(base: int, size: int) -> dict[int, bytes]:
    """TXT.HEAP.BASE and TXT.HEAP.SIZE."""
    return {HEAP_REGISTERS: struct.pack("<QQ", base, size)}


def memory_log(text: bytes, packed: Sequence[bytes] = ()) -> bytes:
    """tboot's log in memory as tboot 1.8 to 1.10 lay it out, after packed parts."""
    starts = [sum(map(len, packed[:at])) for at in range(len(packed) + 1)]
    sizes = list(map(len, packed))
    buffer = b"".join([*packed, text])
    head = struct.pack(
        "<16sHH10H10HB",
        TBOOT_UUID,
        TBOOT_BUFFER,
        len(buffer),
        *(starts + 10 * [0])[:10],
        *(sizes + 10 * [0])[:10],
        len(packed),
    )
    return (head + buffer).ljust(0x8000, b"\0")


def pack(text: bytes, marker: int) -> bytes:
    """Pack as tboot's LZ77 may: the longest match of five bytes and more."""
    out, at = bytearray([marker]), 0
    while at < len(text):
        length, distance = _longest(text, at)
        if length > 4:
            out += bytes([marker]) + _number(length) + _number(distance)
            at += length
        else:
            out += bytes([text[at], 0] if text[at] == marker else [text[at]])
            at += 1
    return bytes(out)


def _longest(text: bytes, at: int) -> tuple[int, int]:
    best = (0, 0)
    for distance in range(1, min(at, 300) + 1):
        length = 0
        while (
            at + length < len(text)
            and text[at + length] == text[at + length - distance]
        ):
            length += 1
        best = max(best, (length, distance))
    return best


def _number(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)
