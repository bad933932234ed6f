# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed parts: what the library unpacks, and where the frames of others end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Mapping

import pytest
from cpio_images import packed_by
from hypothesis import given
from hypothesis import strategies as st

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

PACKERS: Mapping[Packing, Callable[[bytes], bytes]] = {
    Packing.GZIP: lambda data: gzip.compress(data, mtime=0),
    Packing.BZIP2: bz2.compress,
    Packing.XZ: lzma.compress,
    Packing.LZMA: lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}
PACKINGS = pytest.mark.parametrize("packing", PACKERS, ids=lambda each: each.name)

PROGRAMS: Mapping[str, tuple[Packing, tuple[str, ...]]] = {
    "zstd": (Packing.ZSTD, ("zstd", "-q")),
    "zstd without a checksum": (Packing.ZSTD, ("zstd", "-q", "--no-check", "-19")),
    "lz4": (Packing.LZ4, ("lz4", "-q")),
    "lz4 with block checksums": (Packing.LZ4, ("lz4", "-q", "-BX", "-B4")),
    "lz4 without a checksum": (Packing.LZ4, ("lz4", "-q", "--no-frame-crc")),
    "lz4 with linked blocks": (Packing.LZ4, ("lz4", "-q", "-BD", "-9")),
    "lz4 (legacy)": (Packing.LZ4_LEGACY, ("lz4", "-q", "-l")),
}
FRAMES = pytest.mark.parametrize(
    ("packing", "words"), PROGRAMS.values(), ids=list(PROGRAMS)
)

RANDOM = random.Random(7).randbytes(300_000)
CONTENTS = {
    "nothing": b"",
    "a word": b"word",
    "zeros": bytes(300_000),
    "random": RANDOM,
}
SOME = pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))


def unpacked(packing: Packing, data: bytes, step: int = 0) -> tuple[bytes, bytes]:
    """Unpack a part; return its content and what is after it."""
    decoder = LibraryDecoder(packing)
    plain: list[bytes] = []
    at = 0
    while decoder.rest is None and at < len(data):
        plain += decoder.feed(data[at : at + (step or len(data))])
        at += step or len(data)
    if decoder.rest is None:
        plain += decoder.finish()
    assert decoder.rest is not None
    assert all(len(each) <= PIECE for each in plain)
    return b"".join(plain), decoder.rest + data[at:]


def test_each_packing_is_unpacked_in_one_way_or_refused() -> None:
    others = {Packing.LZO, Packing.OLD_CPIO}
    assert set(Packing) == IN_LIBRARY | set(BY_PROGRAM) | others
    assert not IN_LIBRARY & set(BY_PROGRAM)


@pytest.mark.parametrize("packing", sorted(set(Packing) - IN_LIBRARY, key=str), ids=str)
def test_what_the_library_does_not_unpack_is_refused_by_name(packing: Packing) -> None:
    with pytest.raises(PackedError, match="nothing here unpacks"):
        LibraryDecoder(packing)


@PACKINGS
@SOME
@pytest.mark.parametrize("step", [0, 4096])
def test_a_part_gives_its_content_and_what_follows_it(
    packing: Packing, content: bytes, step: int
) -> None:
    packed = PACKERS[packing](content)
    assert packing_of(packed) is packing
    plain, rest = unpacked(packing, packed + b"and more", step)
    # not assert ==: pytest would compare megabytes character by character
    assert len(plain) == len(content)
    assert zlib.crc32(plain) == zlib.crc32(content)
    assert rest == b"and more"


@PACKINGS
def test_a_part_that_ends_too_early_is_refused(packing: Packing) -> None:
    packed = PACKERS[packing](RANDOM)
    with pytest.raises(PackedError, match="ends too early"):
        unpacked(packing, packed[:-100])


@PACKINGS
def test_a_damaged_part_is_refused(packing: Packing) -> None:
    packed = bytearray(PACKERS[packing](b"word" * 1000))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(PackedError, match=r"not intact|too early"):
        unpacked(packing, bytes(packed))


def test_a_dictionary_of_4_gib_is_not_allocated() -> None:
    packed = bytearray(PACKERS[Packing.LZMA](b"word"))
    packed[1:5] = b"\xff" * 4
    with pytest.raises(PackedError):
        unpacked(Packing.LZMA, bytes(packed))


