# SPDX-License-Identifier: GPL-2.0-or-later
"""Verified-launch policies for tests, packed as tboot's tb_policy.h has them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

ANY, NV, NV_RAW = 129, 130, 131
NONE = 255
CONTINUE, CONTINUE_UNVERIFIED, HALT = 0, 1, 2
SIZES = {0: 20, 4: 20, 0x0B: 32, 0x0C: 48, 0x0D: 64, 0x12: 32}
"""Bytes of a hash, by tboot's number of the algorithm."""


@dataclass(frozen=True)
class Entry:
    """One entry; `hashes` is None for any hash."""

    module: int
    pcr: int
    hashes: tuple[bytes, ...] | None = None
    nv_index: int = 0


def packed(
    entries: Sequence[Entry], *, kind: int = 0, algorithm: int = 0x0B, control: int = 1
) -> bytes:
    """A policy's bytes."""
    data = struct.pack("<BBBIIB", 2, kind, algorithm, control, 0, len(entries))
    for each in entries:
        hashes = each.hashes or ()
        lists = each.hashes is not None
        head = (each.module, each.pcr, lists, each.nv_index, len(hashes))
        data += struct.pack("<BBBIB", *head) + b"".join(hashes)
    return data


def digest_of(
    data: bytes, bank: str = "sha256", own: str = "sha256", control: int = 1
) -> bytes:
    """What tboot extends for a policy that measures itself."""
    inner = hashlib.new(own, data).digest()
    return hashlib.new(bank, struct.pack("<I", control) + inner).digest()


def simulated(
    entries: Sequence[Entry], hard_wired: int, modules: int
) -> list[tuple[int, int]]:
    """What tboot puts on its list of measurements: (module, PCR), in order.

    Written after policy.c: module 0 once without looking at the policy; then for each
    module the entries from the first on, until one has its number or stands for any.
    """
    measured = [(0, hard_wired)]
    number = 0
    while number < modules:
        position = 0
        while position < len(entries):
            entry = entries[position]
            if entry.module == number or entry.module == ANY:
                if entry.pcr != NONE:
                    measured.append((number, entry.pcr))
                break
            position += 1
        number += 1
    return measured


def entry_lists(
    pcrs: st.SearchStrategy[int], most: int = 6
) -> st.SearchStrategy[list[Entry]]:
    """Entries of any order, doubled and contradicting ones among them."""
    numbers = st.one_of(st.integers(0, 5), st.sampled_from([ANY, NV, NV_RAW, 127]))
    hashes = st.none() | st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(
        tuple
    )
    entries = st.builds(Entry, numbers, pcrs, hashes, st.sampled_from([0, 0x40000010]))
    return st.lists(entries, max_size=most)
