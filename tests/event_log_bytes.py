# SPDX-License-Identifier: GPL-2.0-or-later
"""Event logs as bytes, for tests: written with struct alone, from the specifications.

Nothing here imports the readers, so a log that parses back is no echo of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

SIZES = {0x04: 20, 0x0B: 32, 0x0C: 48, 0x0D: 64, 0x12: 32}
"""Digest size by TCG identifier: sha1, sha256, sha384, sha512, sm3_256."""

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"

needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="the vectors are not beside the project"
)


def sha1_record(pcr: int, event_type: int, digest: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<II20sI", pcr, event_type, digest, len(data)) + data


def agile_record(
    pcr: int, event_type: int, digests: Sequence[tuple[int, bytes]], data: bytes = b""
) -> bytes:
    body = struct.pack("<III", pcr, event_type, len(digests))
    for tcg_id, digest in digests:
        body += struct.pack("<H", tcg_id) + digest
    return body + struct.pack("<I", len(data)) + data


def spec_id(sizes: Mapping[int, int] = SIZES, vendor: bytes = b"") -> bytes:
    data = struct.pack("<16sIBBBBI", b"Spec ID Event03", 0, 0, 2, 0, 2, len(sizes))
    for tcg_id, size in sizes.items():
        data += struct.pack("<HH", tcg_id, size)
    data += struct.pack("<B", len(vendor)) + vendor
    return sha1_record(0, 3, bytes(20), data)


def container(
    records: bytes, *, major: int = 1, size: int = 20480, padding: bytes = b""
) -> bytes:
    end = 48 + len(records)
    header = struct.pack(
        "<20s12sBBBBIII", b"TXT Event Container", b"", major, 0, 1, 0, size, 48, end
    )
    return header + records + padding
