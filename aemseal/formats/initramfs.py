# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs: plain and compressed cpio archives one after the other.

dracut puts the CPU's microcode first, plain, where Linux and Xen find it; then comes
what is unpacked, compressed as a rule. Whoever appends one more archive overrides files
of those before, so everything up to the last byte is read.
Source: Linux buffer-format.rst, unpack_to_rootfs in init/initramfs.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aemseal.formats.compression import (
    MAGIC_SIZE,
    Decoder,
    PackedError,
    Packing,
    packing_of,
)
from aemseal.formats.cpio import CpioReader, FileCollector
from aemseal.formats.file_list import ListedFile
from aemseal.words.errors import FormatError

MOST_UNPACKED = 2 << 30

MICROCODE_FOLDER = "kernel/x86/microcode/"
"""Where Linux and Xen look for microcode (Linux arch/x86/microcode.rst)."""

OpenDecoder = Callable[[Packing], Decoder]
"""Opens what unpacks a part; PackedError where nothing does."""


class InitramfsReader:
    """Feed an image, then `finish`, which returns its files in order.

    FormatError, saying in which part, for what is no initramfs, is damaged or exceeds a
    limit; PackedError for a part that cannot be unpacked here. `limit` is on the bytes
    of the image and on those that its parts unpack to, together.
    """

    def __init__(self, open_decoder: OpenDecoder, limit: int = MOST_UNPACKED) -> None:
        self._open_decoder = open_decoder
        self._limit = self._room = limit
        self._collector = FileCollector()
        self._image = CpioReader(self._collector)
        self._first = b""
        self._decoder: Decoder | None = None
        self._part = ""
        self._unpacked: CpioReader | None = None

    def feed(self, data: bytes) -> None:
        """Take the image's next bytes."""
        self._use_room(len(data))
        while data:
            data = self._unpack(data) if self._decoder else self._read_plain(data)

    def finish(self) -> tuple[ListedFile, ...]:
        """Take the end of the image; return its files in the order of unpacking."""
        if self._decoder is not None:
            with self._in_part():
                self._take_unpacked(self._decoder.finish())
            left = self._end_part(b"")
            while left:
                left = self._read_plain(left)
        if self._first:
            raise self._unknown()
        self._image.finish()
        if self._unpacked is not None:
            with self._in_part():
                self._unpacked.finish()
        if not self._collector.files:
            raise FormatError("there is no file in it", self._image.offset)
        return tuple(self._collector.files)

    def _read_plain(self, data: bytes) -> bytes:
        """Take plain archives; return what follows them once it can be told."""
        data, self._first = self._first + data, b""
        is_cut = self._unpacked is not None
        rest = data if is_cut else self._image.feed(data)
        if 0 < len(rest) < MAGIC_SIZE:
            self._first, rest = rest, b""
        if rest:
            self._begin_part(rest)
        return rest

    def _begin_part(self, data: bytes) -> None:
        packing = packing_of(data)
        if packing is None:
            raise self._unknown()
        if packing is Packing.OLD_CPIO:
            raise FormatError(
                "a cpio archive of the old binary form, which no kernel unpacks,",
                self._image.offset,
                "pack it with cpio --format=newc",
            )
        self._part = f"the {packing.value} part at offset {self._image.offset}"
        with self._in_part():
            self._decoder = self._open_decoder(packing)
        if self._unpacked is None:
            self._unpacked = CpioReader(self._collector)

    def _unpack(self, data: bytes) -> bytes:
        """Unpack a part; return what follows it."""
        assert self._decoder is not None
        with self._in_part():
            self._take_unpacked(self._decoder.feed(data))
        return self._end_part(data)

    def _end_part(self, data: bytes) -> bytes:
        """Return what the part, which was fed `data`, leaves; close it if it ended.

        An archive may go on in the next part, as in a file of several gzip members.
        """
        assert self._decoder is not None
        assert self._unpacked is not None
        rest = self._decoder.rest
        self._image.skip(len(data) - len(rest or b""))
        if rest is None:
            return b""
        self._decoder = None
        if self._unpacked.is_between:
            self._unpacked = None
        return rest

    def _take_unpacked(self, pieces: Iterator[bytes]) -> None:
        assert self._unpacked is not None
        for piece in pieces:
            self._use_room(len(piece))
            if self._unpacked.feed(piece):
                raise FormatError("there is no cpio magic", self._unpacked.offset)

    def _use_room(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise FormatError(
                f"the image has more than {self._limit} bytes, unpacked",
                self._image.offset,
            )

    def _unknown(self) -> FormatError:
        if self._unpacked is not None:
            what = f"the cpio archive does not end in {self._part}"
            return FormatError(
                f"{what}, and something else follows", self._image.offset
            )
        return FormatError("there is no magic that is known", self._image.offset)

    @contextmanager
    def _in_part(self) -> Iterator[None]:
        """Name the part in its errors; their offsets are those of what is unpacked."""
        try:
            yield
        except PackedError as error:
            raise PackedError(f"{self._part}: {error.message}", error.hint) from None
        except FormatError as error:
            what = f"in {self._part}, unpacked: {error.what}"
            raise FormatError(what, error.offset, error.hint) from None
