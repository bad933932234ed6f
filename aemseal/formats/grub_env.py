# SPDX-License-Identifier: GPL-2.0-or-later
"""The GRUB environment block, /boot/grub/grubenv (GRUB 2.06, lib/envblk.c).

A signature line, then ``name=value`` lines in which a backslash takes the next
character as it is, filled with ``#`` to 1024 bytes. GRUB reads any length.
"""

from __future__ import annotations

from aemseal.words.errors import GrubError

SIGNATURE = b"# GRUB Environment Block\n"
MAX_BLOCK = 1 << 16
"""Bytes; grub-editenv writes 1024."""


def parse(block: bytes, file: str = "grubenv") -> list[tuple[bytes, bytes]]:
    """Return names and values in the order in which GRUB sets them.

    GrubError for a foreign signature, a block that is too long, a variable that the
    block's end cuts off (GRUB ignores it silently) and a NUL.
    """
    if not block.startswith(SIGNATURE):
        raise GrubError(
            f"{file} does not begin as an environment block does",
            "grub-editenv can create one",
        )
    if len(block) > MAX_BLOCK or b"\0" in block:
        raise GrubError(f"{file} is no environment block")
    variables = []
    at = len(SIGNATURE)
    while at < len(block):
        if block[at : at + 1] == b"#":
            at = _line_end(block, at) + 1
            continue
        equals = block.find(b"=", at)
        end = _line_end(block, equals) if equals >= 0 else len(block)
        if end >= len(block):
            raise GrubError(f"{file} ends inside of a variable at offset {at}")
        variables.append((block[at:equals], _unescaped(block[equals + 1 : end])))
        at = end + 1
    return variables


def _line_end(block: bytes, at: int) -> int:
    """Offset of the newline that ends a line; a backslash hides what follows it."""
    while at < len(block) and block[at : at + 1] != b"\n":
        at += 2 if block[at : at + 1] == b"\\" else 1
    return at


def _unescaped(value: bytes) -> bytes:
    plain = bytearray()
    at = 0
    while at < len(value):
        if value[at : at + 1] == b"\\":
            at += 1
        plain += value[at : at + 1]
        at += 1
    return bytes(plain)
