# SPDX-License-Identifier: GPL-2.0-or-later
"""skl.bin: what SKINIT measures of it, and what Xen measures of its table's entry."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.skl import SKL_LIMIT, SecureKernelLoader
from aemseal.formats.slrt import amd_info
from aemseal.words.errors import FormatError

UUID = bytes.fromhex("78f1268e049211e9832ac85b76c4cc02")
INFO = 0x100


def skl(
    layout: int = 4,
    *,
    entry: int = 0x50,
    length: int = 0xC4D4,
    info: int = INFO,
    data: int = 0xE4D4,
    size: int = 0xC500,
    uuid: bytes = UUID + bytes(4),
) -> bytes:
    """A skl.bin with its offsets at `layout`."""
    made = bytearray(number % 253 for number in range(size))
    made[INFO : INFO + len(uuid)] = uuid
    struct.pack_into("<HH", made, 0, entry, length)
    struct.pack_into("<HH", made, layout, info, data)
    return bytes(made)


class TestSecureKernelLoader:
    @pytest.mark.parametrize("layout", [4, 66])
    def test_is_measured_up_to_the_length_in_its_header(self, layout: int) -> None:
        image = skl(layout)
        loader = SecureKernelLoader.parse(image)
        assert loader.measured == image[:0xC4D4]
        assert (loader.entry, loader.info) == (0x50, INFO)

    def test_what_follows_the_length_does_not_count(self) -> None:
        one, other = skl(), skl()[:0xC4D4] + b"\xff" * 0x100
        assert SecureKernelLoader.parse(one) == SecureKernelLoader.parse(other)

    def test_leaves_the_rest_of_64_kib_for_the_slrt(self) -> None:
        """0x1b2c is the figure of an emulated AMD machine, TrenchBoot v0.5.3-rc1."""
        assert SecureKernelLoader.parse(skl(data=0xE4D4)).slrt_size == 0x1B2C
        assert SecureKernelLoader.parse(skl(data=SKL_LIMIT)).slrt_size == 0x1000

    @pytest.mark.parametrize(
        ("image", "message", "offset"),
        [
            (b"", "by no layout", 4),
            (skl()[:0x110], "by no layout", 4),
            (skl(uuid=UUID + b"\1"), "by no layout", 4),
            (skl(uuid=UUID[1:]), "by no layout", 4),
            (skl(info=0x101), "by no layout", 4),
            (skl(12), "by no layout", 4),
            (skl(4)[:66] + skl(66)[66:], "by two layouts", 4),
            (skl(length=0xC501), "not all there", 2),
            (skl(entry=0xC4D4), "entry point 0xc4d4 is not measured", 0),
            (skl(length=0x10F), "information at 0x100 is not measured", 4),
            (skl(66, length=0x10F), "information at 0x100 is not measured", 66),
            (skl(data=0xC4D3), "no room for the SLRT at 0xc4d3", 6),
            (skl(data=SKL_LIMIT + 1), "no room for the SLRT", 6),
            (skl(66, data=0xFFFF), "no room for the SLRT", 68),
            (skl(size=SKL_LIMIT + 1), "at most 61440 bytes", SKL_LIMIT),
        ],
    )
    def test_what_grub_would_refuse_is_refused_with_the_offset(
        self, image: bytes, message: str, offset: int
    ) -> None:
        with pytest.raises(FormatError, match=message) as caught:
            SecureKernelLoader.parse(image)
        assert caught.value.offset == offset

    def test_its_limits_are_inclusive(self) -> None:
        SecureKernelLoader.parse(skl(length=0x110, entry=0x10F))
        SecureKernelLoader.parse(skl(size=SKL_LIMIT, length=0xE000, data=0xE000))

    @given(st.binary(max_size=80), st.sampled_from([4, 66]))
    def test_any_header_raises_format_errors_only(self, head: bytes, at: int) -> None:
        image = head + skl(at)[len(head) :]
        try:
            loader = SecureKernelLoader.parse(image)
        except FormatError:
            return
        assert loader.measured == image[: len(loader.measured)]


class TestAmdInfo:
    def test_holds_sizes_and_no_address(self) -> None:
        assert amd_info(0x1B2C, 0x1234) == (
            bytes.fromhex("05000000 38000000 0000000000000000 0a000000 38000000")
            + bytes.fromhex("2c1b000000000000")
            + bytes(16)
            + bytes.fromhex("3412")
            + bytes(6)
        )

    @pytest.mark.parametrize(("size", "version"), [(-1, 0), (1 << 64, 0), (0, 65536)])
    def test_what_does_not_fit_is_refused(self, size: int, version: int) -> None:
        with pytest.raises(ValueError, match="PSP version"):
            amd_info(size, version)
