# SPDX-License-Identifier: GPL-2.0-or-later
"""What is hashed of a Xen that GRUB launches: its image as GRUB lays it out."""

from __future__ import annotations

import gzip
import struct

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given
from hypothesis import strategies as st
from tpm_sim.models import Generation
from tpm_sim.xen_image import XenImage, launchable
from unpacked import unpacked
from xen_images import (
    BASE,
    BODY_AT,
    elf,
    mle_header,
    segment,
    xen_body,
    xen_efi,
    xen_elf,
)

from aemseal.formats.slaunch_mle import (
    IMAGE_LIMIT,
    VIEWS,
    MleRule,
    XenMle,
    entry_bytes,
    entry_point,
)
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError

MIB = 1 << 20


class TestMeasuredBytes:
    def test_go_to_the_end_that_the_header_names(self) -> None:
        mle = XenMle.parse(xen_elf(mle_header(end=0x8F0)))
        assert mle.measured_bytes(MleRule.V04) == xen_body(
            mle_header(end=0x8F0)
        ) + bytes(0xF0)
        assert (mle.header_at, mle.entry_point, mle.mle_end) == (0x40, 0x626794, 0x8F0)

    def test_go_to_the_next_2_mib_before_v0_4_1(self) -> None:
        measured = XenMle.parse(xen_elf()).measured_bytes(MleRule.ALIGNED)
        assert measured == xen_body().ljust(2 * MIB, b"\0")

    def test_have_a_header_that_says_so_before_v0_4(self) -> None:
        measured = XenMle.parse(xen_elf()).measured_bytes(MleRule.REWRITTEN)
        rewritten = bytearray(xen_body().ljust(2 * MIB, b"\0"))
        at = 0x40 + 28
        assert rewritten[at : at + 12] == struct.pack("<3I", 0x55, 0, 0x900)
        rewritten[at : at + 12] = struct.pack("<3I", 0, 0, 2 * MIB)
        assert measured == rewritten

    def test_of_an_aligned_image_are_not_one_byte_more(self) -> None:
        body = xen_body()
        image = elf(segment(BODY_AT, BASE, len(body), 2 * MIB), body=body)
        assert len(XenMle.parse(image).measured_bytes(MleRule.ALIGNED)) == 2 * MIB
        image = elf(segment(BODY_AT, BASE, len(body), 2 * MIB + 1), body=body)
        assert len(XenMle.parse(image).measured_bytes(MleRule.ALIGNED)) == 4 * MIB

    def test_of_a_header_without_a_range_are_none(self) -> None:
        mle = XenMle.parse(xen_elf(mle_header(end=0)))
        assert mle.measured_bytes(MleRule.V04) == b""
        assert len(mle.measured_bytes(MleRule.REWRITTEN)) == 2 * MIB

    def test_each_rule_has_a_view(self) -> None:
        assert set(VIEWS) == set(MleRule)
        assert len(set(VIEWS.values())) == len(MleRule)


class TestLayout:
    def test_a_segment_lies_at_its_physical_address_and_zeros_between(self) -> None:
        low, high = xen_body(mle_header(end=0x3100), size=0x300), b"\xee" * 0x100
        image = elf(
            segment(BODY_AT + 0x300, BASE + 0x3000, 0x100, 0x200),
            segment(0, 0, 0x34, 0x9000, kind=4),
            segment(BODY_AT, BASE, 0x300, 0x400),
            body=low + high,
        )
        loaded = XenMle.parse(image).loaded
        assert loaded == low.ljust(0x3000, b"\0") + high + bytes(0x100)

    def test_what_is_loaded_later_lies_above_what_came_before(self) -> None:
        body = xen_body()
        image = elf(
            segment(BODY_AT, BASE, 0x800, 0x900),
            segment(BODY_AT, BASE + 0x700, 0x10, 0x20),
            body=body,
        )
        expected = (
            body[:0x700] + body[:0x10] + bytes(0x10) + body[0x720:] + bytes(0x100)
        )
        assert XenMle.parse(image).loaded == expected

    def test_a_shared_object_is_loaded_as_well(self) -> None:
        body = xen_body()
        image = elf(segment(BODY_AT, BASE, 0x800, 0x900), body=body, kind=3)
        assert XenMle.parse(image) == XenMle.parse(xen_elf())


class TestHeader:
    def test_is_found_at_16_byte_steps_of_the_first_4_kib(self) -> None:
        assert XenMle.parse(xen_elf(at=0x7B0)).header_at == 0x7B0
        with pytest.raises(FormatError, match="no MLE header"):
            XenMle.parse(xen_elf(at=0x48))
        body = xen_body(at=0x1000, size=0x1200)
        with pytest.raises(FormatError, match="in the first 4096 bytes") as caught:
            XenMle.parse(elf(segment(BODY_AT, 0, 0x1200, 0x1200), body=body))
        assert caught.value.offset == 0x1000
        assert caught.value.hint is not None

    def test_the_first_one_counts(self) -> None:
        header = mle_header(entry=1) + bytes(12) + mle_header(entry=2)
        assert XenMle.parse(xen_elf(header)).entry_point == 1


