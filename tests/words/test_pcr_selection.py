# SPDX-License-Identifier: GPL-2.0-or-later
"""A selection of PCRs is read in both spellings, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import SelectionError, UsageError

CHARACTERS = "sha256:-pcr=0179, \t\x1c\u2003\u0661"


@pytest.mark.parametrize(
    "text",
    [
        "sha256:13,17",
        " sha256:17 , 13,13\n",
        "--pcr 13 --pcr 17",
        "\t--pcr=17 --pcr 13",
    ],
)
def test_both_spellings_are_read(text: str) -> None:
    expected = PcrSelection.of(HashAlgorithm.SHA256, {13, 17})
    assert PcrSelection.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sha256:1,\x1c7",
        "sha256:1\u20037",
        "sha256:\u0661",
        "--pcr \u0663",
        "--pcr\x1f1",
    ],
)
def test_spaces_and_digits_are_those_of_ascii(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the PCR selection"):
        PcrSelection.parse(text)


@given(st.text(CHARACTERS, max_size=30) | st.text(max_size=30).map("sha256:1,".__add__))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selection = PcrSelection.parse(text)
    except (SelectionError, UsageError):
        return
    assert PcrSelection.parse(str(selection)) == selection
