# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: archives and compressed files."""

from __future__ import annotations

from itertools import pairwise

from aemseal.formats.compression import (
    BY_PROGRAM,
    IN_LIBRARY,
    PIECE,
    FrameWalker,
    LibraryDecoder,
    PackedError,
    Packing,
    packing_of,
)
from aemseal.formats.cpio import CpioReader, FileCollector
from aemseal.formats.grub_file import GrubReader
from aemseal.formats.grub_xz import XzBlocks, is_xz_for_grub
from aemseal.formats.initramfs import InitramfsReader
from aemseal.words.errors import BootFileError, FormatError
from fuzz import packing_seeds
from fuzz.contract import KIB, MIB, Target

_UNPACKED_LIMIT = 16 * MIB
"""What inputs may unpack to here: the limit of the readers is for real images."""

_DICTIONARY = 272 * MIB
"""The largest dictionary that an .xz file is given, and what is unpacked at once."""


def _pieces(data: bytes) -> list[bytes]:
    """Cut an input into three parts, where its size says."""
    cuts = (0, len(data) // 3, len(data) * 5 // 7, len(data))
    return [data[start:end] for start, end in pairwise(cuts)]


def _cpio(data: bytes) -> None:
    whole, cut = FileCollector(), FileCollector()
    reader = CpioReader(whole)
    rest = reader.feed(data)
    if rest:
        assert reader.is_between
        assert data.endswith(rest)
        return
    reader.finish()
    in_pieces = CpioReader(cut)
    for piece in _pieces(data):
        assert in_pieces.feed(piece) == b""
    in_pieces.finish()
    assert whole.files == cut.files
    assert reader.offset == in_pieces.offset == len(data)


def _decoder(packing: Packing) -> LibraryDecoder:
    if packing not in IN_LIBRARY:
        raise PackedError("it takes a program")
    return LibraryDecoder(packing)


def _initramfs(data: bytes) -> None:
    whole = InitramfsReader(_decoder, _UNPACKED_LIMIT)
    whole.feed(data)
    files = whole.finish()
    assert files
    in_pieces = InitramfsReader(_decoder, _UNPACKED_LIMIT)
    for piece in _pieces(data):
        in_pieces.feed(piece)
    assert in_pieces.finish() == files


def _compression(data: bytes) -> None:
    """Unpack what the library unpacks; walk the frames of what programs do."""
    packing = packing_of(data)
    if packing is None:
        return
    if packing in BY_PROGRAM:
        _walk(packing, data)
    elif packing in IN_LIBRARY:
        _unpack(packing, data)


def _unpack(packing: Packing, data: bytes) -> None:
    decoder, size = LibraryDecoder(packing), 0
    for piece in decoder.feed(data):
        assert len(piece) <= PIECE
        size += len(piece)
        if size > _UNPACKED_LIMIT:
            return
    if decoder.rest is None:
        list(decoder.finish())
    assert decoder.rest is None or data.endswith(decoder.rest)


def _walk(packing: Packing, data: bytes) -> None:
    whole, cut = FrameWalker(packing), FrameWalker(packing)
    own = whole.feed(data)
    whole.finish()
    parts = b"".join(cut.feed(piece) for piece in _pieces(data) if cut.rest is None)
    cut.finish()
    assert own + (whole.rest or b"") == data
    assert parts == own


def _grub_file(data: bytes) -> None:
    whole, cut = (GrubReader("/xen.gz", _UNPACKED_LIMIT) for _ in range(2))
    plain = whole.feed(data) + whole.finish()
    in_pieces = b"".join(map(cut.feed, _pieces(data))) + cut.finish()
    assert plain == in_pieces
    assert whole.packing == cut.packing
    assert whole.packing is not None or plain == data


def _grub_xz(data: bytes) -> None:
    """Look through blocks as they go by, whatever an xz library says of them."""
    if not is_xz_for_grub("/xen.gz", data):
        return
    blocks = XzBlocks("/xen.gz")
    first = max(12, len(data) // 2)
    blocks.feed(data[:first])
    blocks.feed(data[first:])
    blocks.finish()


TARGETS = (
    Target("cpio", _cpio, (FormatError,), packing_seeds.archives, factor=256),
    Target(
        "initramfs",
        _initramfs,
        (FormatError, PackedError),
        packing_seeds.images,
        base=_DICTIONARY,
        seconds=4,
        names_place=False,
    ),
    Target(
        "compression",
        _compression,
        (PackedError,),
        packing_seeds.parts,
        base=_DICTIONARY,
        seconds=4,
    ),
    Target(
        "grub_file",
        _grub_file,
        (BootFileError,),
        packing_seeds.grub_files,
        base=_DICTIONARY + 4 * _UNPACKED_LIMIT,
        seconds=4,
    ),
    Target(
        "grub_xz", _grub_xz, (BootFileError,), packing_seeds.grub_files, most=16 * KIB
    ),
)
