# SPDX-License-Identifier: GPL-2.0-or-later
"""No bytes are worse than a refusal: every reader keeps what fuzz/contract.py says.

The same targets as `make fuzz` has, for a second or less each and without atheris.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.words.errors import FormatError, LogError
from fuzz.contract import MIB, BrokenError, Target, hold
from fuzz.targets import TARGETS

FORMATS = Path(__file__).resolve().parents[1] / "aemseal/formats"
READERS = re.compile(r"(?:parse|read|load|feed|evaluate)(?:_|$)")
"""Names of functions that take bytes which somebody else wrote."""

EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
EXTREMES = (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x40", bytes(4), b"\xff" * 8)
"""Sizes, offsets and counts that nothing can have: of 4 GiB, 2 GiB, 1 GiB and none."""


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """Read every seed once: what is made once and kept is no input's memory."""
    for target in TARGETS.values():
        for seed in target.corpus:
            hold(target, seed, measured=False)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with bits turned, cut off, blocks repeated, or sizes made extreme."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        block = data[at : at + length]
        match draw(st.sampled_from(["bit", "cut", "again", "out", "size", "any"])):
            case "bit" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "again":
                data[at:at] = block * draw(st.integers(1, 8))
            case "out":
                del data[at : at + length]
            case "size":
                extreme = draw(st.sampled_from(EXTREMES))
                data[at : at + len(extreme)] = extreme
            case "any":
                data[at : at + length] = draw(st.binary(max_size=64))
    return bytes(data)


@EVERY
def test_a_seed_is_read_or_refused(target: Target) -> None:
    outcomes = [hold(target, seed, measured=True) for seed in target.corpus]
    assert any(outcomes) or target.name == "luks_device", "the seeds reach nothing"


@EVERY
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_input_is_read_or_refused(
    target: Target, data: st.DataObject
) -> None:
    hold(target, data.draw(damaged(target.corpus))[: target.most], measured=False)


@EVERY
@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(target: Target, data: bytes) -> None:
    hold(target, data, measured=True)


@EVERY
def test_a_size_that_is_claimed_takes_no_memory(target: Target) -> None:
    claims = cycle(EXTREMES[:3])
    for seed in target.corpus[:3]:
        step = max(len(seed) // 16, 4)
        for place in sorted({*range(0, 64, 4), *range(0, len(seed), step)}):
            claim = next(claims)
            claimed = seed[:place] + claim + seed[place + len(claim) :]
            hold(target, claimed, measured=True)


# --- every reader has a target ---


def reader_names(path: Path) -> Iterator[str]:
    """Yield the readers of a module: public functions, methods of public classes."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and READERS.match(node.name):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if "Protocol" in {ast.unparse(base) for base in node.bases}:
                continue
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and READERS.match(each.name):
                    yield f"{node.name}.{each.name}"


@contextmanager
def calls_seen(seen: set[tuple[str, str]]) -> Iterator[None]:
    """Collect the file and name of every function that is called."""

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def test_every_reader_of_a_format_is_reached_by_a_target() -> None:
    seen: set[tuple[str, str]] = set()
    with calls_seen(seen):
        for target in TARGETS.values():
            for seed in target.corpus:
                hold(target, seed, measured=False)
    called = {(Path(file).name, name) for file, name in seen if str(FORMATS) in file}
    readers = {
        (path.name, name)
        for path in FORMATS.glob("*.py")
        for name in reader_names(path)
    }
    assert len(readers) > 40
    assert sorted(readers - called) == [], "add a target or a seed to fuzz/"


# --- the contract itself ---


def reader(read: Callable[[bytes], object]) -> Target:
    return Target("made", read, (FormatError,), lambda: [b""], seconds=0.2)


def raising(error: Exception) -> Target:
    def read(data: bytes) -> None:
        raise error

    return reader(read)


class TestContract:
    def test_a_documented_error_is_a_refusal(self) -> None:
        assert hold(reader(len), b"abc")
        assert not hold(raising(FormatError("no", 3)), b"abc")

    @pytest.mark.parametrize(
        "error", [ValueError("x"), LogError("x"), RecursionError(), MemoryError()]
    )
    def test_any_other_error_goes_through(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            hold(raising(error), b"abc")

    @pytest.mark.parametrize("offset", [-1, 4])
    def test_an_offset_lies_within_the_bytes(self, offset: int) -> None:
        with pytest.raises(BrokenError, match="3 bytes, and an error"):
            hold(raising(FormatError("no", offset)), b"abc")

    def test_an_error_is_not_longer_than_a_person_reads(self) -> None:
        with pytest.raises(BrokenError, match="an error of 5"):
            hold(raising(FormatError("x" * 5000, 0)), b"abc")

    def test_memory_is_in_proportion(self) -> None:
        greedy = reader(lambda data: bytes(2 * MIB))
        assert hold(greedy, b"abc", measured=False)
        with pytest.raises(BrokenError, match=r"3 bytes took 2\.0 MiB"):
            hold(greedy, b"abc", measured=True)
        assert hold(greedy, bytes(MIB), measured=True)

    def test_time_is_bounded(self) -> None:
        slow = reader(lambda data: sum(range(30_000_000)))
        with pytest.raises(BrokenError, match="3 bytes took"):
            hold(slow, b"abc", measured=False)
