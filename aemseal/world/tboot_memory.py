# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's log in memory (`logging=memory`): the text that it would print.

At physical 0x60000, 32 KiB: a header and a buffer. Where the buffer filled up, tboot
packed what was in it, up to ten times. The head tells the layout by `max_size`, which
tboot sets from its own structure: 16-bit fields and packed parts since tboot 1.8, and
before it 32-bit fields and none. Sources: tboot include/tboot.h (tboot_log_t),
common/memlog.c, utils/txt-stat.c; txt-stat 1.10.5 was seen to print the same text.
"""

from __future__ import annotations

import struct

from aemseal.words.errors import FormatError, LogError

MEMORY_LOG_ADDRESS = 0x60000
MEMORY_LOG_SIZE = 0x8000
"""tboot include/config.h: TBOOT_SERIAL_LOG_ADDR, TBOOT_SERIAL_LOG_SIZE."""

_UUID = bytes.fromhex("262519c0306bb44d4c84a3e953b88174")
_PARTS = 10
_HEAD = struct.Struct(f"<16sHH{_PARTS}H{_PARTS}HB")
_OLD_HEAD = struct.Struct("<16sII")
_MAX_SIZE = MEMORY_LOG_SIZE - 62
"""Of the structure's 61 bytes, padded to its alignment of 2."""

_OLD_BUFFERS = {
    MEMORY_LOG_SIZE - 24: 24,  # Linux arch/x86/kernel/tboot.c, LOG_BUF_OFF
    MEMORY_LOG_SIZE - 28: 28,  # with a pointer to the buffer before it
}
"""Where the buffer begins, by the 32-bit `max_size`."""


def memory_log_text(data: bytes) -> bytes:
    """Return the text in a memory log, packed parts unpacked, oldest first.

    `data` is what lies at MEMORY_LOG_ADDRESS, MEMORY_LOG_SIZE bytes of it. LogError
    when there is no such log, it is empty, or it is laid out in a way that is not
    known; FormatError when its positions or packed parts make no sense.
    """
    if len(data) < MEMORY_LOG_SIZE or data[: len(_UUID)] != _UUID:
        raise LogError(
            f"no log of tboot's is at {MEMORY_LOG_ADDRESS:#x}",
            "tboot keeps one when it is started with logging=memory",
        )
    _, old_size, old_end = _OLD_HEAD.unpack_from(data)
    head = _HEAD.unpack_from(data)
    if head[1] == _MAX_SIZE:
        text = _packed_text(data, head)
    elif old_size in _OLD_BUFFERS:
        text = _buffer(data, _OLD_BUFFERS[old_size], old_end, 0, old_end)
    else:
        raise LogError(
            f"tboot's log at {MEMORY_LOG_ADDRESS:#x} is laid out in a way that is not "
            f"known (max_size {head[1]} or {old_size})",
            "save what txt-stat prints, and name it in /etc/aemseal.yaml (event_log)",
        )
    text = text.replace(b"\0", b"")
    if not text.strip():
        raise LogError(f"tboot's log at {MEMORY_LOG_ADDRESS:#x} is empty")
    return text


def _packed_text(data: bytes, head: tuple[int, ...]) -> bytes:
    used, starts, sizes = head[2], head[3 : 3 + _PARTS], head[3 + _PARTS : -1]
    count = head[-1]
    if count > _PARTS:
        raise FormatError(f"tboot's log has {count} packed parts", _HEAD.size - 1)
    parts, at = [], 0
    for start, size in zip(starts[:count], sizes[:count], strict=True):
        part = _buffer(data, _HEAD.size, used, start, start + size)
        parts.append(_unpacked(part, _HEAD.size + start))
        at = start + size
    return b"".join([*parts, _buffer(data, _HEAD.size, used, at, used)])


def _buffer(data: bytes, begin: int, used: int, start: int, end: int) -> bytes:
    """Return a part of the buffer, which begins at `begin` and is filled to `used`."""
    if not start <= end <= used <= len(data) - begin:
        raise FormatError(f"tboot's log has no bytes {start} to {end}", begin + start)
    return data[begin + start : begin + end]


def _unpacked(packed: bytes, where: int) -> bytes:
    """Undo tboot's LZ77 (common/lz.c, of the Basic Compression Library).

    The first byte is the marker. A marker before 00 is itself; before anything else
    it is followed by a length and a distance, seven bits a byte, the highest first;
    every other byte is itself. `where` is the offset of the part in the log.
    """
    if not packed:
        raise FormatError("a packed part of tboot's log is empty", where)
    marker, at = packed[0], 1
    out = bytearray()
    while at < len(packed):
        if packed[at] != marker:
            out.append(packed[at])
            at += 1
        elif packed[at + 1 : at + 2] == b"\0":
            out.append(marker)
            at += 2
        else:
            length, after = _number(packed, at + 1, where)
            distance, after = _number(packed, after, where)
            if not 0 < distance <= len(out) or len(out) + length > MEMORY_LOG_SIZE:
                raise FormatError("a packed part of tboot's log is bad", where + at)
            for _ in range(length):
                out.append(out[-distance])
            at = after
    return bytes(out)


def _number(packed: bytes, at: int, where: int) -> tuple[int, int]:
    """Read a number of one to three bytes; returns where it ends, too."""
    value = 0
    for each in range(at, min(at + 3, len(packed))):
        value = value << 7 | packed[each] & 0x7F
        if packed[each] < 0x80:
            return value, each + 1
    raise FormatError("a packed part of tboot's log is cut off", where + at)
