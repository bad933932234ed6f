# SPDX-License-Identifier: GPL-2.0-or-later
"""What every reader of bytes promises, whatever the bytes are, and the test of it.

It raises documented errors alone; an offset that it names lies within the bytes; its
memory is bounded by a fixed part and a part in proportion to the bytes, and so is its
time. What it accepts is sound: each target looks at that itself.
"""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from aemseal.words.errors import FormatError

KIB, MIB = 1 << 10, 1 << 20

_MEASURED_ONE_IN = 32
"""Measuring memory makes a reader several times as slow."""

_MOST_WORDS = 4 * KIB
"""Characters of an error's message beyond those of the input that it may quote."""


class BrokenError(AssertionError):
    """A reader broke its promise; the message says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of bytes that somebody else wrote.

    `read` raises one of `errors`, or AssertionError where what it accepted is not
    sound. `most` is the longest input that is tried, in bytes. Memory may take
    `base` bytes, and `factor` more for each byte of input; time `seconds` of the
    processor. `names_place` is false where an offset counts in what was unpacked or
    loaded, which may be longer than the input.
    """

    name: str
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    most: int = 4 * KIB
    base: int = MIB
    factor: int = 64
    seconds: float = 2.0
    names_place: bool = True

    @property
    def corpus(self) -> tuple[bytes, ...]:
        """The seeds that are not too long, without doubles."""
        return _corpus(self)


@cache
def _corpus(target: Target) -> tuple[bytes, ...]:
    seeds = dict.fromkeys(target.seeds())
    return tuple(each for each in seeds if len(each) <= target.most)


def hold(target: Target, data: bytes, *, measured: bool | None = None) -> bool:
    """Hold a reader to its promise; return whether it accepted the bytes.

    Memory is measured when `measured` says so; left out, for one input in 32, always
    the same ones. BrokenError for what it may not take or say; other errors that are
    not the target's go through.
    """
    if measured is None:
        measured = zlib.crc32(data) % _MEASURED_ONE_IN == 0
    if measured:
        tracemalloc.start()
    start = time.process_time()
    try:
        return _read(target, data)
    finally:
        took = time.process_time() - start
        peak = 0
        if measured:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        _require_bounds(target, len(data), took, peak)


def _read(target: Target, data: bytes) -> bool:
    try:
        target.read(data)
    except target.errors as error:
        _require_words(target, error, len(data))
        return False
    return True


def _require_bounds(target: Target, size: int, took: float, peak: int) -> None:
    if took > target.seconds:
        raise BrokenError(f"{target.name}: {size} bytes took {took:.1f} s")
    if peak > target.base + target.factor * size:
        raise BrokenError(f"{target.name}: {size} bytes took {peak / MIB:.1f} MiB")


def _require_words(target: Target, error: Exception, size: int) -> None:
    if len(str(error)) > _MOST_WORDS + size:
        raise BrokenError(f"{target.name}: an error of {len(str(error))} characters")
    place = error.offset if isinstance(error, FormatError) else 0
    if target.names_place and not 0 <= place <= size:
        raise BrokenError(f"{target.name}: {size} bytes, and an error {error}")
