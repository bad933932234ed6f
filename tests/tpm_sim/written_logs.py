# SPDX-License-Identifier: GPL-2.0-or-later
"""A second, plain reader and replayer of the logs that the simulated machine writes.

It shares nothing with the writer or with the product: struct and hashlib only.
"""

from __future__ import annotations

import hashlib
import struct

SIZES = {"sha1": 20, "sha256": 32, "sha384": 48}
NAMES = {0x4: "sha1", 0xB: "sha256", 0xC: "sha384"}

Record = tuple[int, int, dict[str, bytes], bytes]
"""PCR, type, digest by bank, data."""


def read_log(log_format: str, log: bytes) -> list[Record]:
    if log_format == "tcg-agile":
        return _agile(log)
    if log_format == "txt-container":
        assert log[:20] == b"TXT Event Container\0"
        start, end = struct.unpack_from("<II", log, 40)
        assert len(log) == struct.unpack_from("<I", log, 36)[0]
        return _sha1(log[start:end])
    return _sha1(log)


def _agile(log: bytes) -> list[Record]:
    [(pcr, kind, digests, spec)] = _sha1(log, limit=1)
    assert (pcr, kind, digests["sha1"]) == (0, 3, bytes(20))
    assert spec.startswith(b"Spec ID Event03\0")
    offset = 32 + len(spec)
    records: list[Record] = []
    while offset < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, offset)
        if count == 0:  # the rest of a buffer in memory
            assert not log[offset:].strip(b"\0")
            return records
        offset += 12
        by_bank = {}
        for _ in range(count):
            name = NAMES[struct.unpack_from("<H", log, offset)[0]]
            offset += 2
            by_bank[name] = log[offset : offset + SIZES[name]]
            offset += SIZES[name]
        (size,) = struct.unpack_from("<I", log, offset)
        offset += 4
        records.append((pcr, kind, by_bank, log[offset : offset + size]))
        offset += size
    assert offset == len(log)
    return records


def _sha1(log: bytes, limit: int = 1000) -> list[Record]:
    offset = 0
    records: list[Record] = []
    while offset < len(log) and len(records) < limit:
        pcr, kind = struct.unpack_from("<II", log, offset)
        digest = log[offset + 8 : offset + 28]
        (size,) = struct.unpack_from("<I", log, offset + 28)
        offset += 32
        records.append((pcr, kind, {"sha1": digest}, log[offset : offset + size]))
        offset += size
    return records


def replay(records: list[Record], bank: str, hash_start: str) -> dict[int, bytes]:
    """Return PCR 17 to 22 after the launch that the records tell of."""
    values = dict.fromkeys(range(17, 23), bytes(SIZES[bank]))
    for pcr, kind, digests, _ in records:
        if pcr > 23 or bank not in digests:
            continue
        if kind == 0x402 and hash_start == "set":
            values[pcr] = digests[bank]
        else:
            values[pcr] = hashlib.new(bank, values[pcr] + digests[bank]).digest()
    return values
