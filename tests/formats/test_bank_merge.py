# SPDX-License-Identifier: GPL-2.0-or-later
"""Joining the logs of several banks: what is one event, and what is left open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from per_bank_bytes import Row, digest_of

from aemseal.formats.bank_merge import BankLog, merge_banks
from aemseal.measure.replay import replay
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import LogError
from aemseal.words.events import Event, EventLog

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
SHA384 = HashAlgorithm.SHA384
START: Row = (17, 0x402, b"acm")
MAPPING: Row = (255, 0x401, b"\1\0\0\0")
MLE: Row = (17, 0x404, b"")
KEY: Row = (18, 0x410, b"")
TBOOT: Row = (17, 0x501, b"")
POLICY: Row = (18, 0x501, b"")


def bank(algorithm: HashAlgorithm, *rows: Row, fill: bytes | None = None) -> BankLog:
    """One bank's log; each digest is told by its row, or by `fill` and its place."""
    events = []
    for number, row in enumerate(rows):
        value = digest_of(algorithm.tcg_id, row)
        if fill is not None:
            value = (fill + bytes([number])).ljust(algorithm.size, b"\0")
        digests = {algorithm: Digest(algorithm, value)}
        events.append(Event(number, row[0], row[1], digests, row[2]))
    return BankLog(algorithm, tuple(events))


def told(*banks: BankLog) -> list[tuple[Row, set[str]]]:
    return [
        (
            (each.pcr, each.untrusted_type, each.untrusted_data),
            {str(algorithm) for algorithm in each.digests},
        )
        for each in merge_banks(banks)
    ]


BOTH, ONE, TWO = {"sha1", "sha256"}, {"sha1"}, {"sha256"}


def test_banks_that_run_in_parallel_are_joined_event_by_event() -> None:
    rows = (START, MAPPING, MLE, TBOOT, TBOOT)
    merged = told(bank(SHA1, *rows), bank(SHA256, *rows))
    assert merged == [(row, BOTH) for row in rows]


def test_events_are_numbered_anew() -> None:
    merged = merge_banks([bank(SHA1, START, MLE), bank(SHA256, START, KEY, MLE)])
    assert [each.number for each in merged] == [0, 1, 2]


def test_the_same_measurement_again_is_joined_in_its_order() -> None:
    one, two = (bank(each, *[TBOOT] * 3, fill=b"n") for each in (SHA1, SHA256))
    digests = [
        (each.digests[SHA1].value[1], each.digests[SHA256].value[1])
        for each in merge_banks([one, two])
    ]
    assert digests == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("last", [(TBOOT, POLICY), (TBOOT, POLICY, TBOOT, TBOOT)])
def test_what_tboot_extended_in_one_bank_only_has_that_banks_digest(
    last: tuple[Row, ...],
) -> None:
    whole, part = bank(SHA256, START, MLE, *last), bank(SHA1, START, MLE)
    expected = [(START, BOTH), (MLE, BOTH), *((row, TWO) for row in last)]
    assert told(whole, part) == expected
    assert told(part, whole) == expected


def test_no_digest_is_invented_for_the_bank_that_lacks_an_event() -> None:
    banks = [bank(SHA1, START), bank(SHA256, START, TBOOT)]
    log = EventLog("tpm2-per-bank", (SHA1, SHA256), merge_banks(banks))
    assert replay(log).missing == {SHA1: {17: (1,)}, SHA256: {17: ()}}


def test_each_bank_keeps_its_order_around_what_is_its_own() -> None:
    merged = told(bank(SHA1, START, KEY, MLE), bank(SHA256, START, POLICY, MLE, TBOOT))
    assert merged == [
        (START, BOTH),
        (KEY, ONE),
        (POLICY, TWO),
        (MLE, BOTH),
        (TBOOT, TWO),
    ]


def test_three_banks_are_joined_one_after_the_other() -> None:
    merged = told(
        bank(SHA1, START, MLE),
        bank(SHA256, START, MLE, TBOOT),
        bank(SHA384, START, TBOOT),
    )
    assert merged == [
        (START, {"sha1", "sha256", "sha384"}),
        (MLE, BOTH),
        (TBOOT, {"sha256", "sha384"}),
    ]


