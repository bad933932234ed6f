# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs kept bank by bank as bytes, for tests: written with struct alone."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from event_log_bytes import SIZES, sha1_record

PAGE = 4096
INTEL_IDS = {0x04: 1, 0x0B: 2, 0x0C: 3, 0x0D: 4, 0x12: 5}

Row = tuple[int, int, bytes]
"""A measurement: PCR, type, data."""


def head(tcg_id: int, *, number: int | None = None, size: int | None = None) -> bytes:
    number = INTEL_IDS[tcg_id] if number is None else number
    size = SIZES[tcg_id] if size is None else size
    data = struct.pack("<16sIII", b"TCG_LOG_DESC", 1, number, size)
    return sha1_record(0, 3, bytes(20), data)


def record(pcr: int, kind: int, digest: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<II", pcr, kind) + digest + struct.pack("<I", len(data)) + data


def digest_of(tcg_id: int, row: Row) -> bytes:
    """A digest that is told from every other measurement's, of the bank's size."""
    text = repr((tcg_id, row)).encode()
    return hashlib.sha512(text).digest()[: SIZES[tcg_id]]


def bank(tcg_id: int, rows: Iterable[Row]) -> bytes:
    """A bank's log as SINIT and tboot leave it: SHA-1's has no head."""
    begin = b"" if tcg_id == 0x04 else head(tcg_id)
    return begin + b"".join(
        record(row[0], row[1], digest_of(tcg_id, row), row[2]) for row in rows
    )


def exported(*banks: tuple[int, bytes], first: int = 0) -> bytes:
    """OpenXT's file: a descriptor and the log's bytes, bank behind bank."""
    file = b""
    for tcg_id, log in banks:
        end = first + len(log)
        descriptor = (tcg_id, 0, 0xB8F30176, PAGE, first, end)
        file += struct.pack("<HHQIII", *descriptor) + log
    return file


def pages(*logs: bytes) -> bytes:
    return b"".join(log.ljust(PAGE, b"\0") for log in logs)
