# SPDX-License-Identifier: GPL-2.0-or-later
"""A bounds-checked reader of little-endian structures.

Every size is held against the bytes that are there before anything is taken, so a
length field of 4 GiB in a small file costs nothing but the error.
"""

from __future__ import annotations

from aemseal.words.errors import FormatError


class ByteReader:
    """A cursor over `data[offset:end]`; offsets count from the start of `data`.

    Each read names the field it is for; FormatError names that field and the offset
    where it should have been.
    """

    __slots__ = ("_data", "end", "offset")

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None) -> None:
        self._data = data
        self.end = len(data) if end is None else end
        self.offset = offset
        if not 0 <= offset <= self.end <= len(data):
            raise ValueError(f"[{offset}:{end}] is not within {len(data)} bytes")

    @property
    def remaining(self) -> int:
        """How many bytes are left (0 at the end)."""
        return self.end - self.offset

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; FormatError when fewer are left."""
        if size > self.remaining:
            raise FormatError(
                f"{what} needs {size} bytes and {self.remaining} are left", self.offset
            )
        start, self.offset = self.offset, self.offset + size
        return self._data[start : self.offset]

    def u8(self, what: str) -> int:
        """Return an unsigned byte."""
        return self._unsigned(1, what)

    def u16(self, what: str) -> int:
        """Return an unsigned 16-bit number."""
        return self._unsigned(2, what)

    def u32(self, what: str) -> int:
        """Return an unsigned 32-bit number."""
        return self._unsigned(4, what)

    def u64(self, what: str) -> int:
        """Return an unsigned 64-bit number."""
        return self._unsigned(8, what)

    def _unsigned(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")
