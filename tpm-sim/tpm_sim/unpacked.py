# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in a packed boot file, as GRUB unpacks it by its first bytes."""

from __future__ import annotations

import gzip
import lzma

_GZIP_NOT_GRUBS = 0xE2
"""Flags with which GRUB hands a gzip file over as it is (grub-core/io/gzio.c)."""


def unpacked(content: bytes) -> bytes:
    """Return what is in a gzip or xz file, and any other content as it is.

    What is no intact archive is returned as it is: either GRUB does the same, or it
    fails on it when it hashes. What GRUB cannot unpack, or only with a filter that
    no grub.cfg here loads (zstd, lzop), is left packed, too.
    """
    try:
        if content.startswith(b"\x1f\x8b\x08") and not content[3] & _GZIP_NOT_GRUBS:
            return gzip.decompress(content)
        if content.startswith(b"\xfd7zXZ\0"):
            return lzma.decompress(content)
    except (OSError, EOFError, IndexError, lzma.LZMAError):
        return content
    return content
