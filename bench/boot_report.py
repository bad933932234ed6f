# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of the boot benchmark: each figure of ours, Anti Evil Maid's, the ratio."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

HEADS = ("one boot", "aemseal", "AEM's calls", "ratio")
_WIDTHS = (34, 14, 14, 10)

Row = tuple[str, float, float]


def rows(ours: Mapping[str, Any], aem: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what is compared and the two figures, from the two ways' JSON objects."""
    for kind in ours["bytes_added"]:
        added = (way["bytes_added"][kind] for way in (ours, aem))
        yield (f"initramfs, {kind}: bytes added", *_two(added))
    for group in sorted({*ours["bytes_by_group"], *aem["bytes_by_group"]}):
        parts = (way["bytes_by_group"].get(group, 0) for way in (ours, aem))
        yield (f"  {group}", *_two(parts))
    for chain in ours["seconds"]:
        medians = (statistics.median(way["seconds"][chain]) for way in (ours, aem))
        yield (f"{chain}: seconds to the secret", *_two(medians))
    for figure in ("commands", "programs", "processes"):
        name = "TPM commands" if figure == "commands" else figure
        yield (name, *_two(way[figure] for way in (ours, aem)))


def table(ours: Mapping[str, Any], aem: Mapping[str, Any]) -> str:
    """Show the rows; the ratio is ours by Anti Evil Maid's, less being better."""
    lines = [_line(HEADS)]
    for name, mine, its in rows(ours, aem):
        ratio = f"{mine / its:.2f}" if its else "-"
        lines.append(_line((name, _shown(mine), _shown(its), ratio)))
    return "\n".join(lines)


def _two(figures: Iterator[float]) -> tuple[float, float]:
    mine, its = figures
    return mine, its


def _shown(figure: float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.2f}"


def _line(cells: tuple[str, str, str, str]) -> str:
    first, *rest = cells
    shown = "".join(
        f"{cell:>{width}}" for cell, width in zip(rest, _WIDTHS[1:], strict=True)
    )
    return f"{first:<{_WIDTHS[0]}}{shown}"