@PACKINGS
def test_a_bomb_is_handed_over_in_pieces(packing: Packing) -> None:
    packed = PACKERS[packing](bytes(64 << 20))
    decoder = LibraryDecoder(packing)
    tracemalloc.start()
    size = sum(len(piece) for piece in decoder.feed(packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 24 << 20


def own_bytes(packing: Packing, data: bytes, step: int) -> tuple[bytes, bytes]:
    """Walk a frame; return its bytes and what is after it."""
    walker = FrameWalker(packing)
    own, at = [], 0
    while walker.rest is None and at < len(data):
        own.append(walker.feed(data[at : at + step]))
        at += step
    walker.finish()
    assert walker.rest is not None
    return b"".join(own), walker.rest + data[at:]


@FRAMES
@SOME
@pytest.mark.parametrize("step", [997, 1 << 20])
def test_a_frame_ends_where_its_program_ended_it(
    packing: Packing, words: tuple[str, ...], content: bytes, step: int
) -> None:
    packed = packed_by(*words, data=content)
    assert packing_of(packed) is packing
    for after in (b"", b"\0\0\0", bytes(600), b"070701 and so on", packed[:10]):
        own, rest = own_bytes(packing, packed + after, step)
        assert len(own) == len(packed)
        assert own == packed
        assert rest == after


@FRAMES
def test_a_frame_in_single_bytes(packing: Packing, words: tuple[str, ...]) -> None:
    packed = packed_by(*words, data=b"word" * 9)
    assert own_bytes(packing, packed + b"0707", 1) == (packed, b"0707")


@FRAMES
def test_a_frame_that_ends_too_early_is_refused(
    packing: Packing, words: tuple[str, ...]
) -> None:
    packed = packed_by(*words, data=RANDOM)
    for size in (3, 10, len(packed) - 5):
        with pytest.raises(PackedError, match="ends too early"):
            own_bytes(packing, packed[:size], 9)


def test_a_legacy_frame_has_blocks_up_to_the_end_of_the_file() -> None:
    packed = packed_by("lz4", "-q", "-l", data=RANDOM * 60)  # blocks of 8 MiB
    own, rest = own_bytes(Packing.LZ4_LEGACY, packed + b"\0\0", 1 << 20)
    assert len(own) == len(packed)
    assert rest == b"\0\0"


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
HEADERS = {
    "window": (b"\x00" + b"w", b""),
    "single segment": (b"\x20" + b"s", b""),
    "two bytes of size": (b"\x40" + b"w" + b"ss", b""),
    "four bytes of size": (b"\x80" + b"w" + b"ssss", b""),
    "eight bytes of size": (b"\xc0" + b"w" + b"ssssssss", b""),
    "single segment, two bytes": (b"\x60" + b"ss", b""),
    "dictionary of one byte": (b"\x01" + b"w" + b"d", b""),
    "dictionary of two bytes": (b"\x02" + b"w" + b"dd", b""),
    "dictionary of four bytes": (b"\x03" + b"w" + b"dddd", b""),
    "checksum": (b"\x04" + b"w", b"cccc"),
}


@pytest.mark.parametrize(("head", "tail"), HEADERS.values(), ids=list(HEADERS))
def test_each_form_of_a_zstd_header_is_walked(head: bytes, tail: bytes) -> None:
    """RFC 8878, 3.1.1: a raw block, an RLE block, an empty last one."""
    blocks = (
        _block(0, 5) + b"12345" + _block(1, 70_000) + b"x" + _block(0, 0, last=True)
    )
    frame = ZSTD_MAGIC + head + blocks + tail
    assert own_bytes(Packing.ZSTD, frame + b"after", 3) == (frame, b"after")


def _block(kind: int, size: int, *, last: bool = False) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little")


def test_a_zstd_block_of_a_reserved_kind_is_refused() -> None:
    with pytest.raises(PackedError, match="reserved kind"):
        own_bytes(Packing.ZSTD, ZSTD_MAGIC + b"\x00w" + _block(3, 1), 99)


def test_each_field_of_an_lz4_header_is_walked() -> None:
    flags = 0x40 | 0x10 | 0x08 | 0x04 | 0x01
    frame = b"\x04\x22\x4d\x18" + bytes((flags, 0x40)) + b"contents" + b"dict" + b"h"
    frame += struct.pack("<I", 3) + b"123" + b"bsum"
    frame += struct.pack("<I", 0x80000002) + b"12" + b"bsum"
    frame += struct.pack("<I", 0) + b"csum"
    assert own_bytes(Packing.LZ4, frame + b"after", 4) == (frame, b"after")


@given(st.sampled_from(sorted(BY_PROGRAM, key=str)), st.binary(max_size=300))
def test_any_bytes_end_in_a_frame_or_an_error(packing: Packing, data: bytes) -> None:
    try:
        own, rest = own_bytes(packing, data, 7)
    except PackedError:
        return
    assert own + rest == data


@given(st.sampled_from(sorted(IN_LIBRARY, key=str)), st.binary(max_size=300))
def test_any_bytes_end_in_content_or_an_error(packing: Packing, data: bytes) -> None:
    magic = PACKERS[packing](b"")[:6]
    with pytest.raises(PackedError):
        unpacked(packing, magic + data + b"\xff" * 20)
