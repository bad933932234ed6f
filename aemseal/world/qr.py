# SPDX-License-Identifier: GPL-2.0-or-later
"""A QR code for a terminal, made by qrencode(1), which dom0 has.

The text is a secret: it goes to the program by a pipe, and comes back by one. It is in
no argument, no environment and no file, and in no message.
"""

from __future__ import annotations

import re
import subprocess

from aemseal.words.errors import AemsealError
from aemseal.world.rooted import why

PROGRAM = "qrencode"
TEXT_LIMIT = 512
"""Bytes; a terminal of 24 lines shows no code of more than about a hundred."""

TIME_LIMIT = 30
OUTPUT_LIMIT = 1 << 16
QUIET_ZONE = 2
"""Modules around it; the standard's 4 cost two lines, and no reader asks for them."""

_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def qr_lines(text: str, *, has_blocks: bool) -> list[str]:
    """Return the lines that show a QR code, with the escapes that colour them.

    `has_blocks` says that the terminal has Unicode's half blocks: two rows a line, else
    a line a row and two columns a module. Both set dark and light themselves, since on
    a light terminal a code in the text's own colour is inverted. AemsealError, naming
    the program, when there is no such one, or it fails.
    """
    data = text.encode()
    if not 1 <= len(data) <= TEXT_LIMIT:
        raise ValueError(f"a QR code of {len(data)} bytes")
    kind = "ANSIUTF8" if has_blocks else "ANSI"
    words = [PROGRAM, "-t", kind, "-l", "L", "-m", str(QUIET_ZONE), "-o", "-"]
    return _printed(words, data).splitlines()


def _printed(words: list[str], data: bytes) -> str:
    try:
        done = subprocess.run(
            words,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIME_LIMIT,
            check=False,
        )
    except FileNotFoundError:
        raise AemsealError(f"there is no program {PROGRAM}") from None
    except OSError as error:
        raise AemsealError(f"{PROGRAM} cannot be run: {why(error)}") from None
    except subprocess.TimeoutExpired:
        raise AemsealError(
            f"{PROGRAM} did not end within {TIME_LIMIT} seconds"
        ) from None
    if done.returncode != 0:
        raise AemsealError(f"{PROGRAM} failed with exit code {done.returncode}")
    printed = done.stdout[:OUTPUT_LIMIT].decode("utf-8", "replace")
    if not printed.strip():
        raise AemsealError(f"{PROGRAM} printed nothing")
    return printed


def width_of(lines: list[str]) -> int:
    """Return how many columns the lines take."""
    return max((len(_COLOUR.sub("", each)) for each in lines), default=0)
