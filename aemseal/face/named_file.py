# SPDX-License-Identifier: GPL-2.0-or-later
"""A FILE named on the command line: absent is a mistake of the words, exit 2."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from aemseal.words.errors import EvidenceError, UsageError
from aemseal.world.rooted import shown, unreadable

LOG_LIMIT = 64 << 20


def open_named(name: str) -> BinaryIO:
    """Open it; UsageError when it is not there, EvidenceError when it is no file."""
    try:
        return Path(name).open("rb")
    except FileNotFoundError:
        raise UsageError(f"{shown(name)} does not exist") from None
    except (OSError, ValueError) as error:
        raise unreadable(name, error, EvidenceError) from None


def read_named(name: str, limit: int = LOG_LIMIT) -> bytes:
    """Read it whole; EvidenceError for more than `limit` bytes."""
    with open_named(name) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as error:
            raise unreadable(name, error, EvidenceError) from None
    if len(data) > limit:
        raise EvidenceError(f"{name} has over {limit >> 20} MiB: no event log")
    return data
