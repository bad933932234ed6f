# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON read strictly: every field with its type, every complaint with its place.

RFC 8259, with what it leaves open decided: a doubled name, NaN and the infinities
are refused, integers have at most 4,300 digits (Python's own bound).
"""

from __future__ import annotations

import json

from aemseal.words.errors import EvidenceError


class Fields:
    """A JSON object whose fields are taken with their types.

    Unknown fields are passed over: a later tool may add some within version 1.
    """

    def __init__(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise EvidenceError(f"{where} is not an object")
        self.where = where
        self._fields: dict[str, object] = value

    def fail(self, complaint: str) -> EvidenceError:
        """Return the error to raise for this object."""
        return EvidenceError(f"{self.where}: {complaint}")

    def names(self) -> list[str]:
        """Return the fields' names."""
        return list(self._fields)

    def is_null(self, name: str) -> bool:
        """Whether the field is absent or null."""
        return self._fields.get(name) is None

    def text(self, name: str) -> str:
        """Take a text."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise self.fail(f"{name} is not a text")
        return value

    def number(self, name: str) -> int:
        """Take a number from 0 to 2**63 - 1."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise self.fail(f"{name} is not a number from 0 to 2**63 - 1")
        return value

    def flag(self, name: str) -> bool:
        """Take true or false."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self.fail(f"{name} is neither true nor false")
        return value

    def inner(self, name: str) -> Fields:
        """Take an object."""
        return Fields(f"{self.where}, {name}", self._fields.get(name))

    def objects(self, name: str) -> list[Fields]:
        """Take a list of objects."""
        return [
            Fields(f"{self.where}, {name} {number}", each)
            for number, each in enumerate(self._list(name))
        ]

    def texts(self, name: str) -> list[str]:
        """Take a list of texts."""
        values = self._list(name)
        texts = [each for each in values if isinstance(each, str)]
        if len(texts) != len(values):
            raise self.fail(f"{name} is not a list of texts")
        return texts

    def _list(self, name: str) -> list[object]:
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise self.fail(f"{name} is not a list")
        return value


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def load_json(where: str, data: bytes) -> Fields:
    """Parse an object; EvidenceError when it is malformed."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_doubles,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{where} is not JSON: {_reason(error)}") from None
    return Fields(where, value)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]}, line {error.lineno}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def dump_json(value: object) -> bytes:
    """Write JSON that people can read and compare, in ASCII."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("ascii")
