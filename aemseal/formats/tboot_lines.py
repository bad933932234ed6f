# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the text that tboot prints, as txt-stat or a serial console shows them.

tboot begins a line with "TBOOT: " and indents with tabs and blanks; the lines of a
longer hex dump have no such beginning. Before that there may be what a console adds:
"(XEN) " and a time in brackets. Lines may end in CR LF; empty ones are passed over,
and no more than LONGEST_LINE bytes of a line are looked at.
Source: tboot common/printk.c (printk) and common/misc.c (print_hex), 1.5 to 1.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aemseal.words.errors import FormatError

WHOLE_TEXT = "give all that txt-stat prints, of a boot with logging=memory loglvl=all"
"""The hint where a text is cut off or too short."""

LONGEST_LINE = 1024
"""tboot's longest are digests and 255 bytes of vendor info, three characters each."""

_CONSOLE = rb"(?:\(XEN\) ?)?(?:\[[^\]\n]{1,40}\] ?)?"
_BEFORE = _CONSOLE + rb"(?:TBOOT: ?)?[ \t]*+"
_BEGINNING = re.compile(_BEFORE)
_MARKED = re.compile(rb"^" + _CONSOLE + rb"TBOOT(?: log)?:", re.MULTILINE)
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,9}")
_SIZE = re.compile(r"([0-9]{1,10}) bytes")
_RANGE = re.compile(r"\[([0-9]{1,10}),([0-9]{1,10})[\])]")
_HEX = re.compile(r"[0-9a-fA-F]{2}(?: [0-9a-fA-F]{2})*")


def is_marked(text: bytes) -> bool:
    """Whether a line is tboot's, or is what txt-stat puts before tboot's lines."""
    return _MARKED.search(text) is not None


def marks(text: bytes, pattern: bytes, start: int = 0) -> Iterator[re.Match[bytes]]:
    """Find the lines from `start` on whose content begins with a regular expression.

    A match begins where its line begins; `start` is where a line begins.
    """
    return re.compile(rb"^" + _BEFORE + pattern, re.MULTILINE).finditer(text, start)


def last_mark(text: bytes, pattern: bytes) -> int | None:
    """Return where the last such line begins; None when there is none."""
    last = None
    for found in marks(text, pattern):
        last = found.start()
    return last


class LineCursor:
    """Walks over the lines from one place on; `what` names the part in complaints.

    `offset` is where the line taken last begins, `end` where the next one does. Every
    FormatError has the offset of the line that is not what it should be.
    """

    __slots__ = ("_text", "end", "offset", "what")

    def __init__(self, text: bytes, start: int, what: str) -> None:
        self._text = text
        self.offset = self.end = start
        self.what = what

    def take(self) -> str:
        """Return the next line that has content; FormatError where the text ends."""
        while self.end < len(self._text):
            self.offset = self.end
            newline = self._text.find(b"\n", self.offset)
            self.end = len(self._text) if newline < 0 else newline + 1
            line = self._text[self.offset : min(self.end, self.offset + LONGEST_LINE)]
            content = _BEGINNING.sub(b"", line, count=1)
            if content.strip():
                return content.decode("ascii", "backslashreplace").strip()
        raise FormatError(f"{self.what}: the text ends", len(self._text), WHOLE_TEXT)

    @property
    def is_ended(self) -> bool:
        """Whether the line taken last is whole, with a line feed at its end."""
        return self._text[self.end - 1 : self.end] == b"\n"

    def fail(self, complaint: str) -> FormatError:
        """Return the error to raise for the line taken last."""
        return FormatError(f"{self.what}: {complaint}", self.offset, WHOLE_TEXT)

    def expect(self, content: str) -> None:
        """Take a line that must be exactly this."""
        if self.take() != content:
            raise self.fail(f"the line {content!r} is missing")

    def field(self, name: str) -> str:
        """Take the line "name: value" and return the value, perhaps empty."""
        found, colon, value = self.take().partition(":")
        if not colon or found.strip() != name:
            raise self.fail(f"the line {name!r} is missing")
        return value.strip()

    def number(self, name: str, bits: int = 32) -> int:
        """Take the line "name: number", decimal or with 0x, of at most `bits`."""
        value = self.field(name)
        number = int(value, 0) if _NUMBER.fullmatch(value) else -1
        if not 0 <= number < 1 << bits:
            raise self.fail(f"{name!r} is no number of {bits} bits")
        return number

    def range(self, name: str) -> tuple[int, int]:
        """Take the line "name: [first,end]", where `end` is the first byte behind."""
        found = _RANGE.fullmatch(self.field(name))
        if found is None or int(found[1]) > int(found[2]):
            raise self.fail(f"{name!r} is no range of offsets")
        return int(found[1]), int(found[2])

    def hex_line(self, size: int) -> bytes:
        """Take a line that is nothing but `size` bytes of hex."""
        return self.as_hex(self.take(), size)

    def sized_hex(self, name: str) -> bytes:
        """Take the line "name: n bytes", and n bytes of hex from the lines below it."""
        found = _SIZE.fullmatch(self.field(name))
        if found is None:
            raise self.fail(f"{name!r} is no number of bytes")
        size = int(found[1])
        data = b""
        while len(data) < size:
            line = self.take()
            if _HEX.fullmatch(line) is None or len(data) + (len(line) + 1) // 3 > size:
                raise self.fail(f"{name!r} is not {size} bytes of hex")
            data += bytes.fromhex(line)
        return data

    def as_hex(self, line: str, size: int) -> bytes:
        """Return the bytes of a line taken last, `size` of them."""
        if _HEX.fullmatch(line) is None or len(line) != 3 * size - 1:
            raise self.fail(f"{size} bytes of hex are missing")
        return bytes.fromhex(line)
