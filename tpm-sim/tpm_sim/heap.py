# SPDX-License-Identifier: GPL-2.0-or-later
"""The TXT heap as firmware, tboot and SINIT leave it, and the registers that name it.

Sources: Intel TXT Software Development Guide 1.10 appendix C (tables, each behind its
size in 8 bytes, which counts itself) and appendix B.1 (registers); tboot include/txt/
heap.h. Sizes and offsets are those of the Dell E5470 and the ThinkPad T460p.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aemseal.words.digest import HashAlgorithm
from tpm_sim.eventlog import BANK_LOG_SIZE, bank_descriptor
from tpm_sim.memory import write_memory

HEAP_BASE = 0x3FF20000
HEAP_SIZE = 0xE0000
_REGISTERS = 0xFED30000
_DIDVID_AT = 0x110
_HEAP_AT = 0x300
_DIDVID = 0x1B0068086
_OS_MLE_SIZE = 0x15118
_LOG_AT = 0x10118
"""Where the log lies in the OS-to-MLE data; bank logs follow page by page."""

_AGILE_LOG_SIZE = 0x2000
_MDRS, _DMARS = 7 * 24, 168
_END = struct.pack("<II", 0, 8)
_CONTAINER, _BANK_LOGS, _AGILE_LOG = 5, 7, 8


@dataclass(frozen=True, slots=True)
class SinitTable:
    """What SINIT tells the launched system; with a TPM 2.0 the hashes are zero.

    `version` 6 and 7 end before `scrtm_status`; `sinit_hash` is H(module) in version
    6, and what PCR 17 was after HASH_START from 7 on.
    """

    version: int = 9
    bios_acm_id: bytes = bytes(20)
    mseg_valid: int = 0
    sinit_hash: bytes = bytes(20)
    mle_hash: bytes = bytes(20)
    stm_hash: bytes = bytes(20)
    lcp_policy_hash: bytes = bytes(20)
    lcp_policy_control: int = 0
    scrtm_status: int = 0

    @property
    def has_scrtm_status(self) -> bool:
        """Whether the table goes that far."""
        return self.version >= 8

    def combined(self, capabilities: int) -> bytes:
        """Return what the combined event is the hash of: 76 or 80 bytes.

        The capabilities count only when the policy's control bit 1 is set.
        """
        counted = capabilities if self.lcp_policy_control & 2 else 0
        data = self.bios_acm_id + struct.pack("<Q", self.mseg_valid) + self.stm_hash
        data += struct.pack("<I", self.lcp_policy_control) + self.lcp_policy_hash
        data += struct.pack("<I", counted)
        if self.has_scrtm_status:
            data += struct.pack("<I", self.scrtm_status)
        return data

    @property
    def content(self) -> bytes:
        """The table's bytes."""
        hashes = self.sinit_hash + self.mle_hash + self.stm_hash + self.lcp_policy_hash
        data = struct.pack(
            "<I20sIQ", self.version, self.bios_acm_id, 0, self.mseg_valid
        )
        data += hashes
        data += struct.pack("<III", self.lcp_policy_control, HEAP_BASE - 0x4E320, 0)
        elements = b""
        if self.version >= 9:
            elements = struct.pack("<II188x", 6, 196) + struct.pack("<II60x", 9, 68)
            elements += _END
        elif self.has_scrtm_status:
            elements = bytes(272)  # left free on the T460p, by the same module
        tail = struct.pack("<I", self.scrtm_status) if self.has_scrtm_status else b""
        dmars = 8 + len(data) + 16 + len(tail) + len(elements)
        data += struct.pack("<IIII", 7, dmars + _DMARS, _DMARS, dmars)
        return data + tail + elements + bytes(_DMARS + _MDRS)


@dataclass(frozen=True, slots=True)
class HeapLog:
    """The log in a heap: its element's type, and its bytes, a bank each for type 7."""

    kind: int
    logs: tuple[tuple[HashAlgorithm | None, bytes], ...]

    @classmethod
    def container(cls, log: bytes) -> HeapLog:
        """Return a TPM 1.2's log."""
        return cls(_CONTAINER, ((None, log),))

    @classmethod
    def agile(cls, log: bytes) -> HeapLog:
        """Return a TPM 2.0's log in TCG's form."""
        return cls(_AGILE_LOG, ((None, log),))

    @classmethod
    def banks(cls, logs: Sequence[tuple[HashAlgorithm, bytes]]) -> HeapLog:
        """Return a TPM 2.0's older logs, one for each bank."""
        return cls(_BANK_LOGS, tuple(logs))

    def element(self, address: int) -> bytes:
        """Return the element that names the log, which lies at an address."""
        if self.kind == _CONTAINER:
            body = struct.pack("<Q", address)
        elif self.kind == _AGILE_LOG:
            end = len(self.logs[0][1])
            body = struct.pack("<QIII", address, _AGILE_LOG_SIZE, 0, end)
        else:
            body = struct.pack("<I", len(self.logs))
            for number, (bank, log) in enumerate(self.logs):
                assert bank is not None
                place = address + number * BANK_LOG_SIZE
                body += bank_descriptor(bank, place, len(log))
        return struct.pack("<II", self.kind, 8 + len(body)) + body


def heap_bytes(
    log: HeapLog, table: SinitTable, capabilities: int, bios_sinit_size: int
) -> bytes:
    """Return the heap's four tables; the log lies within the second.

    `bios_sinit_size` is that of the firmware's own SINIT module, 0 if it has none.
    """
    bios = _table(_bios_data(bios_sinit_size))
    address = HEAP_BASE + len(bios) + 8 + _LOG_AT
    os_mle = bytearray(_OS_MLE_SIZE)
    struct.pack_into("<I", os_mle, 0, 3)
    for number, (_, content) in enumerate(log.logs):
        at = _LOG_AT + number * BANK_LOG_SIZE
        os_mle[at : at + len(content)] = content
    os_sinit = struct.pack(
        "<IIQQQQQQQQQIQ",
        *(7, 0 if log.kind == _CONTAINER else 1, 0x801000, 0x4A000, 0x1BC00),
        *(0, 0x3FE00000, 0x100000000, 0x1C0000000, 0, 0, capabilities, 0x2472E20),
    )
    os_sinit += log.element(address) + _END
    tables = (bytes(os_mle), os_sinit, table.content)
    return bios + b"".join(_table(each) for each in tables)


def leave_heap(root: Path, heap: bytes) -> None:
    """Write the heap into the machine's memory, and the registers that name it."""
    write_memory(root, HEAP_BASE, heap.ljust(HEAP_SIZE, b"\0"))
    write_memory(root, _REGISTERS + _DIDVID_AT, struct.pack("<Q", _DIDVID))
    place = struct.pack("<QQ", HEAP_BASE, HEAP_SIZE)
    write_memory(root, _REGISTERS + _HEAP_AT, place)


def _table(content: bytes) -> bytes:
    return struct.pack("<Q", 8 + len(content)) + content


def _bios_data(sinit_size: int) -> bytes:
    """Return the firmware's table: version 6, two elements."""
    data = struct.pack("<IIQQIQ", 6, sinit_size, 0, 0, 4, 0x200000000)
    data += struct.pack("<IIHHH", 1, 14, 2, 1, 0)
    return data + struct.pack("<IIIQ", 2, 20, 1, 0xFFE60000) + _END
