# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's physical memory: where GRUB puts things, and what /dev/mem shows.

GRUB's relocator gives the lowest or the highest free place that fits; that rule is
kept, its bookkeeping chunks are not, so addresses are plausible and always the same,
but not those of a real machine. Source: grub-core/lib/relocator.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.errors import SimulationError

PAGE = 0x1000
_RAM = 1
_ABOVE = 1 << 32
"""GRUB places nothing here."""

_LOWEST = 0x1000
"""The first page holds the interrupt vectors."""


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """One line of the firmware's memory map; `kind` 1 is RAM, 2 is reserved."""

    start: int
    size: int
    kind: int = 1


class Memory:
    """The free RAM below 4 GiB of one boot."""

    def __init__(self, ranges: Sequence[MemoryRange]) -> None:
        self._free = sorted(
            (max(each.start, _LOWEST), min(each.start + each.size, _ABOVE))
            for each in ranges
            if each.kind == _RAM and each.start < _ABOVE
        )

    def take(
        self, size: int, align: int = PAGE, *, high: bool = False, least: int = 0
    ) -> int:
        """Return the address of so many bytes, from `least` on, and keep it taken.

        The lowest free place that is aligned, or the highest. Nothing, as GRUB has it,
        is at 0. SimulationError when the memory is full.
        """
        if size == 0:
            return 0
        for start, end in reversed(self._free) if high else self._free:
            first = max(start, least)
            address = (end - size) if high else first + align - 1
            address -= address % align
            if first <= address and address + size <= end:
                self._free.remove((start, end))
                rest = ((start, address), (address + size, end))
                self._free += [each for each in rest if each[0] < each[1]]
                self._free.sort()
                return address
        raise SimulationError(f"GRUB finds no memory for {size} bytes")


def write_memory(root: Path, address: int, content: bytes) -> None:
    """Write into root/dev/mem, a sparse file as long as the highest byte written."""
    path = root / "dev/mem"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if path.exists() else "w+b") as memory:
        memory.seek(address)
        memory.write(content)


def clear_memory(root: Path) -> None:
    """Lose what a boot left in memory: the power was off."""
    (root / "dev/mem").unlink(missing_ok=True)
