# SPDX-License-Identifier: GPL-2.0-or-later
"""What fuzzing of archives and of compressed files begins with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct

from cpio_images import archive, early_microcode, member, trailer

_TEXT = b"a line of text, and the same line again\n" * 8

_ARCHIVE = archive(
    member(".", mode=stat.S_IFDIR | 0o755, links=2),
    member("init", b"#!/bin/sh\n", inode=2),
    member("bin/sh", b"init", mode=stat.S_IFLNK | 0o777, inode=3),
    member("one", inode=4, links=2),
    member("two", b"shared", inode=4, links=2),
)

_ZSTD = b"\x28\xb5\x2f\xfd\x24\x04" + struct.pack("<I", 4 << 3 | 1)[:3] + b"word"
_LZ4 = b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", 0x80000004) + b"word"
_LZ4_LEGACY = b"\x02\x21\x4c\x18" + struct.pack("<I", 5) + b"\x40word"


def archives() -> list[bytes]:
    """cpio archives of both forms, alone and behind each other."""
    summed = member("x", b"\1\2\3", magic=b"070702", checksum=6)
    return [
        _ARCHIVE,
        archive(summed),
        early_microcode() + _ARCHIVE,
        trailer(),
        _ARCHIVE + b"something else",
    ]


def images() -> list[bytes]:
    """Initramfs images: microcode, then an archive that is packed."""
    return [
        _ARCHIVE,
        early_microcode() + gzip.compress(_ARCHIVE, mtime=0),
        gzip.compress(_ARCHIVE[:400], mtime=0) + gzip.compress(_ARCHIVE[400:], mtime=0),
        lzma.compress(_ARCHIVE),
        early_microcode() + bz2.compress(_ARCHIVE) + gzip.compress(_ARCHIVE, mtime=0),
        lzma.compress(_ARCHIVE, lzma.FORMAT_ALONE),
    ]


def parts() -> list[bytes]:
    """Parts of every packing, with bytes behind them and without."""
    made = [
        gzip.compress(_TEXT, mtime=0),
        bz2.compress(_TEXT),
        lzma.compress(_TEXT),
        lzma.compress(_TEXT, lzma.FORMAT_ALONE),
        _ZSTD + b"\0\0\0\0",
        _LZ4 + bytes(8),
        _LZ4_LEGACY,
    ]
    return made + [each + b"070701" for each in made]


def grub_files() -> list[bytes]:
    """Files as GRUB unpacks them, and some that it does not."""
    crc32, none = lzma.CHECK_CRC32, lzma.CHECK_NONE
    x86 = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
    return [
        _TEXT,
        gzip.compress(_TEXT, mtime=0),
        gzip.compress(_TEXT, mtime=0) * 2,
        lzma.compress(_TEXT, check=crc32),
        lzma.compress(_TEXT, check=none, filters=x86),
        gzip.compress(lzma.compress(_TEXT), mtime=0),
        b"\x89LZO\0\r\n\x1a\n" + _TEXT,
    ]
