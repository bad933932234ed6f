# SPDX-License-Identifier: GPL-2.0-or-later
"""The event log in tboot's text: every kind of log that tboot prints."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from event_log_bytes import SIZES, VECTORS, needs_vectors
from hypothesis import given
from hypothesis import strategies as st
from tboot_texts import (
    SHA1,
    SHA256,
    SM3,
    Record,
    agile,
    agile_record,
    banks,
    container,
    empty_agile,
    measurements,
    record,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.tboot_text import is_tboot_text, parse_tboot_text
from aemseal.measure.quirks import LISTED_TWICE
from aemseal.measure.replay import replay
from aemseal.words.digest import HashAlgorithm
from aemseal.words.events import EventLog

DRTM = VECTORS / "drtm"
T460P = "tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt"
E5470 = "tboot-devel_2021-08-26_E5470_tpm20_1.10.2.txt"

BOTH = {SHA1: b"\1" * 20, SHA256: b"\2" * 32}
SINIT: list[Record] = [
    (17, 0x402, BOTH, bytes(range(36))),
    (255, 0x401, BOTH, bytes(4)),
    (18, 0x410, BOTH, b""),
]
OWN = [(17, {SHA256: b"\3" * 32}), (18, {SHA256: b"\4" * 32})]
OWN_12 = [(17, {SHA1: b"\3" * 20}), (19, {SHA1: b"\4" * 20})]
WHOLE_12 = (
    container(SINIT)
    + measurements(OWN_12)
    + record(17, 0x501, b"\3" * 20)
    + record(19, 0x501, b"\4" * 20)
)
WHOLE_AGILE = (
    empty_agile()
    + agile([SHA1, SHA256], SINIT)
    + measurements(OWN)
    + "".join(agile_record(pcr, 0x501, digests, b"") for pcr, digests in OWN)
)
WHOLE_BANKS = (
    banks({SHA1: SINIT, SHA256: SINIT})
    + measurements([(17, BOTH)])
    + record(17, 0x501, BOTH[SHA1])
    + record(17, 0x501, BOTH[SHA256])
)


def parse(text: str) -> EventLog:
    return parse_event_log(text.encode("ascii"))


def shown(log: EventLog) -> list[Record]:
    return [
        (
            event.pcr,
            event.untrusted_type,
            {each.tcg_id: digest.value for each, digest in event.digests.items()},
            event.untrusted_data,
        )
        for event in log.events
    ]


def in_banks(records: list[Record], *numbers: int) -> list[Record]:
    return [(p, k, {n: d[n] for n in numbers}, data) for p, k, d, data in records]


def own(entries: list[tuple[int, dict[int, bytes]]]) -> list[Record]:
    return [(pcr, 0x501, digests, b"") for pcr, digests in entries]


@needs_vectors
@pytest.mark.parametrize(
    ("text", "binary"),
    [(T460P, "rebuilt_T460p_tpm12.bin"), (E5470, "rebuilt_E5470_A_tpm20_tcg.bin")],
)
def test_a_text_gives_the_very_events_of_the_binary_log(text: str, binary: str) -> None:
    log = parse_event_log((DRTM / text).read_bytes())
    same = parse_event_log((DRTM / binary).read_bytes())
    assert (log.format, log.rebuilt) == ("tboot-text", False)
    assert (log.events, log.algorithms) == (same.events, same.algorithms)


@needs_vectors
@pytest.mark.parametrize(
    ("text", "vector"), [(T460P, "T460p-tpm12"), (E5470, "E5470-A-tpm20")]
)
def test_a_real_machines_text_gives_the_events_known_of_it(
    text: str, vector: str
) -> None:
    vectors = json.loads((DRTM / "tboot-vectors.json").read_text())
    (expected,) = (each for each in vectors if each["id"] == vector)
    log = parse_event_log((DRTM / text).read_bytes())
    events = [event for event in log.events if event.untrusted_type != 3]
    assert [
        {
            "pcr": event.pcr,
            "type": event.type_hex,
            "digests": {str(each): d.hex for each, d in event.digests.items()},
            "data": event.untrusted_data.hex(),
        }
        for event in events
    ] == expected["events"]
    for event in events:
        if event.untrusted_data and event.is_extended:
            data = event.untrusted_data
            for algorithm, digest in event.digests.items():
                hashed = algorithm.hash(data)
                assert digest in (hashed, algorithm.zero().extended(hashed))


@needs_vectors
def test_the_t460p_s_text_replays_to_its_pcrs() -> None:
    log = parse_event_log((DRTM / T460P).read_bytes())
    values = replay(log).banks[HashAlgorithm.SHA1].values
    assert {pcr: value.hex for pcr, value in values.items()} == {
        17: "564d58b956e12bd98c0917e0185387df53556cb5",
        18: "9b99b3b24834ffab56a950d1af833a437c90bc71",
        19: "7246dc40ea65de09e43f7663d0118ec12eb2abec",
    }


@needs_vectors
def test_a_hash_start_listed_twice_reaches_the_replay() -> None:
    excerpt = (DRTM / "opencit-63-nuc5i5myhe.txt").read_text().split("[excerpt")[0]
    # The excerpt has the first three of the records, of the first of two banks.
    excerpt = excerpt.replace("[0,1602]", "[0,172]").replace("count: 2", "count: 1")
    log = parse(excerpt + measurements([OWN_12[0]]) + record(17, 0x501, b"\3" * 20))
    assert [each.name for each in log.events] == [
        *("HASH_START", "HASH_START", "PCR_MAPPING", "TBOOT")
    ]
    assert LISTED_TWICE in {each.name for each in replay(log).quirks}


def test_a_tpm_12_container() -> None:
    log = parse(WHOLE_12)
    assert log.algorithms == (HashAlgorithm.SHA1,)
    assert shown(log) == in_banks(SINIT, SHA1) + own(OWN_12)
    assert not log.rebuilt


def test_older_versions_end_a_range_with_a_parenthesis() -> None:
    assert parse(WHOLE_12.replace("]", ")")) == parse(WHOLE_12)


def test_a_crypto_agile_log_with_tboot_in_one_bank() -> None:
    log = parse(WHOLE_AGILE)
    assert log.algorithms == (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
    assert log.events[0].name == "EV_NO_ACTION"
    assert shown(log)[1:] == SINIT + own(OWN)


def test_the_spec_id_record_is_as_it_was() -> None:
    text = agile([SHA1, 0x77], [], vendor=b"vendor!")
    log = parse(text + measurements([OWN_12[0]]))
    sizes = "0400140077002000"
    assert log.events[0].untrusted_data == (
        b"Spec ID Event03\0"
        + bytes.fromhex("000000000002000102000000" + sizes + "07")
        + b"vendor!"
    )
    assert log.unknown_algorithms == (0x77,)


@pytest.mark.parametrize("order", [(SHA1, SHA256), (SHA256, SHA1)])
def test_a_log_kept_bank_by_bank_is_joined(order: tuple[int, int]) -> None:
    text = WHOLE_BANKS.replace(
        banks({SHA1: SINIT, SHA256: SINIT}), banks(dict.fromkeys(order, SINIT))
    )
    log = parse(text)
    assert [each.tcg_id for each in log.algorithms] == list(order)
    assert shown(log) == [*SINIT, (17, 0x501, BOTH, b"")]


def test_a_bank_without_records_has_no_digests() -> None:
    log = parse(banks({SHA1: [], SHA256: SINIT}) + measurements(OWN))
    assert shown(log) == in_banks(SINIT, SHA256) + own(OWN)


def test_only_the_last_dump_counts() -> None:
    earlier = container([]) + container([(17, 0x402, BOTH, b"old"), *SINIT])
    assert parse(earlier + WHOLE_12) == parse(WHOLE_12)


@pytest.mark.parametrize(
    "empty", [container([]), empty_agile(), banks({SHA1: [], SHA256: []})]
)
def test_the_empty_dump_from_before_the_launch_does_not_count(empty: str) -> None:
    assert parse(empty + WHOLE_12) == parse(WHOLE_12)


def test_a_damaged_dump_does_no_harm_before_a_whole_one() -> None:
    assert parse(container(SINIT)[:-70] + "\n" + WHOLE_12) == parse(WHOLE_12)


def test_after_a_wake_from_s3_the_list_stands_before_the_dump() -> None:
    records = WHOLE_12.partition("seal data, return value = 00000001\n")[2]
    assert parse(WHOLE_12 + container(SINIT) + records) == parse(WHOLE_12)


def test_records_without_a_list_are_of_the_bank_they_fit() -> None:
    for text in (WHOLE_12, WHOLE_AGILE):
        before, _, rest = text.partition("TBOOT: \t VL measurements:\n")
        after = rest.partition("return value = 00000001\n")[2]
        assert parse(before + after) == parse(text)


def test_a_dump_printed_at_the_end_holds_tboots_records_too() -> None:
    whole = [*SINIT, (17, 0x501, BOTH, b"")]
    assert shown(parse(container(whole))) == in_banks(whole, SHA1)


def test_a_list_stands_in_for_records_that_tboot_did_not_append() -> None:
    log = parse(agile([SHA1, SHA256], SINIT) + measurements(OWN))
    assert shown(log)[1:] == SINIT + own(OWN)
    assert log.rebuilt


@pytest.mark.parametrize(
    "console",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("TBOOT: ", ""),
        lambda text: "".join(f"[12:03:44.1] {x}\n" for x in text.splitlines()),
        lambda text: "".join(f"(XEN) [ 1.25] {x}\n" for x in text.splitlines()),
        lambda text: "\x1b[H\x1b[JGNU GRUB\xa0\n" + text + "Linux version 6\n",
        lambda text: text.removesuffix("\n"),
    ],
)
@pytest.mark.parametrize("text", [WHOLE_12, WHOLE_AGILE, WHOLE_BANKS])
def test_what_a_console_adds_changes_nothing(
    text: str, console: Callable[[str], str]
) -> None:
    assert parse_tboot_text(console(text).encode("latin-1")) == parse(text)


def test_text_is_told_from_binary_logs_by_its_marks() -> None:
    assert is_tboot_text(b"x\nTBOOT: \t version: 6\n")
    assert is_tboot_text(b"Intel(r) TXT\nTBOOT log:\n\t max_size=32706\n")
    assert is_tboot_text(b"[0.1] TBOOT: x")
    assert not is_tboot_text(b"a text\nthat names TBOOT: once\n")
    assert not is_tboot_text(bytes(4) + b"\nTBOOT: \t version: 6\n")
    assert not is_tboot_text(b"")


digests = st.fixed_dictionaries(
    {number: st.binary(min_size=n, max_size=n) for number, n in SIZES.items()}
)
records = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        digests,
        st.binary(max_size=50),
    ),
    min_size=1,
    max_size=5,
)


@given(records, digests)
def test_a_text_comes_back_as_it_was_printed(
    printed: list[Record], own_digests: dict[int, bytes]
) -> None:
    mine = [(22, {SM3: own_digests[SM3], SHA1: own_digests[SHA1]})]
    text = agile(list(SIZES), printed) + measurements(mine)
    text += agile_record(22, 0x501, mine[0][1], b"")
    assert shown(parse(text))[1:] == printed + own(mine)
    text = container(printed) + measurements([(22, {SHA1: own_digests[SHA1]})])
    assert shown(parse(text))[:-1] == in_banks(printed, SHA1)
