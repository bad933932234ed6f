# SPDX-License-Identifier: GPL-2.0-or-later
"""Write a launch's log in the formats that real machines keep it in.

Sources: TCG PC Client Platform Firmware Profile 10.2 and 10.4 (crypto-agile and SHA-1
logs), Intel TXT Software Development Guide appendix F (TXT Event Container; a log for
each bank, heap element 7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.words.digest import Digests, HashAlgorithm

_EV_NO_ACTION = 3
_SECURITYFS = "sys/kernel/security/txt"
BANK_LOG_SIZE = 4096
_BANK_LOGS_AT = 0x3FF30000
_INTEL_IDS = {HashAlgorithm.SHA256: 2, HashAlgorithm.SHA384: 3, HashAlgorithm.SHA512: 4}
"""Algorithms as the heads number them (tboot include/txt/heap.h)."""

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
    PER_BANK = "tpm2-per-bank"
    TXT_HEAP = "txt-heap"
    """In memory, behind TXT's tables; the log itself is of one of the forms above."""

    TBOOT_TEXT = "tboot-text"
    """What tboot printed of it, as txt-stat shows that."""

    TBOOT_MEMORY = "tboot-memory"
    """What tboot printed, where tboot keeps it in memory."""

    @property
    def path(self) -> str:
        """Return the file below the root.

        As the txt module of OpenXT names it; the memory; what txt-stat said.
        """
        return {
            LogFormat.TCG_AGILE: f"{_SECURITYFS}/tpm20_binary_evtlog_tcg",
            LogFormat.TCG_SHA1: f"{_SECURITYFS}/tpm12_binary_evtlog",
            LogFormat.TXT_CONTAINER: f"{_SECURITYFS}/tpm12_binary_evtlog",
            LogFormat.PER_BANK: f"{_SECURITYFS}/tpm20_binary_evtlog_legacy",
            LogFormat.TXT_HEAP: "dev/mem",
            LogFormat.TBOOT_TEXT: "var/log/txt-stat",
            LogFormat.TBOOT_MEMORY: "dev/mem",
        }[self]


def binary_log(
    form: LogFormat, records: Sequence[LogRecord], banks: Sequence[HashAlgorithm]
) -> bytes:
    """Return a log's bytes in one of the four binary forms.

    The two SHA-1 forms need a digest in SHA-1.
    """
    return _WRITERS[form](records, banks)


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


def bank_records(records: Sequence[LogRecord], bank: HashAlgorithm) -> bytes:
    """Return the records of one bank in the form of the SHA-1 log.

    A record that has no digest in the bank is not in its log.
    """
    return b"".join(
        struct.pack("<II", record.pcr, record.type)
        + record.digests[bank].value
        + struct.pack("<I", len(record.data))
        + record.data
        for record in records
        if bank in record.digests
    )


def bank_log(records: Sequence[LogRecord], bank: HashAlgorithm) -> bytes:
    """Return the log of one bank as SINIT begins it: a head for all but SHA-1."""
    if bank is HashAlgorithm.SHA1:
        return bank_records(records, bank)
    head = struct.pack("<16sIII", b"", 1, _INTEL_IDS[bank], bank.size)
    first = struct.pack("<II20xI", 0, _EV_NO_ACTION, len(head)) + head
    return first + bank_records(records, bank)


def bank_descriptor(bank: HashAlgorithm, address: int, end: int) -> bytes:
    """Return what tells where a bank's log is: its address, size, first and end."""
    return struct.pack("<HHQIII", bank.tcg_id, 0, address, BANK_LOG_SIZE, 0, end)


def _per_bank(records: Sequence[LogRecord], banks: Sequence[HashAlgorithm]) -> bytes:
    """Return the logs as OpenXT's kernel hands them on: each behind its descriptor."""
    logs = [(bank, bank_log(records, bank)) for bank in banks]
    return b"".join(
        bank_descriptor(bank, _BANK_LOGS_AT + number * BANK_LOG_SIZE, len(log)) + log
        for number, (bank, log) in enumerate(logs)
    )


def _tcg_sha1(records: Sequence[LogRecord], _banks: Sequence[HashAlgorithm]) -> bytes:
    return bank_records(records, HashAlgorithm.SHA1)


def _container(records: Sequence[LogRecord], _banks: Sequence[HashAlgorithm]) -> bytes:
    events = bank_records(records, HashAlgorithm.SHA1)
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
    LogFormat.PER_BANK: _per_bank,
}
