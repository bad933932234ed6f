# SPDX-License-Identifier: GPL-2.0-or-later
"""How the parts of an initramfs are compressed: magics, and where a part ends.

The parts that Python's own library unpacks are unpacked here. Of the others (zstd, lz4)
the frames are walked, so that whoever runs their program knows which bytes are for it
and what comes after them.
Sources: Linux lib/decompress.c (magics); RFC 8878 section 3.1 (zstd); lz4's
lz4_Frame_format.md, with "Legacy frame" for the one that the kernel packs.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from aemseal.words.errors import EvidenceError

PIECE = 1 << 18
"""Bytes that a decoder hands over at once, at most."""

MAX_MEMORY = 256 << 20
"""For the dictionary of an xz or lzma part; `xz -9` takes 65 MiB."""


class Packing(Enum):
    """What a part is packed with; the values are what people call it."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "lzma"
    ZSTD = "zstd"
    LZ4 = "lz4"
    LZ4_LEGACY = "lz4 (legacy)"
    LZO = "lzo"
    OLD_CPIO = "old cpio"


_MAGICS: Mapping[bytes, Packing] = {
    b"\x1f\x8b": Packing.GZIP,
    b"BZh": Packing.BZIP2,
    b"\xfd7zXZ\x00": Packing.XZ,
    b"\x5d\x00\x00": Packing.LZMA,
    b"\x28\xb5\x2f\xfd": Packing.ZSTD,
    b"\x04\x22\x4d\x18": Packing.LZ4,
    b"\x02\x21\x4c\x18": Packing.LZ4_LEGACY,
    b"\x89LZO": Packing.LZO,
    # cpio(5), "Old Binary Format": 070707 as a 16-bit number, in both byte orders
    b"\xc7\x71": Packing.OLD_CPIO,
    b"\x71\xc7": Packing.OLD_CPIO,
}

MAGIC_SIZE = max(map(len, _MAGICS))
"""As many first bytes tell how a part is packed."""


def packing_of(first: bytes) -> Packing | None:
    """Return what a part that begins so is packed with, None for no known packing."""
    for magic, packing in _MAGICS.items():
        if first.startswith(magic):
            return packing
    return None


class PackedError(EvidenceError):
    """A part that cannot be unpacked; the message says why, not where."""


class Decoder(Protocol):
    """Unpacks one part: feed it until `rest` is not None.

    Both methods raise PackedError. They yield at most PIECE bytes at once, and have
    taken the data only when all is fetched from them.
    """

    rest: bytes | None
    """Once the part has ended: what was fed after its end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack the next bytes."""

    def finish(self) -> Iterator[bytes]:
        """Take the end of the file, and unpack what is left."""


class LibraryDecoder:
    """Unpacks gzip, bzip2, xz and lzma; PackedError for another packing."""

    def __init__(self, packing: Packing) -> None:
        self.rest: bytes | None = None
        if packing not in _STEPS:
            raise PackedError(f"nothing here unpacks {packing.value}")
        self._step = _STEPS[packing]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        try:
            while True:
                plain, more, self.rest = self._step(data)
                yield plain
                if more is None:
                    return
                data = more
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise PackedError(f"it is not intact: {error}") from None

    def finish(self) -> Iterator[bytes]:
        """See Decoder."""
        raise PackedError(ENDS_EARLY)


ENDS_EARLY = "it ends too early"

_Stepped = tuple[bytes, bytes | None, bytes | None]
"""Unpacked bytes; what to go on with, None where more input is needed; the rest."""


def _gzip() -> Callable[[bytes], _Stepped]:
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def step(data: bytes) -> _Stepped:
        plain = decoder.decompress(data, PIECE)
        if decoder.eof:
            return plain, None, decoder.unused_data
        left = decoder.unconsumed_tail
        return plain, left if left or len(plain) == PIECE else None, None

    return step


def _stepper(
    decoder: lzma.LZMADecompressor | bz2.BZ2Decompressor,
) -> Callable[[bytes], _Stepped]:
    def step(data: bytes) -> _Stepped:
        plain = decoder.decompress(data, PIECE)
        if decoder.eof:
            return plain, None, decoder.unused_data
        return plain, None if decoder.needs_input else b"", None

    return step


def _xz() -> Callable[[bytes], _Stepped]:
    return _stepper(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY))


def _lzma() -> Callable[[bytes], _Stepped]:
    return _stepper(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_MEMORY))


def _bzip2() -> Callable[[bytes], _Stepped]:
    return _stepper(bz2.BZ2Decompressor())


