# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON of our own making, read as if it were an enemy's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aemseal.formats.strict_json import Fields, dump_json, load_json
from aemseal.words.errors import EvidenceError


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "x.json is not JSON: expecting value, line 1"),
        (b"{\n,}", "not JSON: expecting property name"),
        (b"\xff", "not JSON: not UTF-8 at byte 0"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"a": 1, "a": 1}', "not JSON: a field is there twice"),
        (b'{"a": NaN}', "not JSON: NaN is no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: "),
        (b"[]", "x.json is not an object"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(EvidenceError, match=r"x\.json") as refusal:
        load_json("x.json", data)
    assert complaint in refusal.value.message


FIELDS = load_json(
    "x",
    b'{"t": "a", "n": 1, "f": true, "o": {"p": 1},'
    b' "l": [{}, 1], "s": ["a"], "z": null}',
)


def test_fields_are_taken_with_their_types() -> None:
    assert FIELDS.text("t") == "a"
    assert FIELDS.number("n") == 1
    assert FIELDS.flag("f") is True
    assert FIELDS.inner("o").number("p") == 1
    assert FIELDS.texts("s") == ["a"]
    assert FIELDS.is_null("z")
    assert FIELDS.is_null("absent")
    assert not FIELDS.is_null("t")
    assert FIELDS.names() == ["t", "n", "f", "o", "l", "s", "z"]
    assert load_json("x", b'{"l": [{"a": 1}]}').objects("l")[0].number("a") == 1


@pytest.mark.parametrize(
    ("take", "complaint"),
    [
        (lambda: FIELDS.text("n"), "x: n is not a text"),
        (lambda: FIELDS.text("absent"), "x: absent is not a text"),
        (lambda: FIELDS.number("f"), "x: f is not a number from 0"),
        (lambda: load_json("x", b'{"n": -1}').number("n"), "x: n is not a number"),
        (lambda: FIELDS.flag("n"), "x: n is neither true nor false"),
        (lambda: FIELDS.inner("s"), "x, s is not an object"),
        (lambda: FIELDS.objects("l"), "x, l 1 is not an object"),
        (lambda: FIELDS.objects("t"), "x: t is not a list"),
        (lambda: FIELDS.texts("l"), "x: l is not a list of texts"),
        (lambda: FIELDS.inner("o").text("p"), "x, o: p is not a text"),
    ],
)
def test_every_complaint_names_its_place(
    take: Callable[[], object], complaint: str
) -> None:
    with pytest.raises(EvidenceError) as refusal:
        take()
    assert refusal.value.message.startswith(complaint)


@given(st.dictionaries(st.text(max_size=5), st.text(st.characters(), max_size=5)))
def test_what_is_written_is_read(texts: dict[str, str]) -> None:
    fields = load_json("x", dump_json(texts))
    assert isinstance(fields, Fields)
    assert {name: fields.text(name) for name in fields.names()} == texts
