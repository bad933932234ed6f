# SPDX-License-Identifier: GPL-2.0-or-later
"""Which .xz files GRUB's xz embedded reads (GRUB 2.06, lib/xzembed, io/xzio.c).

The layout is that of the .xz file format 1.0.4, sections 2 to 4. A block may have
LZMA2 alone, or the x86 filter without a start offset before it; further branch
filters are in some builds of GRUB's and not in others.
"""

from __future__ import annotations

import zlib

from aemseal.words.errors import BootFileError

MAGIC = b"\xfd7zXZ\x00"

_CHECK_SIZES = {0x00: 0, 0x01: 4, 0x04: 8, 0x0A: 32}
"""Stream flags and bytes of the checks that GRUB takes: none, CRC32, CRC64, SHA-256."""

_HEADER, _FOOTER = 12, 12
_LZMA2, _X86 = 0x21, 0x04
_MAX_DICTIONARY = 39
"""Dictionary size byte; 40, for 4 GiB, is an error in xz embedded."""

_TAIL = 1 << 16
"""Bytes of the end that are kept to read the index: over 3,000 blocks."""


def is_xz_for_grub(path: str, first: bytes) -> bool:
    """Whether xzio takes a file that begins so for its own (test_header).

    BootFileError for a wrong CRC32, which GRUB sees only with its crc32 module.
    """
    if len(first) < _HEADER or not first.startswith(MAGIC):
        return False
    if zlib.crc32(first[6:8]) != int.from_bytes(first[8:12], "little"):
        raise BootFileError(f"{path} is no intact xz file: its header's check is wrong")
    return first[6] == 0 and first[7] in _CHECK_SIZES


class XzBlocks:
    """Looks at the block headers of one .xz stream as it goes by.

    BootFileError, naming `path`, for a block that GRUB cannot read, and for one that
    cannot be found because the block before it does not say its size.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = b""
        self._skip = _HEADER
        self._check_size = 0
        self._seen_header = False
        self._blocks = 0
        self._lost = False
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes; the first ones begin with a stream header."""
        self._tail = (self._tail + data)[-_TAIL:]
        if not self._seen_header:
            self._check_size = _CHECK_SIZES[data[7]]
            self._seen_header = True
        self._held += data
        while not self._lost and self._advance():
            pass
        if self._lost:
            self._held = b""

    def finish(self) -> None:
        """Hold the blocks that were seen against the index."""
        index_size = (int.from_bytes(self._tail[-8:-4], "little") + 1) * 4
        index = self._tail[-_FOOTER - index_size : -_FOOTER]
        if len(index) != index_size:
            raise self._refused("it has too many blocks to be looked through")
        blocks, _ = _number(index, 1)
        if blocks != self._blocks:
            raise self._refused("it has several blocks that do not say their size")

    def _advance(self) -> bool:
        """Skip what is left of a block, or take a block header, if it is all there."""
        skipped = min(self._skip, len(self._held))
        self._held, self._skip = self._held[skipped:], self._skip - skipped
        if self._skip or not self._held:
            return False
        if self._held[0] == 0:
            self._lost = True
            return False
        size = (self._held[0] + 1) * 4
        if len(self._held) < size:
            return False
        header, self._held = self._held[:size], self._held[size:]
        self._block(header)
        return not self._lost

    def _block(self, header: bytes) -> None:
        """Take a block header; its CRC is the decoder's to check."""
        self._blocks += 1
        flags, at, compressed = header[1], 2, None
        if flags & 0x3E:
            raise self._refused("it has more than two filters")
        if flags & 0x40:
            compressed, at = _number(header, at)
        if flags & 0x80:
            _, at = _number(header, at)
        if flags & 0x01:
            if not header.startswith(bytes((_X86, 0)), at):
                raise self._refused("it has a filter other than x86 and LZMA2")
            at += 2
        if not header.startswith(bytes((_LZMA2, 1)), at):
            raise self._refused("it has a filter other than x86 and LZMA2")
        if header[at + 2 : at + 3] > bytes((_MAX_DICTIONARY,)):
            raise self._refused("its dictionary is too large")
        if compressed is None:
            self._lost = True
        else:
            self._skip = compressed + (-compressed % 4) + self._check_size

    def _refused(self, why: str) -> BootFileError:
        return BootFileError(
            f"{self._path} is an xz file that not every GRUB can read: {why}",
            "pack it with gzip, or with xz --check=crc32 --lzma2",
        )


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a multibyte integer (section 1.2); return it and where it ends."""
    value = 0
    for shift in range(0, 63, 7):
        byte = data[at] if at < len(data) else 0
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return value, at
