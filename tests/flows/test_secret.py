# SPDX-License-Identifier: GPL-2.0-or-later
"""Which texts can be sealed: those that a person sees at boot as they typed them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.flows.secret import TEXT_LIMIT, Secret
from aemseal.words.errors import UsageError

controls = st.characters(categories=["Cc"], exclude_characters="\n")
visible = st.characters(categories=["L", "N", "P", "S"])
texts = st.text(max_size=20)


def refused(value: bytes) -> UsageError:
    with pytest.raises(UsageError) as told:
        Secret("text", "text", value)
    error = told.value
    assert error.__context__ is None or error.__suppress_context__
    assert error.exit_code == 2
    return error


@given(texts, visible, texts)
def test_a_visible_text_without_control_characters_is_taken(
    before: str, seen: str, after: str
) -> None:
    text = "".join(
        each
        for each in before + seen + after
        if each == "\n" or unicodedata.category(each) not in ("Cc", "Cs")
    )
    assert Secret("text", "text", text.encode()).value == text.encode()


@given(texts, controls, texts)
def test_a_control_character_is_refused_wherever_it_is(
    before: str, control: str, after: str
) -> None:
    refused(f"{before}{control}{after}".encode())


@given(st.text(st.sampled_from(" \n\u00a0\u2003\u200b\u2028\ufeff"), min_size=1))
def test_blanks_alone_are_refused(text: str) -> None:
    assert "nothing that can be seen" in refused(text.encode()).message


@given(st.binary(min_size=1, max_size=30))
def test_any_other_bytes_are_refused_without_being_repeated(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        error = refused(value)
        assert "not UTF-8" in error.message
        assert (
            repr(value)[2:-1] not in f"{error.message} {error.hint}" or len(value) < 4
        )
    else:
        return


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "the secret is empty"),
        (b"x" * (TEXT_LIMIT + 1), "the secret is longer than 1664 bytes"),
        (b"correct\thorse", "the secret holds a control character"),
        (b"correct\r", "the secret holds a control character"),
        (b"correct\0horse", "the secret holds a control character"),
        ("correct\u0085horse".encode(), "the secret holds a control character"),
        (b"correct\xff", "the secret is no text"),
    ],
)
def test_what_is_wrong_is_told(value: bytes, complaint: str) -> None:
    error = refused(value)
    assert error.message.startswith(complaint)
    assert "correct" not in f"{error.message} {error.hint}"
