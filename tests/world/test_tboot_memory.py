# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's log in memory, plain and packed, of old tboots and of damaged memory."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from host_memory import TBOOT_BUFFER, TBOOT_UUID, memory_log, pack
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.words.errors import FormatError, LogError
from aemseal.world.tboot_memory import memory_log_text

TEXT = b"TBOOT: command line: logging=memory\nTBOOT: Event:\n\tPCRIndex: 17\n"


def with_head(data: bytes, **fields: int) -> bytes:
    """Change fields of the header: used, start, size (of the first part), count."""
    places = {"max_size": 16, "used": 18, "start": 20, "size": 40}
    changed = bytearray(data)
    for name, value in fields.items():
        if name == "count":
            changed[60] = value
        else:
            struct.pack_into("<H", changed, places[name], value)
    return bytes(changed)


class TestText:
    def test_it_is_what_tboot_printed(self) -> None:
        assert memory_log_text(memory_log(TEXT)) == TEXT

    @pytest.mark.parametrize("marker", [0, 7, ord("T"), 255])
    def test_packed_parts_come_before_the_rest(self, marker: int) -> None:
        older, newer = TEXT * 20, b"TBOOT: VL measurements:\n" * 3
        data = memory_log(TEXT, [pack(older, marker), pack(newer, marker)])
        assert memory_log_text(data) == older + newer + TEXT

    def test_all_of_it_may_be_packed(self) -> None:
        assert memory_log_text(memory_log(b"", [pack(TEXT, 1)])) == TEXT

    @settings(max_examples=150, deadline=None)
    @given(
        parts=st.lists(
            st.text("ab\n", max_size=60).map(str.encode), min_size=1, max_size=10
        ),
        marker=st.sampled_from([0, 1, ord("a")]),
    )
    def test_any_text_in_any_parts(self, parts: list[bytes], marker: int) -> None:
        packed = [pack(each, marker) for each in parts]
        assert memory_log_text(memory_log(TEXT, packed)) == b"".join(parts) + TEXT

    @pytest.mark.parametrize(("max_size", "begin"), [(32744, 24), (32740, 28)])
    def test_that_of_an_old_tboot_has_no_parts(self, max_size: int, begin: int) -> None:
        head = struct.pack("<16sII", TBOOT_UUID, max_size, len(TEXT))
        data = (head.ljust(begin, b"\x11") + TEXT).ljust(0x8000, b"\0")
        assert memory_log_text(data) == TEXT

    def test_a_full_log_is_read_to_its_end(self) -> None:
        text = b"x" * (TBOOT_BUFFER - 1)
        assert memory_log_text(memory_log(text)) == text


class TestNoLog:
    @pytest.mark.parametrize(
        "data",
        [bytes(0x8000), b"\xff" * 0x8000, memory_log(TEXT)[:-1], b""],
        ids=["zeros", "all FF", "cut off", "nothing"],
    )
    def test_memory_without_one_says_how_to_get_one(self, data: bytes) -> None:
        with pytest.raises(LogError, match="no log of tboot's is at 0x60000") as told:
            memory_log_text(data)
        assert "logging=memory" in (told.value.hint or "")

    @pytest.mark.parametrize("text", [b"", b"\0\0", b" \n"])
    def test_one_that_was_reset_is_empty(self, text: bytes) -> None:
        with pytest.raises(LogError, match="is empty"):
            memory_log_text(memory_log(text))

    def test_a_layout_that_is_not_known_is_refused_by_name(self) -> None:
        data = with_head(memory_log(TEXT), max_size=0x7FC0)
        with pytest.raises(LogError, match=r"a way that is not known \(max_size 32704"):
            memory_log_text(data)


class TestDamage:
    @pytest.mark.parametrize(
        "fields",
        [
            {"used": 0x7FC4},
            {"used": 3},
            {"start": 9},
            {"size": 0xFFFF},
            {"count": 11},
            {"count": 255},
            {"size": 0},
        ],
    )
    def test_positions_that_make_no_sense_are_refused(
        self, fields: dict[str, int]
    ) -> None:
        data = memory_log(b"", [pack(TEXT, 1)])
        with pytest.raises(FormatError, match="at offset"):
            memory_log_text(with_head(data, **fields))

    def test_more_parts_than_the_header_has_room_for_are_refused(self) -> None:
        data = with_head(memory_log(TEXT), count=11)
        with pytest.raises(FormatError, match="has 11 packed parts at offset 60"):
            memory_log_text(data)

    @pytest.mark.parametrize(
        ("packed", "words"),
        [
            (b"\x01\x01", "cut off"),
            (b"\x01abc\x01\x05", "cut off"),
            (b"\x01abc\x01\x85\x85", "cut off"),
            (b"\x01abc\x01\x83\x83\x83\x83\x03\x01", "cut off"),
            (b"\x01abc\x01\x05\x00", "is bad"),
            (b"\x01abc\x01\x05\x04", "is bad"),
            (b"\x01abc\x01\x82\x80\x00\x01", "is bad"),
        ],
    )
    def test_packed_parts_that_make_no_sense_are_refused(
        self, packed: bytes, words: str
    ) -> None:
        with pytest.raises(FormatError, match=words):
            memory_log_text(memory_log(TEXT, [packed]))

    @settings(max_examples=300, deadline=None)
    @given(
        st.binary(max_size=120),
        st.lists(st.integers(0, 0xFFFF), min_size=21, max_size=21),
        st.integers(0, 12),
    )
    def test_any_bytes_give_text_or_a_documented_error(
        self, buffer: bytes, fields: list[int], count: int
    ) -> None:
        head = struct.pack("<16sH21HB", TBOOT_UUID, TBOOT_BUFFER, *fields, count)
        data = (head + buffer).ljust(0x8000, b"\x01")
        with suppress(FormatError, LogError):
            assert len(memory_log_text(data)) <= 11 * 0x8000
