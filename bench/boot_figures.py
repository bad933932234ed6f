# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of one boot, from what was seen of it: console, TPM commands, executions."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.counting_bus import NAMES

BEGINS = b"BENCH-BEGINS"
ENDS = b"BENCH-ENDS"
TRACED = b"BENCH-TRACED"

_EXEC = re.compile(rb" ([0-9]+\.[0-9]+): sched_process_exec: filename=(\S+)")
_FORK = re.compile(rb": sched_process_fork: ")


class NotSeenError(Exception):
    """The console has not what a figure is taken from."""


@dataclass(frozen=True, slots=True)
class Console:
    """A console's bytes, and when it had grown to which length (seconds, bytes)."""

    text: bytes
    growth: Sequence[tuple[float, int]]

    def when(self, words: bytes, start: int = 0) -> float:
        """Return when `words` stood there whole; NotSeenError if they never did."""
        at = self.text.find(words, start)
        if at < 0:
            raise NotSeenError(words.decode(errors="replace"))
        lengths = [length for _, length in self.growth]
        return self.growth[bisect_left(lengths, at + len(words))][0]


@dataclass(frozen=True, slots=True)
class Seen:
    """TPM commands and responses one after another, each with the time it ended."""

    wire: Sequence[bytes]
    times: Sequence[float]

    def between(self, begins: float, ends: float) -> Seen:
        """Return what ended between two moments, the ends included."""
        inside = [at for at, when in enumerate(self.times) if begins <= when <= ends]
        wire = [part for at in inside for part in self.wire[2 * at : 2 * at + 2]]
        return Seen(wire, [self.times[at] for at in inside])

    @property
    def commands(self) -> Counter[str]:
        """The commands, counted by name."""
        codes = (int.from_bytes(each[6:10], "big") for each in self.wire[::2])
        return Counter(NAMES.get(code, f"0x{code:x}") for code in codes)


@dataclass(frozen=True, slots=True)
class Executed:
    """What the kernel's trace lists: programs in order, with seconds, and forks."""

    programs: Sequence[tuple[float, str]]
    forks: int

    @classmethod
    def parse(cls, console: bytes) -> Executed:
        """Read the trace that marked.sh printed; NotSeenError when it is cut."""
        if TRACED not in console:
            raise NotSeenError(TRACED.decode())
        trace = console.partition(ENDS)[2].partition(TRACED)[0]
        programs = [
            (float(time), name.decode(errors="replace"))
            for time, name in _EXEC.findall(trace)
        ]
        return cls(programs, len(_FORK.findall(trace)))
