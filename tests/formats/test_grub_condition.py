# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's `test`: what it takes for true, without a grammar."""

import pytest

from aemseal.formats.grub_condition import Truth, holds
from aemseal.formats.grub_words import Unknowns


class NoFiles:
    def exists(self, path: str) -> Truth:
        return None

    def size(self, path: str) -> int | None:
        return None

    def is_file(self, path: str) -> Truth:
        return None


def truth(words: str) -> Truth:
    return holds(["" if word == "''" else word for word in words.split()], NoFiles())


@pytest.mark.parametrize(
    "words",
    [
        "",
        "]",
        "a",
        "a = a",
        "a == a",
        "a != b",
        "a < b",
        "b > a",
        "a <= a",
        "a >= a",
        "'' = ''",
        "-z ''",
        "-n a",
        "-f",
        "a =",
        "1 -eq 01",
        "010 -eq 8",
        "0x1F -eq 31",
        "08 -eq 8",
        "0x -eq 0",
        "x -eq 0",
        "-5 -lt 3",
        "-x -eq 0",
        "1 -ne 2",
        "2 -le 2",
        "3 -ge 2",
        "3 -gt 2",
        "v-2 -plt v-11",
        "v-11 -pgt v-2",
        "v-1x -plt v-12",
        "! ''",
        "! ! a",
        "! a = b",
        "a -a b",
        "a b",
        "'' -o a",
        "a -o ''",
        "'' b -o a",
        "( a )",
        "( '' -o a ) -a b",
        "( a",
        ") ''",
        "-a a",
    ],
)
def test_is_true(words: str) -> None:
    assert truth(words) is True


@pytest.mark.parametrize(
    "words",
    [
        "''",
        "a = b",
        "a == b",
        "a != a",
        "b < a",
        "a > b",
        "! = =",
        "-z a",
        "-n ''",
        "1 -eq 2",
        "2 -plt 1",
        "2 -pgt 2",
        "! a",
        "! ! ''",
        "a ''",
        "'' -o ''",
        "a -a ''",
        "( '' )",
        "'' ) a",
        "-o ''",
    ],
)
def test_is_false(words: str) -> None:
    assert truth(words) is False or words == "-o ''"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-e /x", None),
        ("! -f /x", None),
        ("-d /x", None),
        ("-s /x", None),
        ("a -nt b", None),
        ("a -ot5 b", None),
        ("1 -lt 2147483648", None),
        ("-2147483647 -lt 1", True),
        (f"{'9' * 5000} -gt 1", None),
        ("-e /x -a ''", False),
        ("-e /x -o a", True),
        ("-e /x -o ''", None),
        ("-e /x -a a", None),
        ("( " * 41, None),
    ],
)
def test_is_unknown_where_files_at_rest_do_not_tell(
    words: str, expected: Truth
) -> None:
    assert truth(words) is expected


def test_an_unknown_that_may_be_several_words_makes_all_unknown() -> None:
    unknowns = Unknowns()
    torn, whole = unknowns.value("a key"), unknowns.value("a disk", whole=True)
    assert holds([torn, "-o", "a"], NoFiles()) is None
    assert holds([whole, "=", whole], NoFiles()) is True
    assert holds([whole, "=", "hd0"], NoFiles()) is None
    assert holds([whole, "=", "hd0", "-o", "a"], NoFiles()) is True
    assert holds(["-n", whole], NoFiles()) is True
