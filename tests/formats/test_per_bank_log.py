# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of a TPM 2.0 kept bank by bank: both layouts, and what is no such log."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from event_log_bytes import SIZES, sha1_record
from hypothesis import given
from hypothesis import strategies as st
from per_bank_bytes import PAGE, Row, bank, digest_of, exported, head, pages, record

from aemseal.formats import tcg_log
from aemseal.formats.event_log import parse_event_log
from aemseal.formats.per_bank_log import (
    BankDescriptor,
    parse_per_bank_log,
    read_bank,
)
from aemseal.measure.quirks import LISTED_TWICE, VALUE_LOGGED
from aemseal.measure.replay import replay
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import EvidenceError, FormatError
from aemseal.words.events import EventLog

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
START: Row = (17, 0x402, b"x" * 36)
ROWS: list[Row] = [START, (255, 0x401, b"\1\0\0\0"), (17, 0x404, b""), (17, 0x501, b"")]
ONE, TWO = (0x04, bank(0x04, ROWS)), (0x0B, bank(0x0B, ROWS))


def told(log: EventLog) -> list[Row]:
    return [(each.pcr, each.untrusted_type, each.untrusted_data) for each in log.events]


LAYOUTS = {
    "exported, sha1 first": exported(ONE, TWO),
    "exported, sha256 first": exported(TWO, ONE),
    "exported and padded": exported(ONE, TWO).ljust(PAGE, b"\0"),
    "exported from another offset": exported(ONE, TWO, first=16),
    "pages, sha1 first": pages(ONE[1], TWO[1]),
    "pages, sha256 first": pages(TWO[1], ONE[1]),
    "pages, the last one cut": pages(ONE[1]) + TWO[1],
    "pages, blank ones too": pages(ONE[1], b"", TWO[1]) + b"\xff" * PAGE,
}


@pytest.mark.parametrize("data", LAYOUTS.values(), ids=LAYOUTS)
def test_an_event_of_all_banks_is_one_event_with_a_digest_of_each(data: bytes) -> None:
    log = parse_event_log(data)
    assert log.format == "tpm2-per-bank"
    assert set(log.algorithms) == {SHA1, SHA256}
    assert told(log) == ROWS
    for row, event in zip(ROWS, log.events, strict=True):
        assert event.digests[SHA1].value == digest_of(0x04, row)
        assert event.digests[SHA256].value == digest_of(0x0B, row)


@pytest.mark.parametrize("tcg_id", [0x0B, 0x0C, 0x0D, 0x12])
def test_a_log_of_one_bank_is_told_by_its_head(tcg_id: int) -> None:
    for data in (bank(tcg_id, ROWS), exported((tcg_id, bank(tcg_id, ROWS)))):
        log = parse_event_log(data)
        assert [each.tcg_id for each in log.algorithms] == [tcg_id]
        assert told(log) == ROWS


@pytest.mark.parametrize(("number", "size"), [(4, 64), (0x0D, 64)])
def test_heads_number_algorithms_as_intel_does_or_as_tcg_does(
    number: int, size: int
) -> None:
    row = record(17, 0x402, bytes(64))
    log = parse_event_log(head(0x0D, number=number, size=size) + row)
    assert log.algorithms == (HashAlgorithm.SHA512,)


@pytest.mark.parametrize("number", [1, 4])
def test_the_log_of_sha1_may_have_a_head_too(number: int) -> None:
    log = parse_event_log(head(0x04, number=number, size=20) + ONE[1])
    assert (log.algorithms, told(log)) == ((SHA1,), ROWS)


def test_a_bank_without_events_is_named_and_found_incomplete() -> None:
    log = parse_event_log(exported((0x04, b""), TWO))
    assert log.algorithms == (SHA1, SHA256)
    assert replay(log).missing[SHA1] == {17: (0, 2, 3)}
    assert replay(log).missing[SHA256] == {17: ()}


def test_a_bank_of_an_unknown_algorithm_is_stepped_over() -> None:
    log = parse_event_log(exported(ONE, (0x27, b"what SHA3 takes"), TWO))
    assert (log.algorithms, log.unknown_algorithms) == ((SHA1, SHA256), (0x27,))
    assert told(log) == ROWS


