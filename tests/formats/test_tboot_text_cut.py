# SPDX-License-Identifier: GPL-2.0-or-later
"""Text of tboot's that is cut off, damaged or hostile: refused, and where."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given
from hypothesis import strategies as st
from tboot_texts import (
    SHA1,
    SHA256,
    SM3,
    agile,
    agile_record,
    bank,
    banks,
    container,
    empty_agile,
    measurements,
    record,
    sized,
)

from aemseal.formats import tboot_text
from aemseal.formats.tboot_text import parse_tboot_text
from aemseal.words.errors import EvidenceError, FormatError, LogError

BOTH = {SHA1: b"\1" * 20, SHA256: b"\2" * 32}
SINIT = [(17, 0x402, BOTH, bytes(range(36))), (18, 0x410, BOTH, b"")]
LIST_12 = measurements([(17, {SHA1: b"\3" * 20}), (19, {SHA1: b"\4" * 20})])
RECORDS_12 = record(17, 0x501, b"\3" * 20) + record(19, 0x501, b"\4" * 20)
TEXT_12 = container(SINIT) + LIST_12 + RECORDS_12
TEXT_AGILE = (
    agile([SHA1, SHA256], SINIT)
    + measurements([(17, BOTH)])
    + agile_record(17, 0x501, BOTH, b"")
)
TEXT_BANKS = (
    banks({SHA1: SINIT, SHA256: SINIT})
    + measurements([(17, BOTH)])
    + record(17, 0x501, BOTH[SHA1])
    + record(17, 0x501, BOTH[SHA256])
)
TEXTS = [TEXT_12, TEXT_AGILE, TEXT_BANKS]


def refused(text: str, what: str, error: type[EvidenceError] = FormatError) -> None:
    with pytest.raises(error, match=what):
        parse_tboot_text(text.encode("ascii"))


@pytest.mark.parametrize("text", TEXTS)
def test_every_cut_before_the_list_s_end_is_refused_where_the_text_ends(
    text: str,
) -> None:
    list_end = text.index("TPM: seal data")
    for size in range(list_end):
        data = text[:size].encode("ascii")
        with pytest.raises(EvidenceError) as info:
            parse_tboot_text(data)
        if isinstance(info.value, FormatError):
            assert info.value.offset <= size


@pytest.mark.parametrize("text", TEXTS)
def test_a_cut_among_tboots_records_never_shortens_the_log(text: str) -> None:
    whole = parse_tboot_text(text.encode("ascii"))
    for size in range(text.index("TPM: seal data") + 1, len(text)):
        with contextlib.suppress(FormatError):
            log = parse_tboot_text(text[:size].encode("ascii"))
            assert (log.events, log.algorithms) == (whole.events, whole.algorithms)


@pytest.mark.parametrize("text", TEXTS)
def test_a_lost_line_never_gives_another_log(text: str) -> None:
    lines = text.splitlines(keepends=True)
    whole = parse_tboot_text(text.encode("ascii"))
    refusals = 0
    for place in range(len(lines)):
        data = "".join([*lines[:place], *lines[place + 1 :]]).encode("ascii")
        try:
            assert parse_tboot_text(data).events == whole.events
        except EvidenceError:
            refusals += 1
    assert refusals >= len(lines) - 8, "only lines that say nothing may be lost"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("TXT Event Container", "TXT Event Contained", "no TXT event container"),
        ("[48,148]", "[148,48]", "'EventsOffset' is no range"),
        ("[48,148]", "48,148", "'EventsOffset' is no range"),
        ("[48,148]", "[48,149]", "the line 'Event:' is missing"),
        ("[48,148]", "[48,147]", "records end at 148 and not at 147"),
        ("PCRIndex: 17", "PCRIndex: seventeen", "'PCRIndex' is no number of 32 bits"),
        ("PCRIndex: 17", "PCRIndex: 017", "'PCRIndex' is no number of 32 bits"),
        ("PCRIndex: 17", "PCRIndex: 4294967296", "'PCRIndex' is no number"),
        ("PCRIndex: 17\n", "PCRIndex 17\n", "the line 'PCRIndex' is missing"),
        ("Digest: 01", "Digest: 0g", "20 bytes of hex are missing"),
        ("Digest: 01 ", "Digest: ", "not as long as its bank's"),
        ("Digest: 01 ", "Digest: 01 01 ", "not as long as its bank's"),
        ("Data: 36 bytes", "Data: many bytes", "'Data' is no number of bytes"),
        ("Data: 36 bytes", "Data: 37 bytes", "'Data' is not 37 bytes of hex"),
        ("Data: 36 bytes", "Data: 35 bytes", "'Data' is not 35 bytes of hex"),
        ("0e 0f \n", "0e 0 \n", "'Data' is not 36 bytes of hex"),
        ("0e 0f \n", "0e \n", "'Data' is not 36 bytes of hex"),
        ("Type: 0x501", "Type: 0x402", "a record of type 0x402 outside a log"),
        ("PCR 19", "PCR 24", "there is no PCR 24"),
        ("PCR 19 (alg", "PCR 19 (bank", "a measurement is damaged or cut off"),
        ("alg count 1", "alg count 0", "a measurement in 0 banks"),
        ("alg count 1", "alg count 2", "a digest is missing"),
        ("alg 0004: 03", "alg 0004: ", "20 bytes of hex are missing"),
        ("alg 0004: 03", "alg 0004: 33", "records are not those of its VL"),
        ("PCR 19 (", "PCR 18 (", "records are not those of its VL"),
    ],
)
def test_what_is_damaged_is_named(old: str, new: str, what: str) -> None:
    assert old in TEXT_12
    refused(TEXT_12.replace(old, new, 1), what)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Spec ID Event03", "Spec ID Event02", "no Spec ID record"),
        ("event_data_size: 37", "event_data_size: 38", "record is not of 38 bytes"),
        ("number_of_algorithms: 2", "number_of_algorithms: 0", "0 banks"),
        ("number_of_algorithms: 2", "number_of_algorithms: 17", "17 banks"),
        ("algorithm_id: 0xb", "algorithm_id: 0x4", "sha1 digests of 32 bytes"),
        ("spec_errata: 0", "spec_errata: 256", "'spec_errata' is no number of 8 bits"),
        ("count: 2", "count: 0", "0 digests"),
        ("SHA256: \n", "SHA1: \n", "'SHA1:' instead of the next digest"),
        ("SHA256: \n", "SHA3: \n", "'SHA3:' instead of the next digest"),
        ("[0,", "[1,", "records end at"),
    ],
)
def test_what_is_damaged_in_a_crypto_agile_log_is_named(
    old: str, new: str, what: str
) -> None:
    assert old in TEXT_AGILE
    refused(TEXT_AGILE.replace(old, new, 1), what)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("count: 2", "count: 0", "0 banks"),
        ("count: 2", "count: 3", "the next bank's log is missing"),
        ("Alg: 11", "Alg: 4", "not as long as its bank's|adds|end at|digest"),
        ("Type: 0x3", "Type: 0x4", "the log of the sha256 bank has no head"),
    ],
)
def test_what_is_damaged_in_a_log_kept_bank_by_bank_is_named(
    old: str, new: str, what: str
) -> None:
    assert old in TEXT_BANKS
    refused(TEXT_BANKS.replace(old, new, 1), what)


def test_a_bank_s_head_is_of_28_bytes() -> None:
    indent = "\t\t\t         "
    head, other = (sized(f"{indent}Data", bytes(n), indent) for n in (28, 27))
    refused(TEXT_BANKS.replace(head, other, 1), "head of the sha256 bank is of another")


def test_a_bank_is_printed_once() -> None:
    text = banks({SHA1: SINIT, SHA256: SINIT})
    twice = text.replace(bank(SHA256, SINIT), bank(SHA1, SINIT))
    refused(twice, "a second log of the sha1 bank")


def test_banks_that_are_not_known_are_named() -> None:
    refused(
        TEXT_BANKS.replace("Alg: 11", "Alg: 119"),
        "bank of algorithm 0x0077, which is not known",
        LogError,
    )
    refused(
        TEXT_AGILE.replace("SHA256: \n", "Unsupported algorithm: 119\n"),
        "could not print the event log: Unsupported algorithm: 119",
        LogError,
    )
    refused(
        TEXT_12.replace("alg 0004", "alg 0077"),
        "extends a bank of algorithm 0x0077",
        LogError,
    )


def test_a_list_and_its_log_have_the_same_banks() -> None:
    text = container(SINIT) + measurements([(17, BOTH)])
    refused(text, "PCR 17 is extended in a bank that the event log does not have")
    text = agile([SHA1], [(17, 0x402, BOTH, b"")])
    refused(text, "a digest of a bank that the head does not name")


def test_a_bank_is_listed_once_in_a_measurement() -> None:
    text = container(SINIT) + measurements([(17, BOTH)])
    text = text.replace("alg 000B", "alg 0004").replace("02 " * 32, "02 " * 20)
    refused(text, "a second sha1 digest")


def test_a_list_without_an_entry_is_damaged() -> None:
    refused(container(SINIT) + measurements([]), "a measurement is damaged")


def test_records_that_fit_two_banks_need_the_list() -> None:
    two = {SHA256: b"\1" * 32, SM3: b"\2" * 32}
    text = agile(list(two), []) + agile_record(17, 0x501, two, b"")
    refused(text, "no VL measurements say which bank")
    text = banks({SHA1: SINIT, SHA256: SINIT}) + record(17, 0x501, BOTH[SHA1])
    refused(text, "no VL measurements say which bank")


@pytest.mark.parametrize(
    "empty", [container([]), empty_agile(), banks({SHA1: [], SHA256: []})]
)
def test_a_launch_whose_log_is_not_shown_hides_behind_no_older_one(empty: str) -> None:
    refused(TEXT_12 + empty, "the last event log is empty")
    refused(empty, "no event log, and not the tables to rebuild it from")


def test_an_older_launch_s_list_ends_no_log_without_records() -> None:
    refused(TEXT_12 + container(SINIT), "it ends before tboot's measurements")


def test_a_log_without_tboots_measurements_is_cut_off() -> None:
    refused(container(SINIT), "it ends before tboot's measurements")


def test_the_size_of_a_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tboot_text, "MOST_BYTES", len(TEXT_12))
    parse_tboot_text(TEXT_12.encode("ascii"))
    refused(TEXT_12 + "\n", f"more than {len(TEXT_12)} bytes")


def test_claims_of_size_allocate_nothing() -> None:
    refused(TEXT_12.replace("36 bytes", "4294967295 bytes"), "is not 4294967295 bytes")
    refused(TEXT_12.replace("[48,148]", "[48,4294967295]"), "'Event:' is missing")


@pytest.mark.parametrize(
    "flood",
    [
        lambda n: "TBOOT: " + " " * n,
        lambda n: "\n" * n + "TBOOT: x",
        lambda n: "[x\n" * (n // 3),
        lambda n: container([]) * (n // 250),
        lambda n: "TBOOT: \t VL measurements:\n" * (n // 26),
        lambda n: record(17, 0x501, b"\3" * 20) * (n // 200),
        lambda n: TEXT_12 + "Event:\n" * (n // 7),
    ],
)
def test_a_flood_of_anything_is_refused_in_time(flood: Callable[[int], str]) -> None:
    with contextlib.suppress(EvidenceError):
        parse_tboot_text(flood(1 << 20).encode("ascii"))


@needs_vectors
@pytest.mark.parametrize(
    "path", sorted((VECTORS / "drtm").glob("*.txt")), ids=lambda path: path.name[:30]
)
def test_changed_texts_of_real_machines_raise_evidence_errors_only(path: Path) -> None:
    data, chance = path.read_bytes(), random.Random(11)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(data))] = chance.choice(b"0: \nx\0\xff")
        with contextlib.suppress(EvidenceError):
            parse_tboot_text(bytes(changed[: chance.randrange(len(data) * 2)]))


@given(st.lists(st.sampled_from(TEXT_12.splitlines() + TEXT_AGILE.splitlines())))
def test_lines_in_any_order_raise_evidence_errors_only(lines: list[str]) -> None:
    with contextlib.suppress(EvidenceError):
        parse_tboot_text("\n".join(lines).encode("ascii"))
