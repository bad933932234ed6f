# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw TXT heaps as bytes, for tests: written with struct alone, from appendix C.

Nothing here imports the readers. The figures are those of a ThinkPad T460p and a Dell
E5470: base, table sizes, and where tboot puts the log.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

BASE = 0xB8F20000
LOG_OFFSET = 0x10176
"""Where tboot's buffer lies in the heap of both machines, by their text logs."""
OS_MLE_SIZE = 0x15120


def table(body: bytes) -> bytes:
    return struct.pack("<Q", 8 + len(body)) + body


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, 8 + len(body)) + body


END = element(0, b"")


def container_pointer(address: int) -> bytes:
    return element(5, struct.pack("<Q", address))


def bank_descriptor(
    tcg_id: int, address: int, end: int, *, size: int = 4096, first: int = 0
) -> bytes:
    return struct.pack("<HHQIII", tcg_id, 0, address, size, first, end)


def bank_pointers(*descriptors: bytes) -> bytes:
    return element(7, struct.pack("<I", len(descriptors)) + b"".join(descriptors))


def agile_pointer(
    address: int, end: int, *, allocated: int = 8192, first: int = 0
) -> bytes:
    return element(8, struct.pack("<QIII", address, allocated, first, end))


def bios(version: int = 4, *, sinit_size: int = 0, processors: int = 8) -> bytes:
    body = struct.pack("<IIQQI", version, sinit_size, 0, 0, processors)
    if version >= 3:
        body += struct.pack("<Q", 1)
    if version >= 4:
        body += element(1, struct.pack("<HHH", 2, 1, 0))
        body += element(2, struct.pack("<IQ", 1, 0xFFF4F000)) + END
    return table(body)


def os_sinit(
    version: int = 7, elements: bytes = b"", capabilities: int = 0x602
) -> bytes:
    body = struct.pack("<IIQQQ", version, 1, 0x801000, 0x4A000, 0x1BC00)
    body += struct.pack("<QQQQ", 0, 0x97E00000, 2**32, 0x341800000)
    body += struct.pack("<QQI", 0, 0, capabilities)
    if version >= 5:
        body += struct.pack("<Q", 0x2472E20)
    return table(body + elements + (END if version >= 6 else b""))


def sinit_mle(
    version: int,
    acm_id: bytes,
    edx: int,
    mseg: int,
    hashes: Sequence[bytes],
    control: int,
    *,
    scrtm: int = 0,
) -> bytes:
    """SinitMleData behind its size; `hashes` are those of SINIT, MLE, STM, LCP policy.

    A version 9 ends in elements of type 6 and 9, as the E5470's.
    """
    body = struct.pack("<I20sIQ", version, acm_id, edx, mseg)
    body += b"".join(hashes)
    body += struct.pack("<IIIIIII", control, 0xB8ED1CE0, 0, 7, 0x254, 168, 0x1AC)
    if version >= 8:
        body += struct.pack("<I", scrtm)
    if version >= 9:
        body += element(6, bytes(188)) + element(9, bytes(60)) + END
    return body + bytes(64)


BLANK_SINIT_MLE = sinit_mle(9, bytes(20), 0, 0, [bytes(20)] * 4, 0)


@dataclass(frozen=True)
class Heap:
    """A heap whose `log` lies at `log_offset`, within or behind OsMleData."""

    elements: bytes = b""
    log: bytes = b""
    log_offset: int = LOG_OFFSET
    os_sinit_version: int = 7
    sinit_mle: bytes = BLANK_SINIT_MLE
    bios: bytes = bios()
    size: int = 0x20000

    def __bytes__(self) -> bytes:
        os_mle = table(struct.pack("<IQ", 3, 0x2D000).ljust(OS_MLE_SIZE - 8, b"\0"))
        tail = os_sinit(self.os_sinit_version, self.elements) + table(self.sinit_mle)
        heap = bytearray((self.bios + os_mle + tail).ljust(self.size, b"\0"))
        heap[self.log_offset : self.log_offset + len(self.log)] = self.log
        return bytes(heap)
