# SPDX-License-Identifier: GPL-2.0-or-later
"""Write a launch's log in the formats that real machines keep it in.

Sources: TCG PC Client Platform Firmware Profile 10.2 and 10.4 (crypto-agile and SHA-1
logs), Intel TXT Software Development Guide appendix F (TXT Event Container).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.words.digest import Digests, HashAlgorithm

_EV_NO_ACTION = 3
_CONTAINER_SIZE = 20480
"""Bytes that tboot allocates for the container (ThinkPad T460p)."""

_CONTAINER_HEADER = struct.Struct("<20s12x4B3I")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record: PCR (255 for the mapping), type, digests by bank, data."""

    pcr: int
    type: int
    digests: Digests
    data: bytes


class LogFormat(Enum):
    """How a log is written, and where a running system finds it below its root."""

    TCG_AGILE = "tcg-agile"
    TCG_SHA1 = "tcg-sha1"
    TXT_CONTAINER = "txt-container"

    @property
    def path(self) -> str:
        """Return the file below the root, as the txt module of OpenXT names it."""
        name = {
            LogFormat.TCG_AGILE: "tpm20_binary_evtlog_tcg",
            LogFormat.TCG_SHA1: "tpm12_binary_evtlog",
            LogFormat.TXT_CONTAINER: "tpm12_binary_evtlog",
        }[self]
        return f"sys/kernel/security/txt/{name}"

    def write(
        self, records: Sequence[LogRecord], banks: Sequence[HashAlgorithm]
    ) -> bytes:
        """Return the log's bytes; the two SHA-1 formats need a digest in SHA-1."""
        return _WRITERS[self](records, banks)


def spec_id_record(
    banks: Sequence[HashAlgorithm], uintn: int, vendor: bytes = b""
) -> bytes:
    """Return a crypto-agile log's first record; `uintn` is the code of its size.

    Platform class 0 (client), version 2.0 errata 0.
    """
    sizes = b"".join(struct.pack("<HH", bank.tcg_id, bank.size) for bank in banks)
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, uintn, len(banks))
    spec += sizes + bytes([len(vendor)]) + vendor
    return struct.pack("<II20xI", 0, _EV_NO_ACTION, len(spec)) + spec


def agile_records(
    records: Sequence[LogRecord], banks: Sequence[HashAlgorithm]
) -> bytes:
    """Return the records behind the first, each with the digests that it has."""
    log = b""
    for record in records:
        log += struct.pack("<III", record.pcr, record.type, len(record.digests))
        for bank in banks:
            if bank in record.digests:
                log += struct.pack("<H", bank.tcg_id) + record.digests[bank].value
        log += struct.pack("<I", len(record.data)) + record.data
    return log


def _tcg_agile(records: Sequence[LogRecord], banks: Sequence[HashAlgorithm]) -> bytes:
    # UINTN of 4 bytes, no vendor information: as the Dell E5470 writes it.
    return spec_id_record(banks, 1) + agile_records(records, banks)


def _sha1_records(records: Sequence[LogRecord]) -> bytes:
    return b"".join(
        struct.pack("<II", record.pcr, record.type)
        + record.digests[HashAlgorithm.SHA1].value
        + struct.pack("<I", len(record.data))
        + record.data
        for record in records
    )


def _tcg_sha1(records: Sequence[LogRecord], _banks: Sequence[HashAlgorithm]) -> bytes:
    return _sha1_records(records)


def _container(records: Sequence[LogRecord], _banks: Sequence[HashAlgorithm]) -> bytes:
    events = _sha1_records(records)
    start = _CONTAINER_HEADER.size
    header = _CONTAINER_HEADER.pack(
        b"TXT Event Container\0",
        *(1, 0, 1, 0),
        *(_CONTAINER_SIZE, start, start + len(events)),
    )
    return (header + events).ljust(_CONTAINER_SIZE, b"\0")


_Writer = Callable[[Sequence[LogRecord], Sequence[HashAlgorithm]], bytes]
_WRITERS: Mapping[LogFormat, _Writer] = {
    LogFormat.TCG_AGILE: _tcg_agile,
    LogFormat.TCG_SHA1: _tcg_sha1,
    LogFormat.TXT_CONTAINER: _container,
}
