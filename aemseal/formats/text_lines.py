# SPDX-License-Identifier: GPL-2.0-or-later
"""The strict text form that the slot files share (docs/slot-format.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aemseal.words.errors import FormatError

NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def is_name(text: str) -> bool:
    """Whether this may name a medium, a secret or a branch."""
    return NAME.fullmatch(text) is not None


def slug(text: str) -> str:
    """Return the nearest allowed name: "Xen 4.17.5" gives "Xen-4.17.5"."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:32] or "boot"


@dataclass
class LineReader:
    """Walks the lines of one file; every complaint names the file and the offset."""

    what: str
    lines: list[str]
    at: int = 0

    @classmethod
    def of(cls, what: str, data: bytes, limit: int) -> LineReader:
        """Split `data` (at most `limit` bytes, ASCII, every line ended by LF)."""
        if len(data) > limit:
            raise FormatError(f"{what}: over {limit} bytes", limit)
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise FormatError(f"{what}: not ASCII", error.start) from None
        if not text.endswith("\n"):
            raise FormatError(f"{what}: the last line is not ended", len(data))
        return cls(what, text[:-1].split("\n"))

    def fail(self, complaint: str) -> FormatError:
        """Return the error to raise for the line taken last."""
        return self._error(complaint, max(self.at - 1, 0))

    def _error(self, complaint: str, number: int) -> FormatError:
        start = sum(len(line) + 1 for line in self.lines[:number])
        return FormatError(f"{self.what}: {complaint}", start)

    @property
    def done(self) -> bool:
        """Whether every line was read."""
        return self.at >= len(self.lines)

    def next_is(self, key: str) -> bool:
        """Whether the next line has this key."""
        return not self.done and self.lines[self.at].split(" ", 1)[0] == key

    def fields(self, key: str, count: int) -> list[str]:
        """Take the next line: this key and exactly `count` fields after it."""
        if not self.next_is(key):
            raise self._error(f"a line {key!r} is missing", self.at)
        found = self.lines[self.at].split(" ")[1:]
        if len(found) != count:
            complaint = f"{key!r} takes {count} fields, not {len(found)}"
            raise self._error(complaint, self.at)
        self.at += 1
        return found

    def finish(self) -> None:
        """Refuse anything that is left."""
        if not self.done:
            raise self._error("a line too many", self.at)

    def name(self, text: str) -> str:
        """Read a name."""
        if not is_name(text):
            raise self.fail("not a name")
        return text

    def number(self, text: str) -> int:
        """Read a decimal number below 2**63."""
        if _DECIMAL.fullmatch(text) is None or int(text) >= 1 << 63:
            raise self.fail("not a decimal number below 2**63")
        return int(text)

    def hex(self, text: str, size: int | None = None) -> bytes:
        """Read lower-case hex, of `size` bytes where one is given."""
        if _HEX.fullmatch(text) is None:
            raise self.fail("not lower-case hex")
        value = bytes.fromhex(text)
        if size is not None and len(value) != size:
            raise self.fail(f"{len(value)} bytes of hex instead of {size}")
        return value
