# SPDX-License-Identifier: GPL-2.0-or-later
"""Every log of a real machine, damaged: documented errors only, wherever it hits."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from txt_heap_bytes import BASE, LOG_OFFSET, Heap, agile_pointer, container_pointer

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.replay import replay
from aemseal.words.errors import EvidenceError, FormatError, LogError

pytestmark = needs_vectors

LOGS = sorted(
    path for path in VECTORS.rglob("*") if path.suffix == ".bin" and path.is_file()
)
DRTM = [path for path in LOGS if path.parent.name == "drtm"]
SMALL = 2048


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def in_a_heap(path: Path) -> bytes:
    """The log where tboot keeps it: in the heap, named by its physical address."""
    log, address = path.read_bytes(), BASE + LOG_OFFSET
    if log.startswith(b"TXT Event Container"):
        return bytes(Heap(container_pointer(address), log))
    return bytes(Heap(agile_pointer(address, len(log)), log))


changes = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6
)


def damaged(data: bytes, places: list[tuple[int, int]]) -> bytes:
    copy = bytearray(data)
    for place, value in places:
        copy[place % len(copy)] = value
    return bytes(copy)


@pytest.mark.parametrize("path", LOGS, ids=names_of(LOGS))
@given(places=changes, keep=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_a_changed_and_cut_log_raises_evidence_errors_only(
    path: Path, places: list[tuple[int, int]], keep: int
) -> None:
    data = damaged(path.read_bytes(), places)
    with contextlib.suppress(FormatError, LogError):
        log = parse_event_log(data[: keep % len(data) + 1])
        with contextlib.suppress(EvidenceError):
            replay(log)


@pytest.mark.parametrize("path", DRTM, ids=names_of(DRTM))
@pytest.mark.parametrize("value", [0x00, 0xFF, 0x01])
def test_each_byte_of_a_launchs_log_may_be_any(path: Path, value: int) -> None:
    data = path.read_bytes()
    for place in range(min(len(data), SMALL)):
        with contextlib.suppress(FormatError, LogError):
            parse_event_log(damaged(data, [(place, value)]))


@pytest.mark.parametrize("path", DRTM, ids=names_of(DRTM))
@given(places=changes)
@settings(max_examples=40, deadline=None)
def test_so_may_they_in_a_heap(path: Path, places: list[tuple[int, int]]) -> None:
    heap = in_a_heap(path)
    hit = [(LOG_OFFSET + place % SMALL, value) for place, value in places]
    for data in (damaged(heap, hit), damaged(heap, places)):
        with contextlib.suppress(FormatError, LogError):
            parse_event_log(data)