class TestTheNuc:
    """NUC5i5MYHE: SHA-1 first, HASH_START and PCR_MAPPING twice, value logged."""

    DIGEST = bytes.fromhex("e064421772da0cca59cea47801c2ee5e5c2a1758")
    DATA = bytes.fromhex(
        "01e0e469911a09c3cfea6e492cb36a50fcc4a5378060 8b90b8031a4dc32cff7b00000000"
    )

    def log(self, times: int) -> EventLog:
        value = SHA256.zero().extended(SHA256.hash(self.DATA)).value
        sha1 = record(17, 0x402, self.DIGEST, self.DATA) * 2
        sha1 += record(255, 0x401, bytes(20), b"\1\0\0\0") * 2
        sha256 = head(0x0B) + record(17, 0x402, value, self.DATA) * times
        sha256 += record(255, 0x401, bytes(32), b"\1\0\0\0")
        return parse_event_log(exported((0x04, sha1), (0x0B, sha256)))

    @pytest.mark.parametrize("times", [1, 2])
    def test_the_repeat_survives_and_is_not_replayed(self, times: int) -> None:
        log = self.log(times)
        assert [each.untrusted_type for each in log.events] == [
            *[0x402] * 2,
            *[0x401] * 2,
        ]
        assert log.events[1].digests.keys() == (
            {SHA1} if times == 1 else {SHA1, SHA256}
        )
        result = replay(log)
        assert [(each.event, each.name) for each in result.quirks] == [
            (0, VALUE_LOGGED),
            (1, LISTED_TWICE),
        ]
        assert result.banks[SHA1].value(17).value == self.DIGEST
        assert result.missing == {SHA1: {17: ()}, SHA256: {17: ()}}


class TestDamage:
    @pytest.mark.parametrize("banks", [(ONE, TWO), (TWO, ONE)])
    def test_every_cut_of_an_exported_log_is_refused_with_its_offset(
        self, banks: tuple[tuple[int, bytes], ...]
    ) -> None:
        data, between = exported(*banks), len(exported(banks[0]))
        assert len(parse_event_log(data[:between]).algorithms) == 1
        for size in {*range(len(data))} - {between}:
            with pytest.raises(FormatError) as info:
                parse_event_log(data[:size])
            assert info.value.offset <= size

    def test_every_cut_of_a_page_is_refused_with_its_offset(self) -> None:
        ends = [60]
        for _, _, data in ROWS:
            ends.append(ends[-1] + 44 + len(data))
        for size in range(1, len(TWO[1])):
            if size in ends:
                assert told(parse_event_log(TWO[1][:size])) == ROWS[: ends.index(size)]
                continue
            with pytest.raises(FormatError) as info:
                parse_event_log(TWO[1][:size])
            assert info.value.offset <= size

    @pytest.mark.parametrize(
        ("data", "offset", "message"),
        [
            (exported(ONE, ONE), 24 + len(ONE[1]), "second log of the sha1 bank"),
            (pages(TWO[1], TWO[1]), PAGE, "second log of the sha256 bank"),
            (pages(ONE[1], ONE[1], TWO[1]), PAGE, "second log of the sha1 bank"),
            (exported((0x0B, ONE[1])), 24, "sha256 bank has no head"),
            (exported((0x0C, TWO[1])), 24, "sha384 bank has the head of sha256"),
            (exported((0x04, TWO[1])), 24, "sha1 bank has the head of sha256"),
            (exported(ONE) + b"\4" * 24, 24 + len(ONE[1]), "bank descriptor: records"),
            (exported(ONE) + b"\4", 24 + len(ONE[1]) + 0, "bank descriptor: algorithm"),
        ],
    )
    def test_what_contradicts_itself_is_refused(
        self, data: bytes, offset: int, message: str
    ) -> None:
        with pytest.raises(FormatError, match=message) as info:
            parse_event_log(data)
        assert info.value.offset == offset

    def test_a_claim_of_1_gib_in_100_bytes_allocates_nothing(self) -> None:
        gib = struct.pack("<HHQIII", 4, 0, 0, 2**30, 0, 2**30)
        short = struct.pack("<HHQIII", 4, 0, 0, 0x10000, 0, 0x10000)
        long_data = head(0x0B) + struct.pack("<II32sI", 17, 0x402, b"", 2**30)
        tracemalloc.start()
        for data in (gib + b"\1" * 76, short + b"\1" * 76, long_data + b"\1" * 4):
            with pytest.raises(FormatError):
                parse_event_log(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000

    def test_the_number_of_events_is_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcg_log, "MAXIMAL_EVENTS", 3)
        with pytest.raises(FormatError, match="goes on after 3 events"):
            parse_event_log(exported(ONE))

    @pytest.mark.parametrize("data", [b"", bytes(PAGE), b"\xff" * 3 * PAGE])
    def test_a_file_of_no_bank_is_refused(self, data: bytes) -> None:
        with pytest.raises(FormatError, match="no log of any bank"):
            parse_per_bank_log(data)

    def test_a_head_counts_within_its_bank_alone(self) -> None:
        with pytest.raises(FormatError, match="has no head at offset 0"):
            read_bank(TWO[1], 0, 59, SHA256)

    def test_descriptors_are_held_to_their_own_offsets(self) -> None:
        for bounds in ((2**20, 0, 9), (99, 50, 49), (99, 0, 100), (99, -1, 3)):
            with pytest.raises(ValueError, match="records from"):
                BankDescriptor(4, 0, *bounds)