class TestListedTwice:
    @pytest.mark.parametrize("swapped", [False, True])
    def test_a_repeat_of_hash_start_stays_an_event_of_that_bank(
        self, swapped: bool
    ) -> None:
        twice = bank(SHA1, START, START, MAPPING, MAPPING, MLE)
        once = bank(SHA256, START, MAPPING, MLE)
        banks = (once, twice) if swapped else (twice, once)
        assert told(*banks) == [
            (START, BOTH),
            (START, ONE),
            (MAPPING, BOTH),
            (MAPPING, ONE),
            (MLE, BOTH),
        ]

    def test_two_that_differ_are_no_repeat(self) -> None:
        two = bank(SHA1, START, START, fill=b"n")
        for banks in ([two, bank(SHA256, START)], [bank(SHA256, START), two]):
            with pytest.raises(LogError, match="HASH_START of PCR 17 is listed"):
                merge_banks(banks)


class TestRefusals:
    def test_a_measurement_that_one_bank_lists_more_often(self) -> None:
        banks = [bank(SHA1, START, TBOOT), bank(SHA256, START, TBOOT, TBOOT)]
        with pytest.raises(LogError) as info:
            merge_banks(banks)
        assert info.value.message == (
            "TBOOT of PCR 17 is listed 2 times in the sha256 bank (first as event 1) "
            "and 1 times in the banks before it: which digests belong together is open"
        )
        assert info.value.hint == "give txt-stat's text log, or the crypto-agile log"

    def test_measurements_in_another_order(self) -> None:
        banks = [bank(SHA1, START, KEY, MLE), bank(SHA256, START, MLE, KEY)]
        with pytest.raises(LogError) as info:
            merge_banks(banks)
        assert info.value.message == (
            "the sha256 bank lists event 1 (MLE_HASH, PCR 17) in another order than "
            "the banks before it"
        )

    def test_other_data_at_the_same_place(self) -> None:
        other = (START[0], START[1], b"another acm")
        with pytest.raises(LogError) as info:
            merge_banks([bank(SHA1, START, MLE), bank(SHA256, other, MLE)])
        assert info.value.message == (
            "event 0 of the sha256 bank (HASH_START, PCR 17) has other data than in "
            "the banks before it"
        )

    def test_other_data_of_what_is_not_extended_is_no_contradiction(self) -> None:
        other = (255, 0x401, b"\0\0\0\0")
        merged = told(bank(SHA1, MAPPING, MLE), bank(SHA256, other, MLE))
        assert merged == [(MAPPING, ONE), (other, TWO), (MLE, BOTH)]

    def test_a_bank_of_other_digests_is_never_made(self) -> None:
        with pytest.raises(ValueError, match="another bank in the log of sha256"):
            BankLog(SHA256, bank(SHA1, START).events)


POOL = (START, MAPPING, MLE, KEY, TBOOT, POLICY, (17, 0x40B, b"\0"), (18, 0x40B, b"\0"))
logged = st.lists(st.sampled_from(POOL), max_size=7)


@given(st.lists(logged, min_size=1, max_size=3))
def test_every_bank_replays_as_it_would_alone(banks: list[list[Row]]) -> None:
    algorithms = (SHA1, SHA256, SHA384)[: len(banks)]
    logs = [bank(each, *rows) for each, rows in zip(algorithms, banks, strict=True)]
    try:
        merged = merge_banks(logs)
    except LogError:
        return
    for algorithm, log in zip(algorithms, logs, strict=True):
        mine = [each for each in merged if algorithm in each.digests]
        assert [
            (each.pcr, each.untrusted_type, each.digests[algorithm]) for each in mine
        ] == [
            (each.pcr, each.untrusted_type, each.digests[algorithm])
            for each in log.events
        ]


@given(st.lists(st.sampled_from(POOL), max_size=7, unique=True), st.data())
def test_banks_that_leave_out_events_are_always_joined(
    rows: list[Row], data: st.DataObject
) -> None:
    banks = [
        bank(each, *(row for row in rows if data.draw(st.booleans())))
        for each in (SHA1, SHA256)
    ]
    merged = told(*banks)
    assert len(merged) == len({row for row, _ in merged})
