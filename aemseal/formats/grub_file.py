# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB's file layer makes of a file: decompressed when it begins so.

GRUB 2.06 runs each file through gzio, then xzio, then lzopio (kern/file.c); each
looks at the first bytes of what comes before it. The rules below are those of
io/gzio.c and io/xzio.c, each held against grub-emu:

- a gzip file whose header has another method than deflate, or a flag of 0xe2
  (continuation, encrypted, reserved), is handed over as it is;
- so is an .xz file with a check other than none, CRC32, CRC64 and SHA-256;
- one pass each: gzip in gzip stays packed, xz in gzip does not.

What GRUB gives for several members, for bytes after the end and for a second packing
depends on the build and on the modules it has, so these are refused, as is what GRUB
fails on.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Protocol

from aemseal.formats.grub_xz import MAGIC as XZ_MAGIC
from aemseal.formats.grub_xz import XzBlocks, is_xz_for_grub
from aemseal.words.errors import BootFileError

GZIP_MAGIC, OLD_GZIP_MAGIC = b"\x1f\x8b", b"\x1f\x9e"
LZOP_MAGIC = b"\x89LZO\x00\r\n\x1a\n"

MAX_PLAIN = 1 << 30
"""Bytes that a file may decompress to."""

_DECIDED = 12
"""First bytes that tell how a file is packed: an .xz stream header."""

_DEFLATE = 8
_UNSUPPORTED_FLAGS = 0xE2
_MAX_MEMORY = 256 << 20
"""For the dictionary of an .xz file; `xz -9` takes 65 MiB."""


class _Decoder(Protocol):
    """One way a file is packed. Both methods raise BootFileError."""

    packing: str | None

    def feed(self, data: bytes) -> bytes:
        """Return what these next bytes of the file add."""

    def finish(self) -> None:
        """Take the end of the file."""


class GrubReader:
    """Feed a file's bytes in order, then `finish`: both return what GRUB hands over.

    `path` is for messages. BootFileError, naming the path, for what GRUB cannot read
    or would not read alike everywhere, and above `limit` bytes of content. Bytes are
    returned as they come; they are good only when `finish` has returned.
    """

    def __init__(self, path: str, limit: int = MAX_PLAIN) -> None:
        self._path = path
        self._room = limit
        self._limit = limit
        self._first = b""
        self._plain_first = b""
        self._decoder: _Decoder | None = None

    def feed(self, data: bytes) -> bytes:
        """Return what these next bytes of the file add to what GRUB hands over.

        A small `data` keeps the answer small: gzip grows by 1032 at most, xz by some
        7,000; `limit` bounds it in any case.
        """
        if self._decoder is None:
            self._first += data
            if len(self._first) < _DECIDED:
                return b""
            data = self._decide()
        assert self._decoder is not None
        return self._checked(self._decoder.feed(data))

    def finish(self) -> bytes:
        """Take the end of the file; return what is left to hand over."""
        left = b""
        if self._decoder is None:
            left = self._decide()
        assert self._decoder is not None
        plain = self._checked(self._decoder.feed(left)) if left else b""
        self._decoder.finish()
        self._look_for_more(at_end=True)
        return plain

    @property
    def packing(self) -> str | None:
        """What the file was packed with, "gzip" or "xz"; None for a plain one."""
        return None if self._decoder is None else self._decoder.packing

    def _decide(self) -> bytes:
        """Choose the decoder by the first bytes; return them for it."""
        first, self._first = self._first, b""
        if first.startswith(LZOP_MAGIC):
            raise self._refused("is an lzop file, which is not supported")
        if _is_gzip_for_grub(first):
            if first.startswith(OLD_GZIP_MAGIC):
                raise self._refused("has the magic of an old gzip")
            self._decoder = _Gzip(self._path, self._limit)
        elif is_xz_for_grub(self._path, first):
            self._decoder = _Xz(self._path, self._limit)
        else:
            self._decoder = _Plain()
        return first

    def _checked(self, plain: bytes) -> bytes:
        self._room -= len(plain)
        if self._room < 0:
            raise BootFileError(
                f"{self._path} decompresses to more than {self._limit} bytes"
            )
        if len(self._plain_first) < _DECIDED:
            self._plain_first += plain[:_DECIDED]
            self._look_for_more(at_end=False)
        return plain

    def _look_for_more(self, *, at_end: bool) -> None:
        """Refuse content that the filters after this one would look into."""
        if isinstance(self._decoder, _Plain):
            return
        first = self._plain_first
        if not at_end and len(first) < _DECIDED:
            return
        is_xz = isinstance(self._decoder, _Gzip) and first.startswith(XZ_MAGIC)
        if is_xz or first.startswith(LZOP_MAGIC):
            raise self._refused("is compressed twice")

    def _refused(self, what: str) -> BootFileError:
        return BootFileError(
            f"{self._path} {what}",
            "GRUB's decompression of it is not known for sure: pack it with gzip",
        )


def _is_gzip_for_grub(first: bytes) -> bool:
    """Whether gzio takes the file for its own (test_gzip_header)."""
    return (
        len(first) >= 10
        and first.startswith((GZIP_MAGIC, OLD_GZIP_MAGIC))
        and first[2] == _DEFLATE
        and not first[3] & _UNSUPPORTED_FLAGS
    )


class _Plain:
    packing: str | None = None

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> None:
        pass


class _Gzip:
    """One gzip member. zlib holds it against its CRC32 and length.

    GRUB takes the length from the file's last four bytes, so what follows the
    member, or another member, changes what it reads.
    """

    packing: str | None = "gzip"

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        if self._zlib.eof and data:
            raise _more(self._path, "gzip")
        try:
            plain = self._zlib.decompress(data, self._limit + 1)
        except zlib.error as error:
            raise _corrupt(self._path, "gzip", str(error)) from None
        if self._zlib.unused_data:
            raise _more(self._path, "gzip")
        return plain

    def finish(self) -> None:
        if not self._zlib.eof:
            raise _corrupt(self._path, "gzip", "it ends too early")


class _Xz:
    """One .xz stream, of blocks that GRUB's xz embedded can read (`XzBlocks`)."""

    packing: str | None = "xz"

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._blocks = XzBlocks(path)
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY)

    def feed(self, data: bytes) -> bytes:
        if self._lzma.eof and data:
            raise _more(self._path, "xz")
        self._blocks.feed(data)
        try:
            plain = self._lzma.decompress(data, self._limit + 1)
        except lzma.LZMAError as error:
            raise _corrupt(self._path, "xz", str(error)) from None
        if self._lzma.unused_data:
            raise _more(self._path, "xz")
        return plain

    def finish(self) -> None:
        if not self._lzma.eof:
            raise _corrupt(self._path, "xz", "it ends too early")
        self._blocks.finish()


def _corrupt(path: str, kind: str, why: str) -> BootFileError:
    return BootFileError(f"{path} is no intact {kind} file: {why[:1].lower()}{why[1:]}")


def _more(path: str, kind: str) -> BootFileError:
    return BootFileError(
        f"{path} has more after the end of its {kind} stream: another stream, or "
        "appended bytes",
        "what GRUB makes of that is not known for sure: pack it as one stream",
    )
