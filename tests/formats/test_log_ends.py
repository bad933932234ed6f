# SPDX-License-Identifier: GPL-2.0-or-later
"""Where TrenchBoot's and tboot's logs end within the buffer that holds them."""

from __future__ import annotations

import struct

import pytest
from event_log_bytes import (
    VECTORS,
    agile_record,
    container,
    needs_vectors,
    sha1_record,
    spec_id,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.txt_log import parse_skl_container
from aemseal.measure.replay import replay, verify
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import FormatError, ReplayError

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
TWO_BANKS = {0x04: 20, 0x0B: 32}
BOTH = [(0x04, b"\x01" * 20), (0x0B, b"\x02" * 32)]
SINIT = agile_record(17, 0x402, BOTH, b"acm") + agile_record(18, 0x410, BOTH)
TBOOT = agile_record(17, 0x501, BOTH[1:]) + agile_record(18, 0x501, BOTH[1:])
XEN = agile_record(17, 0x502, BOTH, b"Measured MB2 module")
INTEL_BUFFER = 0x8000


class TestIntel:
    """GRUB allots 0x8000 bytes and clears them; dom0 reads them all from memory."""

    LOG = spec_id(TWO_BANKS) + SINIT + XEN

    def test_the_rest_of_the_buffer_is_zeros(self) -> None:
        whole = self.LOG.ljust(INTEL_BUFFER, b"\0")
        assert parse_event_log(whole) == parse_event_log(self.LOG)

    def test_a_record_without_digest_and_type_ends_the_log(self) -> None:
        for blank in (12, 16, 99):
            stale = self.LOG + bytes(blank) + b"\1 whatever lay in memory before"
            assert parse_event_log(stale) == parse_event_log(self.LOG)

    def test_eleven_zeros_are_no_such_record(self) -> None:
        with pytest.raises(FormatError) as info:
            parse_event_log(self.LOG + bytes(11) + b"\1")
        assert len(self.LOG) <= info.value.offset <= len(self.LOG) + 12

    def test_a_sha1_log_ends_so_too(self) -> None:
        log = sha1_record(17, 0x402, b"\1" * 20, b"x")
        assert parse_event_log(log + bytes(32) + b"stale") == parse_event_log(log)
        with pytest.raises(FormatError):
            parse_event_log(log + bytes(31) + b"stale")


class TestAmdWithATpm20:
    """SKL's header holds a heap element of type 8, which Xen and Linux keep up."""

    @staticmethod
    def log(end: int, *, allocated: int = 0x8000, vendor: bytes | None = None) -> bytes:
        element = struct.pack("<QIII", 0x44DF000, allocated, 0, end)
        return spec_id(TWO_BANKS, element if vendor is None else vendor) + XEN

    SIZE = len(log(0))

    def test_it_ends_where_the_header_says(self) -> None:
        whole = self.log(self.SIZE)
        assert len(parse_event_log(whole).events) == 2
        for rest in (bytes(100), b"\xff" * 9, XEN, b"stale"):
            assert parse_event_log(whole + rest) == parse_event_log(whole)

    def test_a_file_that_is_shorter_was_cut_off(self) -> None:
        with pytest.raises(FormatError, match=f"log has {self.SIZE} bytes; it ends"):
            parse_event_log(self.log(self.SIZE)[: -len(XEN)])

    def test_that_end_may_be_the_headers_and_the_buffers(self) -> None:
        assert len(parse_event_log(self.log(self.SIZE - len(XEN))).events) == 1
        full = self.log(self.SIZE, allocated=self.SIZE)
        assert len(parse_event_log(full + XEN).events) == 2

    def test_a_record_does_not_reach_over_that_end(self) -> None:
        with pytest.raises(FormatError, match="event 1: data needs 19 bytes and 18"):
            parse_event_log(self.log(self.SIZE - 1))

    @pytest.mark.parametrize(
        ("end", "allocated"), [(0, 0x8000), (88, 0x8000), (200, 9)]
    )
    def test_an_end_that_was_never_set_counts_for_nothing(
        self, end: int, allocated: int
    ) -> None:
        log = self.log(end, allocated=allocated)
        assert len(parse_event_log(log + bytes(100)).events) == 2

    def test_vendor_info_of_another_size_is_not_skls(self) -> None:
        vendor = struct.pack("<QIII", 0, 0x8000, 0, self.SIZE - 9) + b"!"
        assert len(parse_event_log(self.log(0, vendor=vendor)).events) == 2

    @needs_vectors
    def test_the_real_log_ends_there_to_the_byte(self) -> None:
        name = "drtm/amd-qemu-drtm-linux-v0.5.3-rc1.eventlog.bin"
        data = (VECTORS / name).read_bytes()
        assert struct.unpack_from("<I", data, 89 - 4) == (len(data),)
        assert parse_event_log(data + XEN) == parse_event_log(data)


class TestAmdWithATpm12:
    """SKL puts the TXT container's header into the vendor info of a TCG header."""

    RECORDS = sha1_record(17, 0x502, b"\1" * 20, b"SKINIT") + sha1_record(
        18, 0x502, b"\2" * 20
    )

    @classmethod
    def log(
        cls, *, name: bytes = b"00", size: int = 0x30, header_size: int | None = None
    ) -> bytes:
        inner = container(cls.RECORDS)
        header = inner[: 48 if header_size is None else header_size]
        fixed = struct.pack("<16sIBBBBB", b"Spec ID Event" + name, 0, 2, 1, 1, 0, size)
        return sha1_record(0, 3, bytes(20), fixed + header) + inner[len(header) :]

    @pytest.mark.parametrize("name", [b"00", b"02"])
    def test_the_header_is_event_0_and_the_container_follows(self, name: bytes) -> None:
        log = parse_event_log(self.log(name=name))
        assert (log.format, log.algorithms) == ("txt-container", (SHA1,))
        assert [each.name for each in log.events] == [
            "EV_NO_ACTION",
            "SLAUNCH",
            "SLAUNCH",
        ]
        assert [each.is_extended for each in log.events] == [False, True, True]
        assert log.events[1].untrusted_data == b"SKINIT"

    @pytest.mark.parametrize("rest", [bytes(99), b"stale", RECORDS])
    def test_what_follows_the_container_is_not_read(self, rest: bytes) -> None:
        assert parse_event_log(self.log() + rest) == parse_event_log(self.log())

    def test_every_cut_is_refused_with_its_offset(self) -> None:
        data = self.log()
        for size in range(len(data)):
            with pytest.raises(FormatError) as info:
                parse_event_log(data[:size])
            assert info.value.offset <= size

    @pytest.mark.parametrize(("size", "header"), [(47, 48), (47, 47), (49, 49)])
    def test_another_size_of_the_vendor_info_is_refused(
        self, size: int, header: int
    ) -> None:
        with pytest.raises(FormatError, match=f"info of {size} bytes at offset 56"):
            parse_event_log(self.log(size=size, header_size=header))

    def test_another_type_of_record_is_no_header(self) -> None:
        data = self.log()
        with pytest.raises(FormatError, match="no TCG header"):
            parse_skl_container(data[:4] + b"\4" + data[5:])
        with pytest.raises(FormatError, match="no TCG header"):
            parse_skl_container(sha1_record(0, 3, bytes(20), b"Spec ID Event00\0"))

    def test_a_header_without_a_container_is_a_plain_sha1_log(self) -> None:
        old = sha1_record(0, 3, bytes(20), b"Spec ID Event00\0" + bytes(9))
        log = parse_event_log(old + self.RECORDS)
        assert (log.format, len(log.events)) == ("tcg-sha1", 3)


class TestTbootThatWroteElsewhere:
    """tboot 1.9.7 to 1.10.0 moved the end of the log, over zeros."""

    WRITTEN = spec_id(TWO_BANKS) + SINIT + TBOOT
    FOUND = spec_id(TWO_BANKS) + SINIT + bytes(len(TBOOT))

    def test_the_log_ends_with_what_sinit_wrote(self) -> None:
        log = parse_event_log(self.FOUND)
        assert [each.name for each in log.events[1:]] == [
            "HASH_START",
            "SINIT_PUBKEY_HASH",
        ]
        assert parse_event_log(self.FOUND + b"\1stale") == log

    @pytest.mark.parametrize("pcrs", [{17}, {18}, {17, 18}])
    def test_replay_refuses_it_and_the_hint_says_why(self, pcrs: set[int]) -> None:
        live = replay(parse_event_log(self.WRITTEN)).banks[SHA256]
        selection = PcrSelection.of(SHA256, pcrs)
        verify(parse_event_log(self.WRITTEN), live, selection)
        with pytest.raises(ReplayError, match="does not give PCR") as info:
            verify(parse_event_log(self.FOUND), live, selection)
        assert "tboot 1.9.7 to 1.10.0" in str(info.value.hint)
