# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/attacks.md names a test for every attack, and leaves no attack's test out."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/attacks.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


def rows() -> list[list[str]]:
    """The cells of every row that has a number."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].isdigit()]


def named() -> set[str]:
    return {each for row in rows() for each in NAMED.findall(row[-1])}


@cache
def collected() -> frozenset[str]:
    """Every test of tests/attacks and of the other files named, without parameters."""
    files = {each.split("::")[0] for each in named()}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/attacks"),
            *sorted(each for each in files if not each.startswith("tests/attacks/")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return frozenset(
        line.split("[")[0] for line in done.stdout.splitlines() if "::" in line
    )


def test_the_attacks_are_numbered() -> None:
    assert [row[0] for row in rows()] == [str(n + 1) for n in range(len(rows()))]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_the_attack_what_answers_it_and_what_shows_it(
    row: list[str],
) -> None:
    _, attack, answer, shown = row
    assert len(attack.split()) > 3
    assert answer
    assert NAMED.findall(shown)
    assert not NAMED.sub("", shown).strip(" ,")


def test_every_test_that_is_named_is_collected() -> None:
    assert sorted(named() - collected()) == []


def test_every_test_of_an_attack_is_named() -> None:
    """A test that makes an attack and is on no row was forgotten."""
    attacks = {each for each in collected() if each.startswith("tests/attacks/")}
    assert sorted(attacks - named()) == []