_STEPS: Mapping[Packing, Callable[[], Callable[[bytes], _Stepped]]] = {
    Packing.GZIP: _gzip,
    Packing.BZIP2: _bzip2,
    Packing.XZ: _xz,
    Packing.LZMA: _lzma,
}

IN_LIBRARY = frozenset(_STEPS)
"""What LibraryDecoder unpacks."""


# --- frames of what other programs unpack ---


@dataclass(frozen=True, slots=True)
class _Next:
    """What a walk asks for: bytes to be read, or to be passed over."""

    size: int
    is_read: bool = False
    may_end: bool = False
    """Whether the file may end instead."""


_Walk = Generator[_Next, bytes, bool]
"""Is sent what it asks to read. At the end it says whether what it read last is still
the frame's own."""

_LZ4_LEGACY_BOUND = (8 << 20) + (8 << 20) // 255 + 16
"""Bytes that a block of 8 MiB is packed to at most (LZ4_COMPRESSBOUND)."""


class FrameWalker:
    """Tells which bytes are of the one frame that the first of them begin.

    `rest` is None until the frame has ended, then it is what was fed after its end.
    PackedError for what the frame's specification reserves.
    """

    def __init__(self, packing: Packing) -> None:
        self.rest: bytes | None = None
        self._walk = _WALKS[packing]()
        self._next = next(self._walk)
        self._left = self._next.size
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return which of the next bytes, and of those held back, are the frame's."""
        own, at = bytearray(), 0
        while self.rest is None and at < len(data):
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            (self._held if self._next.is_read else own).extend(part)
            if not self._left and self._is_over(own):
                self.rest = bytes(self._held) + data[at:]
        return bytes(own)

    def finish(self) -> None:
        """Take the end of the file; PackedError where the frame goes on."""
        if self.rest is None:
            if not self._next.may_end:
                raise PackedError(ENDS_EARLY)
            self.rest = bytes(self._held)

    def _is_over(self, own: bytearray) -> bool:
        """Go on with what was read, which then is the frame's; say whether it ends."""
        try:
            self._next = self._walk.send(bytes(self._held))
            while not self._next.size:
                self._next = self._walk.send(b"")
        except StopIteration as end:
            if end.value:
                own += self._held
                self._held.clear()
            return True
        own += self._held
        self._held.clear()
        self._left = self._next.size
        return False


def _zstd() -> _Walk:
    descriptor = (yield _Next(5, is_read=True))[4]
    is_single = bool(descriptor & 0x20)
    window = 0 if is_single else 1
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    yield _Next(window + dictionary + content)
    is_last = False
    while not is_last:
        block = int.from_bytes((yield _Next(3, is_read=True)), "little")
        is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _RESERVED_BLOCK:
            raise PackedError("it has a zstd block of a reserved kind")
        yield _Next(1 if kind == _RLE_BLOCK else size)
    yield _Next(4 if descriptor & 0x04 else 0)
    return True


_RLE_BLOCK, _RESERVED_BLOCK = 1, 3


def _lz4() -> _Walk:
    flags = (yield _Next(5, is_read=True))[4]
    content = 8 if flags & 0x08 else 0
    dictionary = 4 if flags & 0x01 else 0
    # the block maximum's byte before, the header's checksum after them
    yield _Next(1 + content + dictionary + 1)
    while True:
        size = int.from_bytes((yield _Next(4, is_read=True)), "little")
        if size == 0:
            break
        # the highest bit says that the block is stored as it is
        yield _Next((size & 0x7FFFFFFF) + (4 if flags & 0x10 else 0))
    yield _Next(4 if flags & 0x04 else 0)
    return True


def _lz4_legacy() -> _Walk:
    """Walk blocks up to what cannot be the size of one: there is no end mark."""
    yield _Next(4)
    while True:
        read = yield _Next(4, is_read=True, may_end=True)
        size = int.from_bytes(read, "little")
        if not 0 < size <= _LZ4_LEGACY_BOUND:
            return False
        yield _Next(size)


_WALKS: Mapping[Packing, Callable[[], _Walk]] = {
    Packing.ZSTD: _zstd,
    Packing.LZ4: _lz4,
    Packing.LZ4_LEGACY: _lz4_legacy,
}

BY_PROGRAM: Mapping[Packing, str] = {
    Packing.ZSTD: "zstd",
    Packing.LZ4: "lz4",
    Packing.LZ4_LEGACY: "lz4",
}
"""The programs that unpack what FrameWalker walks, each with the options -dc."""