class TestWhatIsNoPerBankLog:
    @pytest.mark.parametrize(
        "first",
        [
            head(0x0B, number=0x99),
            head(0x0B, size=20),
            head(0x0B)[:4] + b"\4" + head(0x0B)[5:],
            b"\1" + head(0x0B)[1:],
            sha1_record(
                0, 3, bytes(20), struct.pack("<16sIII", b"Spec ID Event00", 0, 4, 20)
            ),
            sha1_record(0, 3, bytes(20), bytes(27)),
            struct.pack("<II", 4, 0xB8F30176) + b"\1" * 20 + bytes(4),
            struct.pack("<II", 4, 0) + bytes(20) + struct.pack("<I", 4) + b"data",
            sha1_record(4, 9, b"\xff" * 20),
        ],
    )
    def test_a_sha1_log_may_begin_almost_so(self, first: bytes) -> None:
        log = parse_event_log(first + sha1_record(17, 0x402, b"\1" * 20))
        assert (log.format, len(log.events)) == ("tcg-sha1", 2)

    def test_a_head_in_a_foreign_file_makes_it_no_log(self) -> None:
        foreign = b"\x7fELF".ljust(PAGE, b"\0") + TWO[1]
        with pytest.raises(FormatError, match="no PCR index at offset 0"):
            parse_event_log(foreign)


def parses(data: bytes) -> bool:
    try:
        parse_event_log(data)
    except EvidenceError:
        return False
    return True


rows = st.lists(
    st.tuples(st.integers(0, 23), st.integers(4, 2**32 - 1), st.binary(max_size=9)),
    min_size=1,
    max_size=6,
    unique=True,
)
banks = st.lists(st.sampled_from([*SIZES]), min_size=1, unique=True)


@given(rows, banks, st.booleans())
def test_what_sinit_and_tboot_write_is_read_back(
    written: list[Row], table: list[int], in_pages: bool
) -> None:
    logs = [(tcg_id, bank(tcg_id, written)) for tcg_id in table]
    if in_pages and table != [0x04]:
        data = pages(*(log for _, log in logs))
    else:
        data = exported(*logs)
    log = parse_event_log(data)
    assert [each.tcg_id for each in log.algorithms] == table
    assert told(log) == written
    for row, event in zip(written, log.events, strict=True):
        assert {a.tcg_id: d.value for a, d in event.digests.items()} == {
            tcg_id: digest_of(tcg_id, row) for tcg_id in table
        }


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_evidence_errors_only(data: bytes) -> None:
    for begin in (exported(ONE), TWO[1], pages(ONE[1]) + head(0x0C)):
        parses(begin + data)