class TestEntryPoint:
    """Entry 0x626794 is that of a xen.efi of TrenchBoot's, from an emulated machine."""

    def test_is_read_from_both_kinds_of_xen(self) -> None:
        assert entry_point(xen_elf()) == 0x626794
        assert entry_point(xen_efi(b".text", b".reloc")) == 0x626794
        assert entry_bytes(xen_efi()) == bytes.fromhex("94676200")

    @needs_vectors
    def test_is_hashed_as_four_bytes_in_a_real_log(self) -> None:
        log = VECTORS / "drtm/amd-qemu-drtm-linux-v0.5.3-rc1.eventlog.bin"
        hashed = entry_bytes(xen_elf(mle_header(entry=0x12D4100)))
        assert HashAlgorithm.SHA256.hash(hashed).value in log.read_bytes()

    @pytest.mark.parametrize(
        "section", [b".config", b".kernel", b".ramdisk", b".xsm", b".ucode"]
    )
    def test_a_unified_image_is_refused_by_what_it_carries(
        self, section: bytes
    ) -> None:
        with pytest.raises(FormatError, match=f"carries {section.decode()} itself"):
            entry_point(xen_efi(b".text", section))

    @pytest.mark.parametrize(
        ("image", "message", "offset"),
        [
            (b"MZ", "PE header leaves", 0x3C),
            (xen_efi()[:0x90], "PE header leaves", 0x3C),
            (xen_efi(signature=b"NE\0\0"), "no PE file", 0x80),
            (xen_efi(machine=0x14C), "no PE file", 0x80),
            (xen_efi(count=0xFFFF), "section table leaves", 0x188),
            (xen_efi(at=0x408), "no MLE header", 0x1000),
            (xen_efi()[:0x410], "cut off", 0x400),
        ],
    )
    def test_other_pe_files_are_refused_with_the_offset(
        self, image: bytes, message: str, offset: int
    ) -> None:
        with pytest.raises(FormatError, match=message) as caught:
            entry_point(image)
        assert caught.value.offset == offset


NOT_XEN = {
    "an empty file": (b"", "too short", 0),
    "no ELF file": (b"\x1f\x8b" + bytes(100), "no ELF file", 0),
    "64 bits": (elf(ident=b"\x7fELF\x02\x01\x01" + bytes(9)), "no 32-bit", 4),
    "big-endian": (elf(ident=b"\x7fELF\x01\x02\x01" + bytes(9)), "no 32-bit", 4),
    "an object file": (elf(kind=1), "no 32-bit", 4),
    "an x86-64 machine": (elf(machine=62), "no 32-bit", 4),
    "another ELF version": (elf(version=2), "no 32-bit", 4),
    "small program headers": (elf(entry=31), "too small", 42),
    "program headers outside": (elf(phoff=0x1F0, count=2), "beyond", 28),
    "program headers far behind": (
        elf(phoff=0x7FF0, count=1, body=bytes(0x9000)),
        "beyond the file or 32768",
        28,
    ),
    "no segment": (elf(segment(0, 0, 0, 0, kind=4)), "no loadable segment", 28),
    "a segment outside": (elf(segment(0x201, 0, 0x200, 0x200)), "leaves the file", 52),
    "more file than memory": (elf(segment(0, 0, 2, 1)), "larger in the file", 52),
    "4 GiB of memory": (elf(segment(0, 0, 0, 0xFFFFFFFF)), "over 67108864", 28),
    "segments over each other": (
        elf(*[segment(0, 0, 0, IMAGE_LIMIT // 8)] * 9),
        "over 67108864",
        28,
    ),
    "two ends of memory": (
        elf(segment(0, 0, 1, 1), segment(0, 0xF0000000, 1, 1)),
        "over 67108864",
        28,
    ),
    "no header": (elf(segment(0, 0, 0x200, 0x200)), "no MLE header", 0x200),
    "a header cut off": (
        elf(segment(BODY_AT, 0, 0x30, 0x30), body=mle_header()),
        "cut off",
        0,
    ),
    "an MLE that begins later": (
        xen_elf(mle_header(start=0x10)),
        r"0x10 to 0x900\) is not the first part",
        0x40,
    ),
    "an MLE past the end": (
        xen_elf(mle_header(end=0x901)),
        r"not the first part of the loaded image \(0x900 bytes\)",
        0x40,
    ),
}


class TestHostileImages:
    @pytest.mark.parametrize("name", NOT_XEN)
    def test_are_refused_with_the_offset(self, name: str) -> None:
        image, message, offset = NOT_XEN[name]
        with pytest.raises(FormatError, match=message) as caught:
            XenMle.parse(image)
        assert caught.value.offset == offset

    def test_the_largest_image_is_laid_out(self) -> None:
        body = xen_body()
        image = elf(segment(BODY_AT, BASE, len(body), IMAGE_LIMIT), body=body)
        assert len(XenMle.parse(image).loaded) == IMAGE_LIMIT

    @given(
        st.lists(
            st.tuples(st.integers(0, 0x2A0), st.binary(min_size=1, max_size=8)),
            max_size=6,
        ),
        st.integers(0, 0x600),
        st.booleans(),
    )
    def test_mutated_images_raise_format_errors_only(
        self, changes: list[tuple[int, bytes]], cut: int, efi: bool
    ) -> None:
        data = bytearray(xen_efi(b".text") if efi else xen_elf())
        for at, new in changes:
            data[at : at + len(new)] = new
        image = bytes(data[: len(data) - cut])
        try:
            entry_point(image)
            mle = XenMle.parse(image)
        except FormatError:
            return
        assert len(mle.measured_bytes(MleRule.V04)) == mle.mle_end


@pytest.mark.sim
@pytest.mark.parametrize("which", ["xen_old", "xen_new"])
def test_a_real_xen_is_laid_out_as_the_simulator_does(which: str) -> None:
    """Debian's Xen with a header patched in; the simulator shares no code with this."""
    image = launchable(gzip.decompress(unpacked(which).read_bytes()))
    ours, theirs = XenMle.parse(image), XenImage.of(image)
    assert ours.entry_point == theirs.entry_point
    for rule, generation in {
        MleRule.V04: Generation.V0_5,
        MleRule.ALIGNED: Generation.V0_4,
        MleRule.REWRITTEN: Generation.V0_3,
    }.items():
        assert ours.measured_bytes(rule) == theirs.measured(generation)
