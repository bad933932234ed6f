# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/field-failures.md names a test for every failure, and the tests exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/field-failures.md"

NUMBERS = [str(number) for number in range(1, 30)]
LETTERS = list("ABCDEFGHIJKLMNOP")
NAMED = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)*)`")


def rows() -> list[list[str]]:
    """The cells of every row that has a number or a letter."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch(r"\d+|[A-Z]", row[0])]


def named_in(row: list[str]) -> list[str]:
    return NAMED.findall(row[-1])


@cache
def collected() -> frozenset[str]:
    """Every node of pytest's in the files named, without parameters; and the files."""
    files = sorted({each.split("::")[0] for row in rows() for each in named_in(row)})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}
    return frozenset(nodes | {each.split("::")[0] for each in nodes})


def test_every_failure_has_one_row_in_order() -> None:
    assert [row[0] for row in rows()] == NUMBERS + LETTERS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_what_happened_what_happens_and_what_shows_it(
    row: list[str],
) -> None:
    _, field, here, shown = row
    assert len(field.split()) > 3
    assert len(here.split()) > 3 or here.startswith("no shell")
    assert named_in(row)
    assert not NAMED.sub("", shown).strip(" ,")


def test_every_test_that_is_named_is_collected() -> None:
    named = {each for row in rows() for each in named_in(row)}
    assert sorted(named - collected()) == []


def test_every_test_of_a_field_failure_is_named() -> None:
    """A test that shows a failure and is on no row was forgotten."""
    named = {each for row in rows() for each in named_in(row)}
    ours = {each for each in collected() if "test_field_failures" in each}
    assert sorted(each for each in ours - named if "::" in each) == []
