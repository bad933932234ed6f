# SPDX-License-Identifier: GPL-2.0-or-later
"""The environment block: grubenv."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.grub_env import SIGNATURE, parse
from aemseal.words.errors import GrubError

NAMES = st.binary(min_size=1, max_size=8).filter(
    lambda name: not set(name) & set(b"=\0#")
)
VALUES = st.binary(max_size=20).filter(lambda value: b"\0" not in value)


def block(lines: bytes) -> bytes:
    return (SIGNATURE + lines).ljust(1024, b"#")


def test_an_empty_block_has_no_variables() -> None:
    assert parse(block(b"")) == []
    assert parse(SIGNATURE) == []


def test_variables_come_in_order() -> None:
    lines = b"saved_entry=a>b\nnext_entry=\n# WARNING: a comment\nsaved_entry=c=d\n"
    assert parse(block(lines)) == [
        (b"saved_entry", b"a>b"),
        (b"next_entry", b""),
        (b"saved_entry", b"c=d"),
    ]


def test_a_backslash_takes_the_next_character() -> None:
    assert parse(block(b"a=1\\\n2\\\\3\\4\nb=5\n")) == [
        (b"a", b"1\n2\\34"),
        (b"b", b"5"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "grubenv does not begin as an environment block does"),
        (b"# GRUB Environment Bloc", "does not begin as"),
        (block(b"a=1"), "ends inside of a variable at offset 25"),
        (block(b"a=1\nb"), "ends inside of a variable at offset 29"),
        (SIGNATURE + b"a=1\\\n", "ends inside of a variable"),
        (SIGNATURE + b"a\0=1\n", "grubenv is no environment block"),
        (SIGNATURE.ljust(70_000, b"#"), "grubenv is no environment block"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GrubError, match=message):
        parse(data)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_every_value_comes_back(variables: list[tuple[bytes, bytes]]) -> None:
    lines = b"".join(
        name + b"=" + value.replace(b"\\", b"\\\\").replace(b"\n", b"\\\n") + b"\n"
        for name, value in variables
    )
    assert parse(block(lines)) == variables


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(GrubError):
        parse(SIGNATURE + data)
