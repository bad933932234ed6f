# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB hands over of a file: decompressed by magic, or refused by name.

test_grub_against_grub_emu.py holds the same rules against GRUB.
"""

import gzip
import lzma
import random
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.grub_file import GrubReader
from aemseal.words.errors import BootFileError

CONTENT = random.Random(1).randbytes(3000) + bytes(40_000) + b"text " * 100
CHUNKS = st.lists(st.integers(1, 3000), min_size=1, max_size=8)


def read(data: bytes, chunks: list[int] | None = None, limit: int = 1 << 20) -> bytes:
    """Feed data in chunks of these sizes, the last one repeated."""
    reader = GrubReader("/boot/file", limit)
    sizes = list(chunks or [len(data) + 1])
    plain = b""
    while data:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        plain += reader.feed(data[:size])
        data = data[size:]
    return plain + reader.finish()


def refusal(data: bytes, chunks: list[int] | None = None) -> str:
    with pytest.raises(BootFileError) as caught:
        read(data, chunks)
    return caught.value.message


def gzip_with(flags: int, fields: bytes = b"", method: int = 8) -> bytes:
    header = b"\x1f\x8b" + bytes([method, flags]) + bytes(6)
    return header + fields + gzip.compress(CONTENT)[10:]


def xz_with(*filters: dict[str, int], check: int = lzma.CHECK_CRC64) -> bytes:
    return lzma.compress(CONTENT, check=check, filters=list(filters))


LZMA2 = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}


def blocks(*contents: bytes, with_sizes: bool) -> bytes:
    """Make an .xz file of several blocks without a check (.xz format 1.0.4)."""
    packed = {
        content: lzma.compress(content, lzma.FORMAT_RAW, filters=[LZMA2])
        for content in set(contents)
    }
    stream = lzma.compress(b"", check=lzma.CHECK_NONE)[:12]
    records = b""
    for content in contents:
        raw = packed[content]
        sizes = vli(len(raw)) + vli(len(content)) if with_sizes else b""
        fields = bytes([0xC0 if with_sizes else 0]) + sizes + b"\x21\x01\x08"
        fields += bytes(-(len(fields) + 1) % 4)
        header = bytes([(len(fields) + 5) // 4 - 1]) + fields
        header += crc32(header)
        stream += header + raw + bytes(-len(raw) % 4)
        records += vli(len(header) + len(raw)) + vli(len(content))
    index = b"\0" + vli(len(contents)) + records
    index += bytes(-len(index) % 4)
    footer = ((len(index) + 4) // 4 - 1).to_bytes(4, "little") + b"\0\0"
    return stream + index + crc32(index) + crc32(footer) + footer + b"YZ"


def crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def vli(number: int) -> bytes:
    coded = b""
    while number > 0x7F:
        coded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return coded + bytes([number])


class TestGzip:
    @given(CHUNKS)
    def test_is_decompressed(self, chunks: list[int]) -> None:
        assert read(gzip.compress(CONTENT), chunks) == CONTENT

    @pytest.mark.parametrize(
        "data",
        [
            gzip_with(0x08, b"name\0"),
            gzip_with(0x10, b"comment\0"),
            gzip_with(0x04, b"\3\0abc"),
            gzip_with(0x1D - 0x01, b"\1\0ename\0comment\0"),
            gzip_with(0x01),
            gzip.compress(CONTENT, 0, mtime=0),
        ],
    )
    def test_with_the_fields_that_grub_knows(self, data: bytes) -> None:
        assert read(data) == CONTENT

    @pytest.mark.parametrize(
        "data",
        [
            gzip_with(0x02, b"\0\0"),
            gzip_with(0x20),
            gzip_with(0x40),
            gzip_with(0x80),
            gzip_with(0, method=7),
            gzip.compress(CONTENT, mtime=0)[:9],
        ],
    )
    def test_that_grub_does_not_take_for_one_stays(self, data: bytes) -> None:
        assert read(data) == data

    def test_in_gzip_is_unpacked_once(self) -> None:
        inner = gzip.compress(CONTENT)
        assert read(gzip.compress(inner)) == inner

    def test_of_nothing_is_nothing(self) -> None:
        assert read(gzip.compress(b"")) == b""

    @pytest.mark.parametrize("chunks", [None, [1], [20], [1 << 20]])
    @pytest.mark.parametrize(
        "more", [gzip.compress(b"b"), bytes(512), b"x"], ids=["member", "zeros", "byte"]
    )
    def test_with_more_after_it_is_refused(
        self, more: bytes, chunks: list[int] | None
    ) -> None:
        assert refusal(gzip.compress(b"a") + more, chunks) == (
            "/boot/file has more after the end of its gzip stream: another stream, or "
            "appended bytes"
        )

    def test_that_is_damaged_is_refused(self) -> None:
        whole = gzip.compress(CONTENT)
        assert refusal(whole[:-20]) == (
            "/boot/file is no intact gzip file: it ends too early"
        )
        wrong = whole[:-8] + bytes(4) + whole[-4:]
        assert "no intact gzip file: error -3" in refusal(wrong)

    def test_with_the_old_magic_is_refused(self) -> None:
        old = b"\x1f\x9e" + gzip.compress(CONTENT)[2:]
        assert refusal(old) == "/boot/file has the magic of an old gzip"


class TestXz:
    @given(CHUNKS)
    def test_is_decompressed(self, chunks: list[int]) -> None:
        assert read(lzma.compress(CONTENT), chunks) == CONTENT

    @pytest.mark.parametrize(
        "check",
        [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256],
    )
    def test_with_every_check_that_grub_knows(self, check: int) -> None:
        assert read(xz_with(LZMA2, check=check)) == CONTENT

    def test_for_x86(self) -> None:
        assert read(xz_with({"id": lzma.FILTER_X86}, LZMA2)) == CONTENT

    def test_of_nothing_is_nothing(self) -> None:
        assert read(lzma.compress(b"")) == b""

    @given(CHUNKS)
    def test_of_several_blocks(self, chunks: list[int]) -> None:
        data = blocks(CONTENT, b"", b"abc", CONTENT, with_sizes=True)
        assert read(data, chunks) == CONTENT + b"abc" + CONTENT

    def test_of_several_blocks_without_sizes_is_refused(self) -> None:
        assert read(blocks(CONTENT, with_sizes=False)) == CONTENT
        data = blocks(CONTENT, CONTENT, with_sizes=False)
        assert "it has several blocks that do not say their size" in refusal(data)

    def test_of_very_many_blocks_is_refused(self) -> None:
        data = blocks(*[b"a"] * 35_000, with_sizes=True)
        assert "it has too many blocks to be looked through" in refusal(data)

    @pytest.mark.parametrize(
        ("filters", "why"),
        [
            ([{"id": lzma.FILTER_ARM}, LZMA2], "a filter other than x86 and LZMA2"),
            ([{"id": lzma.FILTER_DELTA}, LZMA2], "a filter other than x86 and LZMA2"),
            (
                [{"id": lzma.FILTER_X86, "start_offset": 16}, LZMA2],
                "a filter other than x86 and LZMA2",
            ),
            (
                [{"id": lzma.FILTER_DELTA}, {"id": lzma.FILTER_X86}, LZMA2],
                "more than two filters",
            ),
        ],
    )
    def test_with_other_filters_is_refused(
        self, filters: list[dict[str, int]], why: str
    ) -> None:
        message = refusal(xz_with(*filters))
        assert (
            message
            == f"/boot/file is an xz file that not every GRUB can read: it has {why}"
        )

    def test_with_a_foreign_filter_or_dictionary_is_refused(self) -> None:
        data = bytearray(blocks(CONTENT, with_sizes=False))
        assert data[14:17] == b"\x21\x01\x08"
        data[14] = 0x22
        assert "a filter other than x86 and LZMA2" in refusal(bytes(data))
        data[14:17] = b"\x21\x01\x28"
        assert "its dictionary is too large" in refusal(bytes(data))

    def test_that_grub_does_not_take_for_one_stays(self) -> None:
        data = bytearray(lzma.compress(CONTENT))
        data[7] = 2
        data[8:12] = crc32(bytes(data[6:8]))
        assert read(bytes(data)) == bytes(data)
        assert read(bytes(data[:11])) == bytes(data[:11])

    def test_that_is_damaged_is_refused(self) -> None:
        whole = lzma.compress(CONTENT)
        assert refusal(whole[:-20]) == (
            "/boot/file is no intact xz file: it ends too early"
        )
        changed = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
        assert refusal(changed).startswith("/boot/file is no intact xz file: ")
        header = whole[:8] + bytes(4) + whole[12:]
        assert "its header's check is wrong" in refusal(header)

    @pytest.mark.parametrize("chunks", [None, [1], [20]])
    @pytest.mark.parametrize("more", [lzma.compress(b"b"), bytes(4), b"x"])
    def test_with_more_after_it_is_refused(
        self, more: bytes, chunks: list[int] | None
    ) -> None:
        message = refusal(lzma.compress(b"a") + more, chunks)
        assert "has more after the end of its xz stream" in message

    def test_gzip_in_it_stays(self) -> None:
        inner = gzip.compress(CONTENT)
        assert read(lzma.compress(inner)) == inner


class TestOtherFiles:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"M",
            b"\x1f",
            b"\xfd7zXZ",
            CONTENT,
            b"070701" + bytes(506) + gzip.compress(CONTENT, mtime=0),
            b"\x28\xb5\x2f\xfd" + CONTENT,
        ],
    )
    def test_are_handed_over_as_they_are(self, data: bytes) -> None:
        assert read(data) == data
        assert read(data, [1]) == data

    def test_lzop_is_refused(self) -> None:
        lzop = b"\x89LZO\x00\r\n\x1a\n" + CONTENT
        assert refusal(lzop) == "/boot/file is an lzop file, which is not supported"

    @pytest.mark.parametrize("chunks", [None, [1]])
    def test_double_packing_is_refused(self, chunks: list[int] | None) -> None:
        lzop = b"\x89LZO\x00\r\n\x1a\n"
        for data in (
            gzip.compress(lzma.compress(b"a"), mtime=0),
            gzip.compress(lzop, mtime=0),
            lzma.compress(lzop + bytes(20)),
        ):
            assert refusal(data, chunks) == "/boot/file is compressed twice"
        inner = lzma.compress(b"a")
        assert read(lzma.compress(inner)) == inner

    @pytest.mark.parametrize("packed", [bytes, gzip.compress, lzma.compress])
    def test_content_is_limited(self, packed: type[bytes]) -> None:
        content = bytes(200_000)
        assert read(packed(content), limit=200_000) == content
        with pytest.raises(BootFileError, match="to more than 199999 bytes"):
            read(packed(content), limit=199_999)

    def test_a_bomb_is_refused_before_it_is_unpacked(self) -> None:
        bomb = gzip.compress(bytes(50 << 20))
        reader = GrubReader("/boot/file", 1 << 20)
        with pytest.raises(BootFileError, match="more than 1048576 bytes"):
            reader.feed(bomb)

    @given(
        st.sampled_from([b"", b"\x1f\x8b\x08\0", lzma.compress(b"a")[:12]]),
        st.binary(max_size=200),
        CHUNKS,
    )
    def test_any_bytes_are_read_or_refused(
        self, start: bytes, rest: bytes, chunks: list[int]
    ) -> None:
        with suppress(BootFileError):
            read(start + rest, chunks)

    @given(st.integers(0, 400), st.integers(0, 255))
    def test_a_changed_byte_is_seen_or_does_not_matter(self, at: int, to: int) -> None:
        data = bytearray(blocks(b"abc" * 50, b"d" * 50, with_sizes=True))
        data[at % len(data)] = to
        with suppress(BootFileError):
            read(bytes(data))
