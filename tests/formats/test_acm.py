# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules tboot drops unmeasured, and what of an ACM the processor hashes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.acm import (
    HEAD_LIMIT,
    LCP_POLICY_DATA,
    LCP_POLICY_DATA_V1,
    SINIT_ACM,
    AcmHeader,
    measured_bytes,
    measured_ranges,
    tboot_skips,
)
from aemseal.words.errors import FormatError

INFO_UUID = struct.pack("<IHHH", 0x7FC03AAA, 0x46A7, 0x18DB, 0xAC2E) + bytes.fromhex(
    "698f8d417f5a"
)
LCP_UUID = struct.pack("<IHHH", 0xAB0D1925, 0xEEE7, 0x48EB, 0xA9FC) + bytes.fromhex(
    "0bac5a262d0e"
)
HEADER_0_0 = 0xA1
HEADER_3_0 = 0xE0


def acm(
    size: int = 0x4000,
    header: int = HEADER_0_0,
    scratch: int = 0x8F,
    kind: int = 2,
    subtype: int = 0,
    vendor: int = 0x8086,
    uuid: bytes = INFO_UUID,
    acm_type: int = 1,
    version: int = 7,
) -> bytes:
    """A module laid out as a SINIT ACM; `header` and `scratch` in dwords."""
    start = struct.pack(
        "<HHIIHHIIIHHIIIIII",
        *(kind, subtype, header, 0x30000 if header == HEADER_3_0 else 0),
        *(0xB002, 0, vendor, 0x20190708, size // 4, 0, 0),
        *(0, 0, 0, 0, 8, 0xDA16),
    )
    start = start.ljust(120, b"\0") + struct.pack("<II", 64, scratch)
    filler = bytes(number % 253 for number in range(size))
    body = bytearray(start + filler[len(start) :])
    info = struct.pack("<16sBBH", uuid, acm_type, version, 48)
    at = (header + scratch) * 4
    body[at : at + len(info)] = info
    return bytes(body[:size])


NO_HEADER_LENGTH = acm(scratch=0)[:4] + bytes(4) + acm(scratch=0)[8:]


class TestSinitModules:
    @pytest.mark.parametrize(
        "module",
        [
            acm(),
            acm(header=HEADER_3_0, scratch=0xD0),
            acm(subtype=1),
            acm(version=3),
            acm(version=9),
            acm(size=0x4000) + bytes(0x10000),
            acm(size=0x4000) + bytes(0x40000),
        ],
        ids=["0.0", "3.0", "subtype", "v3", "v9", "least padding", "most padding"],
    )
    def test_are_dropped(self, module: bytes) -> None:
        assert tboot_skips(module, len(module)) == SINIT_ACM

    @pytest.mark.parametrize(
        "module",
        [
            acm(kind=1),
            acm(vendor=0x8087),
            acm(uuid=bytes(16)),
            acm(acm_type=0),
            acm(acm_type=9),
            acm(version=2),
            acm()[:-4],
            acm() + bytes(4),
            acm() + bytes(0xFFFF),
            acm() + bytes(0x40001),
            acm(scratch=0x4000),
            acm(scratch=0xFFFFFFFF)[:0x4000],
            acm(size=1212),
            b"",
            b"\x02\x00\x00\x00" * 400,
        ],
        ids=[
            "other type",
            "other vendor",
            "no table",
            "BIOS ACM",
            "revocation ACM",
            "old table",
            "cut",
            "longer",
            "too little padding",
            "too much padding",
            "scratch outside",
            "scratch of 16 GiB",
            "shorter than the header structure",
            "empty",
            "just its first word",
        ],
    )
    def test_look_alikes_are_measured(self, module: bytes) -> None:
        assert tboot_skips(module, len(module)) is None

    def test_need_their_head_only(self) -> None:
        module = acm(size=0x40000)
        assert tboot_skips(module[:2048], len(module)) == SINIT_ACM

    def test_a_table_behind_what_was_kept_is_refused(self) -> None:
        module = acm(size=HEAD_LIMIT * 2, scratch=HEAD_LIMIT // 4)
        with pytest.raises(FormatError, match="information table"):
            tboot_skips(module[:HEAD_LIMIT], len(module))


class TestLcpPolicyData:
    @pytest.mark.parametrize(
        ("start", "kind"),
        [
            (LCP_UUID, LCP_POLICY_DATA_V1),
            (LCP_UUID + b"x", LCP_POLICY_DATA_V1),
            (b"Intel(R) TXT LCP_POLICY_DATA\0\0\0\0", LCP_POLICY_DATA),
        ],
    )
    def test_is_told_by_its_first_bytes(self, start: bytes, kind: str) -> None:
        assert tboot_skips(start, len(start)) == kind

    def test_look_alikes_are_measured(self) -> None:
        for start in (b"Intel(R) TXT LCP_POLICY_DAT", LCP_UUID[:15], b" " + LCP_UUID):
            assert tboot_skips(start, len(start)) is None


class TestMeasuredRanges:
    def test_leave_out_key_signature_and_scratch(self) -> None:
        module = acm(size=0x4000)
        assert measured_ranges(module) == (range(128), range(1216, 0x4000))
        assert measured_bytes(module) == module[:128] + module[1216:]
        long_key = acm(size=0x4000, header=HEADER_3_0, scratch=0xD0)
        assert measured_ranges(long_key) == (range(128), range(1728, 0x4000))

    def test_end_where_the_module_says(self) -> None:
        module = acm(size=0x4000)
        assert measured_bytes(module + b"padding") == measured_bytes(module)

    @pytest.mark.parametrize(
        ("module", "message", "offset"),
        [
            (b"", "too short", 0),
            (acm()[:127], "too short", 127),
            (acm(kind=1), "no Intel AC module", 0),
            (acm(vendor=1), "no Intel AC module", 0),
            (acm()[:-1], "says it has 16384 bytes", 16383),
            (acm(scratch=0x4000), "scratch area", 120),
            (acm(scratch=0xFFFFFFFF), "scratch area", 120),
            (NO_HEADER_LENGTH, "scratch area", 120),
        ],
    )
    def test_refuse_what_is_no_acm(
        self, module: bytes, message: str, offset: int
    ) -> None:
        with pytest.raises(FormatError, match=message) as caught:
            measured_ranges(module)
        assert caught.value.offset == offset


def test_the_header_says_sizes_in_bytes() -> None:
    header = AcmHeader.parse(acm(header=HEADER_3_0, scratch=0xD0, subtype=1))
    assert (header.size, header.info_offset) == (0x4000, 1728)
    assert (header.header_version, header.subtype) == (0x30000, 1)
    assert (header.header_length, header.key_size) == (896, 256)


def test_the_header_says_date_flags_and_security_version() -> None:
    module = bytearray(acm())
    module[14:16], module[28:30] = b"\x00\x80", b"\x02\x00"
    header = AcmHeader.parse(bytes(module))
    assert (header.date, header.flags) == (0x20190708, 0x8000)
    assert header.security_version == 2


@given(
    st.binary(max_size=64),
    st.integers(0, 0x3FFF),
    st.integers(0, 0x4000),
    st.integers(0, 1 << 33),
)
def test_mutated_modules_give_an_answer_or_a_format_error(
    new: bytes, at: int, length: int, size: int
) -> None:
    module = acm()
    module = (module[:at] + new + module[at + len(new) :])[:length]
    try:
        assert tboot_skips(module, size) in {
            None,
            SINIT_ACM,
            LCP_POLICY_DATA,
            LCP_POLICY_DATA_V1,
        }
        first, second = measured_ranges(module)
    except FormatError:
        return
    assert len(first) + len(second) <= len(module)
