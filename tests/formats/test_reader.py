# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounds-checked reader."""

from __future__ import annotations

import pytest

from aemseal.formats.reader import ByteReader
from aemseal.words.errors import FormatError


def test_numbers_are_little_endian_and_follow_each_other() -> None:
    reader = ByteReader(bytes(range(1, 16)))
    assert reader.u8("a") == 0x01
    assert reader.u16("b") == 0x0302
    assert reader.u32("c") == 0x07060504
    assert reader.u64("d") == 0x0F0E0D0C0B0A0908
    assert reader.remaining == 0


def test_a_window_ends_where_it_says() -> None:
    reader = ByteReader(b"abcdef", 1, 3)
    assert reader.take(2, "two") == b"bc"
    with pytest.raises(FormatError, match="three needs 1 bytes and 0 are left") as info:
        reader.take(1, "three")
    assert info.value.offset == 3


def test_a_claim_beyond_the_end_takes_nothing() -> None:
    reader = ByteReader(b"abc")
    with pytest.raises(FormatError, match="at offset 0"):
        reader.take(0xFFFFFFFF, "data")
    assert reader.take(3, "data") == b"abc"


@pytest.mark.parametrize(("offset", "end"), [(-1, None), (2, 1), (0, 4), (4, None)])
def test_a_window_lies_within_the_data(offset: int, end: int | None) -> None:
    with pytest.raises(ValueError, match="not within 3 bytes"):
        ByteReader(b"abc", offset, end)
