# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line GRUB makes of arguments (grub_create_loader_cmdline)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.grub_cmdline import join


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], b""),
        ([b""], b""),
        ([b"a", b"b"], b"a b"),
        ([b"a", b"", b"b"], b"a  b"),
        ([b"a", b""], b"a "),
        ([b"", b""], b" "),
        ([b"a b"], b'"a b"'),
        ([b" "], b'" "'),
        ([b"a\tb"], b"a\tb"),
        ([b"it's"], b"it\\'s"),
        ([b'"'], b'\\"'),
        ([b"\\"], b"\\\\"),
        ([b'a "b\\ c', b"'"], b'"a \\"b\\\\ c" \\\''),
        ([b"\xff=\xc3\xa9"], b"\xff=\xc3\xa9"),
    ],
)
def test_joins_escapes_and_quotes(arguments: list[bytes], expected: bytes) -> None:
    assert join(arguments) == expected


@given(st.lists(st.binary().filter(lambda each: b" " not in each)))
def test_without_spaces_there_is_one_between_two(arguments: list[bytes]) -> None:
    assert join(arguments).count(b" ") == max(0, len(arguments) - 1)
