# SPDX-License-Identifier: GPL-2.0-or-later
"""The TXT event container of a TPM 1.2."""

from __future__ import annotations

import contextlib
import struct

import pytest
from event_log_bytes import container, sha1_record
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats import tcg_log
from aemseal.formats.event_log import parse_event_log
from aemseal.formats.txt_log import parse_txt_container
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import EvidenceError, FormatError

RECORDS = (
    sha1_record(17, 0x402, b"\1" * 20, b"x" * 36)
    + sha1_record(255, 0x401, bytes(20), bytes(4))
    + sha1_record(17, 0x501, b"\2" * 20)
)


def test_a_container_is_told_by_its_signature() -> None:
    log = parse_event_log(container(RECORDS))
    assert (log.format, log.algorithms) == ("txt-container", (HashAlgorithm.SHA1,))
    assert [each.name for each in log.events] == ["HASH_START", "PCR_MAPPING", "TBOOT"]
    assert [each.number for each in log.events] == [0, 1, 2]
    assert [each.is_extended for each in log.events] == [True, False, True]


@pytest.mark.parametrize("rest", [bytes(9), b"\xff" * 9, b"stale bytes"])
def test_what_follows_the_last_record_is_not_read(rest: bytes) -> None:
    whole = parse_event_log(container(RECORDS))
    assert parse_event_log(container(RECORDS, padding=rest)) == whole


def test_a_container_may_be_empty() -> None:
    assert parse_event_log(container(b"")).events == ()


def test_it_must_have_the_signature() -> None:
    with pytest.raises(FormatError, match="no TXT event container at offset 0"):
        parse_txt_container(bytes(100))


def test_every_cut_is_refused_with_its_offset() -> None:
    data = container(RECORDS)
    for size in range(len(data)):
        with pytest.raises(FormatError) as info:
            parse_event_log(data[:size])
        assert info.value.offset <= size


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(FormatError, match=r"container version 2\.0 .* offset 32"):
        parse_event_log(container(RECORDS, major=2))
    changed = bytearray(container(RECORDS))
    changed[34] = 9
    with pytest.raises(FormatError, match=r"event version 9\.0 .* offset 34"):
        parse_event_log(bytes(changed))


@pytest.mark.parametrize(
    ("size", "first", "end"),
    [(20480, 47, 100), (20480, 60, 59), (100, 48, 101), (2**32 - 1, 2**32 - 1, 48)],
)
def test_offsets_that_contradict_each_other_are_refused(
    size: int, first: int, end: int
) -> None:
    data = container(RECORDS)
    hostile = data[:36] + struct.pack("<III", size, first, end) + data[48:]
    with pytest.raises(FormatError, match=f"from {first} to {end} of {size} bytes"):
        parse_event_log(hostile)


def test_a_record_ends_within_the_container() -> None:
    data = container(RECORDS + struct.pack("<II20sI", 17, 0x501, b"", 0xFFFFFFFF))
    with pytest.raises(FormatError, match="event 3: data needs 4294967295 bytes and 0"):
        parse_event_log(data + bytes(100))


def test_the_number_of_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcg_log, "MAXIMAL_EVENTS", 2)
    with pytest.raises(FormatError, match="goes on after 2 events"):
        parse_event_log(container(RECORDS))


@given(st.binary(max_size=200), st.binary(max_size=99))
def test_arbitrary_bytes_raise_evidence_errors_only(
    body: bytes, records: bytes
) -> None:
    for data in (b"TXT Event Container\0" + body, container(records)):
        with contextlib.suppress(EvidenceError):
            parse_event_log(data)
