# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors as values: what a recording keeps of one, and makes of it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aemseal.words import errors
from aemseal.words.errors import AemsealError, FormatError

ERRORS = {
    each.kind: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, AemsealError)
}
"""By kind, the classes of words/errors.py alone: a layer may have finer ones."""


@dataclass(frozen=True, slots=True)
class Told:
    """An error that the host answered with."""

    kind: str
    message: str
    hint: str | None
    offset: int | None = None

    @classmethod
    def of(cls, error: AemsealError) -> Told:
        """Remember an error."""
        offset = error.offset if isinstance(error, FormatError) else None
        return cls(error.kind, error.message, error.hint, offset)

    def error(self) -> AemsealError:
        """Return it as it was: class, message and hint."""
        made = ERRORS[self.kind].__new__(ERRORS[self.kind])
        AemsealError.__init__(made, self.message, self.hint)
        if isinstance(made, FormatError):
            made.offset = self.offset or 0
        return made

    def to_json(self) -> dict[str, Any]:
        """Write it."""
        written = {"kind": self.kind, "message": self.message, "hint": self.hint}
        return written if self.offset is None else {**written, "offset": self.offset}
