# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a QR code as a phone does: ISO/IEC 18004, versions 1 to 5 at level L.

Those have one block of codewords, data first, so nothing is interleaved; and what comes
straight from the encoder has no errors to correct.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Matrix = list[list[bool]]
"""Rows of modules without the quiet zone; True is dark."""

DATA_CODEWORDS = {1: 19, 2: 34, 3: 55, 4: 80, 5: 108}
"""By version, at level L (table 7)."""

_FORMAT_MASK = 0b101010000010010
_LEVEL_L = 0b01
_MASKS: tuple[Callable[[int, int], bool], ...] = (
    lambda i, j: (i + j) % 2 == 0,
    lambda i, _: i % 2 == 0,
    lambda _, j: j % 3 == 0,
    lambda i, j: (i + j) % 3 == 0,
    lambda i, j: (i // 2 + j // 3) % 2 == 0,
    lambda i, j: i * j % 2 + i * j % 3 == 0,
    lambda i, j: (i * j % 2 + i * j % 3) % 2 == 0,
    lambda i, j: ((i + j) % 2 + i * j % 3) % 2 == 0,
)
"""Table 10: row i, column j."""

_SEQUENCE = re.compile("\x1b\\[[0-9;]*m")


def from_blocks(lines: list[str]) -> Matrix:
    """Return what a terminal shows in half blocks, light on a dark ground."""
    light = {"█": (True, True), "▀": (True, False), "▄": (False, True)}
    rows: Matrix = []
    for line in lines:
        assert line.startswith("\x1b[40;37;1m"), "black behind, white before"
        pairs = [light.get(each, (False, False)) for each in _SEQUENCE.sub("", line)]
        rows += [[not pair[half] for pair in pairs] for half in (0, 1)]
    return without_quiet_zone(rows)


def from_colours(lines: list[str]) -> Matrix:
    """Return what a terminal shows by its background, two columns a module."""
    rows: Matrix = []
    for line in lines:
        row: list[bool] = []
        dark = False
        for part in re.split("(\x1b\\[[0-9;]*m)", line):
            if part.startswith("\x1b"):
                dark = part == "\x1b[40m"
            else:
                row += [dark] * (len(part) // 2)
        rows.append(row)
    return without_quiet_zone(rows)


def without_quiet_zone(rows: Matrix) -> Matrix:
    """Cut off all rows and columns that are light throughout."""
    used = [number for number, row in enumerate(rows) if any(row)]
    columns = [number for row in rows for number, dark in enumerate(row) if dark]
    first, last = min(columns), max(columns)
    return [row[first : last + 1] for row in rows[used[0] : used[-1] + 1]]


def decode(matrix: Matrix) -> bytes:
    """Return what the code says."""
    size = len(matrix)
    assert all(len(row) == size for row in matrix)
    version, rest = divmod(size - 17, 4)
    assert rest == 0
    modules = "".join(str(int(each)) for each in _modules(matrix, version))
    bits = Bits(modules[: 8 * DATA_CODEWORDS[version]])
    text = b""
    while len(bits.left) >= 4 and (mode := bits.take(4)) != _END:
        text += _SEGMENTS[mode](bits)
    return text


class Bits:
    """Bits that are taken from the front."""

    def __init__(self, left: str) -> None:
        self.left = left

    def take(self, count: int) -> int:
        assert len(self.left) >= count
        taken, self.left = self.left[:count], self.left[count:]
        return int(taken, 2)


def _numbers(bits: Bits) -> bytes:
    length = bits.take(10)
    groups = [3] * (length // 3) + [length % 3] * (length % 3 > 0)
    return b"".join(b"%0*d" % (each, bits.take((0, 4, 7, 10)[each])) for each in groups)


def _capitals(bits: Bits) -> bytes:
    length = bits.take(9)
    text = b""
    for _ in range(length // 2):
        first, second = divmod(bits.take(11), 45)
        text += bytes((_CAPITALS[first], _CAPITALS[second]))
    return text + (bytes((_CAPITALS[bits.take(6)],)) if length % 2 else b"")


def _bytes(bits: Bits) -> bytes:
    return bytes(bits.take(8) for _ in range(bits.take(8)))


_CAPITALS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_END = 0
_SEGMENTS = {0b0001: _numbers, 0b0010: _capitals, 0b0100: _bytes}
"""Tables 2 and 3, for versions 1 to 9: an encoder may change its mode in mid-text."""


def _modules(matrix: Matrix, version: int) -> Iterator[bool]:
    """Yield the data modules, unmasked, in the order of clause 7.7.3."""
    size = len(matrix)
    masked = _MASKS[_mask_number(matrix)]
    column = size - 1
    upward = True
    while column > 0:
        if column == 6:  # the vertical timing pattern takes a whole column
            column -= 1
        for row in range(size - 1, -1, -1) if upward else range(size):
            for each in (column, column - 1):
                if not _is_function(row, each, size, version):
                    yield matrix[row][each] != masked(row, each)
        column -= 2
        upward = not upward


def _mask_number(matrix: Matrix) -> int:
    """Read the format information beside the upper left finder (clause 7.9)."""
    places = [(8, each) for each in (0, 1, 2, 3, 4, 5, 7, 8)]
    places += [(each, 8) for each in (7, 5, 4, 3, 2, 1, 0)]
    bits = "".join(str(int(matrix[row][column])) for row, column in places)
    information = int(bits, 2) ^ _FORMAT_MASK
    assert information >> 13 == _LEVEL_L
    return information >> 10 & 0b111


def _is_function(row: int, column: int, size: int, version: int) -> bool:
    """Whether a module is of a pattern or of the format, and not of the data."""
    if 6 in (row, column):
        return True
    if row < 9 and (column < 9 or column >= size - 8):
        return True
    if row >= size - 8 and column < 9:
        return True
    centre = size - 7
    near = abs(row - centre) <= 2 and abs(column - centre) <= 2
    return version > 1 and near
