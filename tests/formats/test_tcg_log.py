# SPDX-License-Identifier: GPL-2.0-or-later
"""TCG logs, SHA-1 and crypto-agile: what is read, and what is refused and where."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from event_log_bytes import (
    SIZES,
    agile_record,
    sha1_record,
    spec_id,
)
from hypothesis import example, given
from hypothesis import strategies as st

from aemseal.formats import tcg_log
from aemseal.formats.event_log import parse_event_log
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import EvidenceError, FormatError, LogError

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
TWO_BANKS = {0x04: 20, 0x0B: 32}
BOTH = [(0x04, b"\x01" * 20), (0x0B, b"\x02" * 32)]
LOCALITY = b"StartupLocality\0"


def agile(*records: bytes) -> bytes:
    return spec_id(TWO_BANKS) + b"".join(records)


LAUNCH = agile(
    agile_record(17, 0x402, BOTH, b"acm"),
    agile_record(255, 0x401, [(4, bytes(20)), (0x0B, bytes(32))], b"\1\0\0\0"),
    agile_record(17, 0x501, [(0x0B, b"\x03" * 32)]),
)
OLD_LAUNCH = sha1_record(17, 0x402, b"\x01" * 20, b"acm") + sha1_record(
    18, 0x404, b"\x02" * 20
)


class TestCryptoAgile:
    def test_the_spec_id_record_is_event_0(self) -> None:
        log = parse_event_log(LAUNCH)
        assert log.format == "tcg-agile"
        assert log.algorithms == (SHA1, SHA256)
        assert log.unknown_algorithms == ()
        first = log.events[0]
        assert (first.number, first.pcr, first.name) == (0, 0, "EV_NO_ACTION")
        assert first.digests == {SHA1: SHA1.zero()}
        assert not first.is_extended

    def test_a_record_may_carry_fewer_digests_than_the_header_names(self) -> None:
        tboot = parse_event_log(LAUNCH).events[3]
        assert (tboot.name, set(tboot.digests)) == ("TBOOT", {SHA256})
        assert parse_event_log(agile(agile_record(17, 1, []))).events[1].digests == {}

    def test_pcr_255_is_listed_but_not_extended(self) -> None:
        mapping = parse_event_log(LAUNCH).events[2]
        assert (mapping.pcr, mapping.name) == (255, "PCR_MAPPING")
        assert not mapping.is_extended

    def test_the_markers_of_secure_launch_are_not_extended(self) -> None:
        log = parse_event_log(
            agile(*(agile_record(17, kind, BOTH) for kind in (0x502, 0x503, 0x504)))
        )
        assert [each.is_extended for each in log.events[1:]] == [True, False, False]

    def test_an_unknown_algorithm_is_stepped_over_by_its_size(self) -> None:
        sha3 = (0x27, b"\x07" * 32)
        log = parse_event_log(
            spec_id({0x27: 32, 0x0B: 32})
            + agile_record(17, 0x402, [sha3, BOTH[1]], b"x")
            + agile_record(18, 0x404, [BOTH[1], sha3])
        )
        assert log.algorithms == (SHA256,)
        assert log.unknown_algorithms == (0x27,)
        assert [set(each.digests) for each in log.events[1:]] == [{SHA256}, {SHA256}]
        assert log.events[1].untrusted_data == b"x"

    def test_a_header_alone_is_a_log(self) -> None:
        assert len(parse_event_log(agile()).events) == 1

    @pytest.mark.parametrize(
        ("header", "offset", "message"),
        [
            (spec_id({}), 56, "0 algorithms"),
            (spec_id({0x0B: 20}), 60, "sha256 digests of 20 bytes"),
            (spec_id({0x27: 9, 0x28: 9}).replace(b"\x28\0", b"\x27\0"), 64, "twice"),
            (sha1_record(0, 3, bytes(20), b"Spec ID Event03\0"), 48, "platform class"),
        ],
    )
    def test_a_damaged_header_is_refused(
        self, header: bytes, offset: int, message: str
    ) -> None:
        with pytest.raises(FormatError, match=message) as info:
            parse_event_log(header)
        assert info.value.offset == offset

    def test_a_table_of_four_thousand_million_algorithms_is_refused(self) -> None:
        header = spec_id(TWO_BANKS)
        hostile = header[:56] + b"\xff" * 4 + header[60:]
        with pytest.raises(FormatError, match="4294967295 algorithms at offset 56"):
            parse_event_log(hostile)

    @pytest.mark.parametrize(
        ("digests", "offset", "message"),
        [
            (BOTH[:1] * 2, 12 + 22, "second digest of 0x0004"),
            ([(0x0C, bytes(48))], 12, "0x000c, which the header does not name"),
            ([*BOTH, BOTH[0]], 8, "claims 3 digests, the header names 2"),
        ],
    )
    def test_digests_that_the_header_does_not_allow_are_refused(
        self, digests: list[tuple[int, bytes]], offset: int, message: str
    ) -> None:
        with pytest.raises(FormatError, match=message) as info:
            parse_event_log(agile(agile_record(17, 0x402, digests)))
        assert info.value.offset == len(agile()) + offset


class TestSha1:
    def test_a_log_may_start_with_any_record(self) -> None:
        log = parse_event_log(OLD_LAUNCH)
        assert (log.format, log.algorithms) == ("tcg-sha1", (SHA1,))
        assert [each.name for each in log.events] == ["HASH_START", "MLE_HASH"]
        assert log.events[0].digests[SHA1].value == b"\x01" * 20
        assert log.events[0].untrusted_data == b"acm"

    def test_the_headers_of_older_specifications_are_ordinary_records(self) -> None:
        header = sha1_record(0, 3, bytes(20), b"Spec ID Event00\0" + bytes(9))
        log = parse_event_log(header + OLD_LAUNCH)
        assert (log.format, len(log.events)) == ("tcg-sha1", 3)

    def test_a_log_may_start_with_the_txt_mapping_record(self) -> None:
        log = parse_event_log(sha1_record(255, 0x401, bytes(20), bytes(4)))
        assert log.events[0].name == "PCR_MAPPING"


class TestStartupLocality:
    @pytest.mark.parametrize("locality", [0, 3, 4])
    def test_it_is_read_from_either_format(self, locality: int) -> None:
        data = LOCALITY + bytes([locality])
        new = agile(agile_record(0, 3, [(4, bytes(20)), (0x0B, bytes(32))], data))
        old = sha1_record(0, 3, bytes(20), data)
        assert parse_event_log(new).startup_locality == locality
        assert parse_event_log(old).startup_locality == locality

    @pytest.mark.parametrize("value", [b"", b"\1", b"\2", b"\5", b"\xff", b"\0\0"])
    def test_any_other_value_is_refused(self, value: bytes) -> None:
        log = agile(agile_record(0, 3, BOTH, LOCALITY + value))
        with pytest.raises(FormatError, match="event 1: startup locality") as info:
            parse_event_log(log)
        assert info.value.offset == len(log) - len(value)

    def test_two_that_differ_are_refused(self) -> None:
        one, other = (
            agile_record(0, 3, BOTH, LOCALITY + each) for each in (b"\0", b"\3")
        )
        with pytest.raises(LogError, match=r"localities \[0, 3\]"):
            parse_event_log(agile(one, other))
        assert parse_event_log(agile(other, other)).startup_locality == 3

    @pytest.mark.parametrize(("pcr", "kind"), [(1, 3), (0, 8)])
    def test_it_counts_in_pcr_0_and_ev_no_action_only(
        self, pcr: int, kind: int
    ) -> None:
        log = agile(agile_record(pcr, kind, BOTH, LOCALITY + b"\x03"))
        assert parse_event_log(log).startup_locality == 0


class TestWhereALogEnds:
    @pytest.mark.parametrize("log", [LAUNCH, OLD_LAUNCH], ids=["agile", "sha1"])
    @pytest.mark.parametrize("fill", [b"\0", b"\xff"], ids=["00", "FF"])
    @pytest.mark.parametrize("count", [5, 16, 31, 32, 33, 8192])
    def test_the_rest_of_a_fixed_size_buffer_is_no_record(
        self, log: bytes, fill: bytes, count: int
    ) -> None:
        assert parse_event_log(log + fill * count) == parse_event_log(log)

    @pytest.mark.parametrize("log", [LAUNCH, OLD_LAUNCH], ids=["agile", "sha1"])
    @pytest.mark.parametrize("tail", [b"\0" * 4, b"\xff", b"\0" * 9 + b"\1", b"tail"])
    def test_anything_else_is_a_record_that_was_cut_off(
        self, log: bytes, tail: bytes
    ) -> None:
        with pytest.raises(FormatError) as info:
            parse_event_log(log + tail)
        assert len(log) <= info.value.offset <= len(log + tail)

    @pytest.mark.parametrize(
        ("log", "ends"),
        [
            (LAUNCH, [69, 144, 220, 270]),
            (OLD_LAUNCH, [35, 67]),
        ],
        ids=["agile", "sha1"],
    )
    def test_every_cut_within_a_record_is_refused_with_its_offset(
        self, log: bytes, ends: list[int]
    ) -> None:
        for size in range(len(log) + 1):
            if size in ends:
                assert len(parse_event_log(log[:size]).events) == ends.index(size) + 1
                continue
            with pytest.raises(FormatError) as info:
                parse_event_log(log[:size])
            assert info.value.offset <= size

    def test_a_claim_of_4_gib_in_100_bytes_allocates_nothing(self) -> None:
        for log in (
            struct.pack("<II20sI", 17, 0x402, b"", 0xFFFFFFFF) + bytes(68),
            agile(struct.pack("<IIII", 17, 0x402, 0, 0xFFFFFFFF)),
        ):
            tracemalloc.start()
            with pytest.raises(FormatError, match="data needs 4294967295 bytes"):
                parse_event_log(log)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 100_000

    def test_the_number_of_events_is_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcg_log, "MAXIMAL_EVENTS", 3)
        record = sha1_record(1, 1, b"\1" * 20)
        assert len(parse_event_log(record * 3).events) == 3
        with pytest.raises(FormatError, match="goes on after 3 events at offset 96"):
            parse_event_log(record * 4)


class TestForeignFiles:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0",
            b"\0" * 4096,
            b"\xff" * 4096,
            b"bogus\ninvalid\nevent\nlog\n",
            b"\x7fELF\2\1\1" + bytes(57),
            b"\x1f\x8b\x08\0\0\0\0\0",
            b"TXT Event Con",
            b"070701" + b"0" * 104,
        ],
    )
    def test_they_are_refused_at_offset_0(self, data: bytes) -> None:
        with pytest.raises(FormatError, match="at offset") as info:
            parse_event_log(data)
        assert info.value.offset in (0, 1)


@given(st.binary(max_size=300))
@example(b"\0" * 7)
def test_arbitrary_bytes_raise_evidence_errors_only(data: bytes) -> None:
    for head in (b"", spec_id(TWO_BANKS), OLD_LAUNCH):
        try:
            log = parse_event_log(head + data)
        except EvidenceError:
            continue
        assert len(log.events) <= 1 + (len(head) + len(data)) // 16


pcrs = st.one_of(st.integers(0, 23), st.just(255), st.integers(0, 2**32 - 1))
types = st.one_of(st.sampled_from([4, 0x402, 0x501, 0x999]), st.integers(4, 2**32 - 1))
unknown = {0x27: 32, 0x999: 7}
tables = st.lists(st.sampled_from([*SIZES, *unknown]), min_size=1, unique=True)


@st.composite
def agile_logs(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, ...]], bytes]:
    table = draw(tables)
    sizes = {**SIZES, **unknown}
    data = spec_id({each: sizes[each] for each in table}, draw(st.binary(max_size=19)))
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        used = draw(st.lists(st.sampled_from(table), unique=True))
        digests = [
            (each, draw(st.binary(min_size=sizes[each], max_size=sizes[each])))
            for each in used
        ]
        pcr, kind, payload = draw(pcrs), draw(types), draw(st.binary(max_size=9))
        data += agile_record(pcr, kind, digests, payload)
        rows.append((pcr, kind, len(payload), *(each for each, _ in digests)))
    return table, rows, data


@given(agile_logs())
def test_what_the_specification_lets_one_write_is_read_back(
    written: tuple[list[int], list[tuple[int, ...]], bytes],
) -> None:
    table, rows, data = written
    log = parse_event_log(data)
    assert [each.tcg_id for each in log.algorithms] == [x for x in table if x in SIZES]
    assert list(log.unknown_algorithms) == [x for x in table if x in unknown]
    read = [
        (
            event.pcr,
            event.untrusted_type,
            len(event.untrusted_data),
            *(each.tcg_id for each in event.digests),
        )
        for event in log.events[1:]
    ]
    expected = [(*row[:3], *(x for x in row[3:] if x in SIZES)) for row in rows]
    assert read == expected


records = st.tuples(
    pcrs, types, st.binary(min_size=20, max_size=20), st.binary(max_size=9)
)


@given(st.lists(records, max_size=4))
def test_sha1_records_are_read_back(
    rows: list[tuple[int, int, bytes, bytes]],
) -> None:
    data = OLD_LAUNCH + b"".join(sha1_record(*row) for row in rows)
    events = parse_event_log(data).events[2:]
    assert [
        (each.pcr, each.untrusted_type, each.digests[SHA1].value, each.untrusted_data)
        for each in events
    ] == rows
