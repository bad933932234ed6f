# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of several parts, and what is said of one that cannot be read."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterator

import pytest
from cpio_images import MICROCODE, archive, early_microcode, member
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.compression import LibraryDecoder, PackedError, Packing
from aemseal.formats.initramfs import MICROCODE_FOLDER, InitramfsReader
from aemseal.words.errors import EvidenceError, FormatError

MAIN = archive(member("init", b"#!/bin/sh\n"), member("etc/x", b"x" * 5000))
OVER = archive(member("init", b"#!/bin/evil\n"))


def paths(data: bytes, step: int = 0, limit: int = 1 << 20) -> list[str]:
    reader = InitramfsReader(LibraryDecoder, limit)
    for at in range(0, len(data), step or len(data) or 1):
        reader.feed(data[at : at + (step or len(data))])
    return [each.path for each in reader.finish()]


def outcome(data: bytes, step: int) -> list[str] | str:
    """Return the paths, or the error's message, however the image comes."""
    try:
        return paths(data, step)
    except EvidenceError as error:
        return error.message


def refusal(data: bytes, limit: int = 1 << 20) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        paths(data, limit=limit)
    return caught.value


MICROCODE_PATHS = ["kernel", "kernel/x86", "kernel/x86/microcode", "early_cpio"]
MICROCODE_PATHS += [MICROCODE]
MAIN_PATHS = ["init", "etc/x"]

IMAGES = {
    "plain": (MAIN, MAIN_PATHS),
    "packed": (gzip.compress(MAIN), MAIN_PATHS),
    "microcode and plain": (early_microcode() + MAIN, MICROCODE_PATHS + MAIN_PATHS),
    "microcode and packed": (
        early_microcode() + bytes(1536) + lzma.compress(MAIN),
        MICROCODE_PATHS + MAIN_PATHS,
    ),
    "packed parts, zeros between and after": (
        gzip.compress(MAIN) + bytes(7) + lzma.compress(OVER) + bytes(9),
        [*MAIN_PATHS, "init"],
    ),
    "packed parts without a byte between": (
        gzip.compress(MAIN) + gzip.compress(OVER),
        [*MAIN_PATHS, "init"],
    ),
    "an archive over two parts": (
        gzip.compress(MAIN[:333]) + lzma.compress(MAIN[333:]),
        MAIN_PATHS,
    ),
    "several archives in a part": (lzma.compress(MAIN + OVER), [*MAIN_PATHS, "init"]),
}


@pytest.mark.parametrize(("image", "expected"), IMAGES.values(), ids=list(IMAGES))
@pytest.mark.parametrize("step", [0, 1, 100])
def test_the_files_of_all_parts_are_listed(
    image: bytes, expected: list[str], step: int
) -> None:
    assert paths(image, step) == expected


def test_an_archive_appended_by_an_evil_maid_is_listed() -> None:
    packed = early_microcode() + lzma.compress(MAIN)
    padded = packed + bytes(-len(packed) % 4)
    assert paths(padded + OVER)[-1] == "init"


def test_microcode_is_known_by_its_folder() -> None:
    assert MICROCODE.startswith(MICROCODE_FOLDER)


BAD = {
    "nothing": (b"", "there is no file in it at offset 0"),
    "zeros": (bytes(600), "there is no file in it at offset 600"),
    "an archive of nothing": (archive(), "there is no file in it at offset 512"),
    "something else": (
        b"MZ" + bytes(600),
        "there is no magic that is known at offset 0",
    ),
    "something short": (MAIN + b"x", f"no magic that is known at offset {len(MAIN)}"),
    "something else after it": (
        early_microcode() + b"\x7fELF..",
        "there is no magic that is known at offset 1024",
    ),
    "a binary archive": (b"\xc7\x71" + bytes(99), "the old binary form, which no ke"),
    "a part cut off": (
        gzip.compress(MAIN)[:-50],
        "the gzip part at offset 0: it ends too early",
    ),
    "a part that is no archive": (
        gzip.compress(b"word" * 99),
        "in the gzip part at offset 0, unpacked: there is no cpio magic at offset 0",
    ),
    "a part packed twice": (
        gzip.compress(gzip.compress(MAIN)),
        "in the gzip part at offset 0, unpacked: there is no cpio magic at offset 0",
    ),
    "an archive that ends in no part": (
        gzip.compress(MAIN[:333]),
        "in the gzip part at offset 0, unpacked: the archive ends too early at off",
    ),
    "an archive cut by another": (
        gzip.compress(MAIN[:333]) + MAIN,
        "the cpio archive does not end in the gzip part at offset 0, and something",
    ),
}


@pytest.mark.parametrize(("image", "words"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_read_is_refused_with_its_part(image: bytes, words: str) -> None:
    assert words in refusal(image).message


def test_no_more_is_unpacked_than_the_limit() -> None:
    packed = gzip.compress(MAIN)
    assert paths(packed, limit=len(packed) + len(MAIN)) == MAIN_PATHS
    error = refusal(packed, limit=len(packed) + len(MAIN) - 1)
    assert isinstance(error, FormatError)
    assert "more than" in error.message
    assert "more than" in refusal(MAIN, limit=len(MAIN) - 1).message


class _Late:
    """Unpacks nothing before the end of the file, as a program may."""

    def __init__(self, packing: Packing) -> None:
        self.rest: bytes | None = None
        self._decoder = LibraryDecoder(packing)
        self._data = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._data += data
        return iter(())

    def finish(self) -> Iterator[bytes]:
        yield from self._decoder.feed(self._data)
        self.rest = self._decoder.rest


def test_a_part_may_find_out_at_the_end_what_is_not_its_own() -> None:
    """lz4's legacy frames have no end mark: what is held back is read once more."""
    reader = InitramfsReader(_Late)
    reader.feed(gzip.compress(MAIN) + b"\0\0")
    assert [each.path for each in reader.finish()] == MAIN_PATHS
    reader = InitramfsReader(_Late)
    reader.feed(gzip.compress(MAIN) + b"x")
    with pytest.raises(FormatError, match="no magic that is known"):
        reader.finish()


def test_what_unpacks_a_part_may_say_that_it_cannot() -> None:
    def refuse(packing: Packing) -> LibraryDecoder:
        raise PackedError(f"there is no {packing.value} program", "install it")

    reader = InitramfsReader(refuse)
    with pytest.raises(PackedError) as caught:
        reader.feed(early_microcode() + b"\x28\xb5\x2f\xfd" + bytes(9))
    assert caught.value.message == (
        "the zstd part at offset 1024: there is no zstd program"
    )
    assert caught.value.hint == "install it"


@given(
    st.lists(
        st.one_of(
            st.sampled_from([MAIN, OVER, bytes(4), gzip.compress(MAIN), MAIN[:333]]),
            st.binary(max_size=40),
        ),
        max_size=4,
    ),
    st.integers(1, 2000),
)
def test_any_parts_end_in_a_list_or_an_error_of_ours(
    parts: list[bytes], step: int
) -> None:
    image = b"".join(parts)
    assert outcome(image, step) == outcome(image, 0)
