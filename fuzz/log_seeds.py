# SPDX-License-Identifier: GPL-2.0-or-later
"""What fuzzing of the logs begins with: logs of real machines, and written ones."""

from __future__ import annotations

import struct

import per_bank_bytes
import tboot_texts
import txt_heap_bytes
from event_log_bytes import VECTORS, agile_record, container, sha1_record, spec_id
from host_memory import memory_log, pack

_BANKS = {0x04: 20, 0x0B: 32}
_BOTH = [(0x04, b"\x01" * 20), (0x0B, b"\x02" * 32)]
_ROWS = [(17, 0x402, b""), (17, 0x40F, b"caps"), (18, 0x404, b"mle")]
_RECORDS: list[tboot_texts.Record] = [
    (17, 0x402, dict(_BOTH), b"\0" * 8),
    (18, 0x404, dict(_BOTH), b""),
    (18, 0x501, dict(_BOTH), b"xen"),
]
_OLD = sha1_record(17, 0x402, b"\1" * 20, b"acm") + sha1_record(18, 0x404, b"\2" * 20)
_AGILE = (
    spec_id(_BANKS, b"\0" * 4)
    + agile_record(0, 3, [(0x04, bytes(20))], b"StartupLocality\0\3")
    + agile_record(17, 0x402, _BOTH, b"\x02" * 32)
    + agile_record(255, 0x401, _BOTH, b"map")
    + agile_record(18, 0x404, _BOTH)
)


def _vectors(*patterns: str) -> list[bytes]:
    """Return real machines' files, none where they are not beside the project."""
    return [
        path.read_bytes()
        for pattern in patterns
        for path in sorted(VECTORS.glob(pattern))
    ]


def tcg_logs() -> list[bytes]:
    """SHA-1 and crypto-agile logs, whole and in a buffer."""
    return [_OLD, _AGILE, _AGILE + bytes(64), _OLD + b"\xff" * 64, *_binary()]


def _binary() -> list[bytes]:
    return _vectors("*/*.bin", "*/*/*.bin", "srtm/malformed/*")


def containers() -> list[bytes]:
    """TXT event containers: of a TPM 1.2, and of AMD's loader around any log."""
    head = struct.pack("<16sI4BB", b"Spec ID Event02", 0, 0, 2, 0, 2, 48)
    skl = sha1_record(0, 3, bytes(20), head + container(_OLD)[:48]) + _OLD
    return [
        container(_OLD),
        container(_OLD, padding=bytes(100)),
        container(_OLD, major=2),
        skl,
        *_vectors("drtm/*.bin"),
    ]


def bank_logs() -> list[bytes]:
    """Logs kept bank by bank, in both layouts."""
    one, other = per_bank_bytes.bank(0x04, _ROWS), per_bank_bytes.bank(0x0B, _ROWS)
    return [
        per_bank_bytes.exported((0x04, one), (0x0B, other)),
        per_bank_bytes.exported((0x0B, other), (0x27, b"unknown"), first=8),
        per_bank_bytes.pages(one, other),
        per_bank_bytes.pages(one)[: len(one)],
        other,
    ]


_TABLE = (b"i" * 20, 1, 2, [b"s" * 20, b"m" * 20, b"t" * 20, b"l" * 20], 2)


def sinit_tables() -> list[bytes]:
    """SinitMleData of every version that is known."""
    return [txt_heap_bytes.sinit_mle(version, *_TABLE) for version in (6, 7, 8, 9)]


def _heap(kind: int, log: bytes) -> bytes:
    """Return a heap of less than three pages, its log in the third."""
    at = txt_heap_bytes.BASE + 0x2000
    elements = {
        5: txt_heap_bytes.container_pointer(at),
        7: txt_heap_bytes.bank_pointers(
            txt_heap_bytes.bank_descriptor(0x0B, at, len(log))
        ),
        8: txt_heap_bytes.agile_pointer(at, len(log)),
    }
    tables = (
        txt_heap_bytes.bios()
        + txt_heap_bytes.table(bytes(64))
        + txt_heap_bytes.os_sinit(7, elements[kind])
        + txt_heap_bytes.table(txt_heap_bytes.BLANK_SINIT_MLE)
    )
    return tables.ljust(0x2000, b"\0") + log


def heaps() -> list[bytes]:
    """Raw TXT heaps, with a pointer of each kind."""
    return [
        _heap(5, container(_OLD)),
        _heap(7, per_bank_bytes.bank(0x0B, _ROWS)),
        _heap(8, _AGILE),
    ]


def texts() -> list[bytes]:
    """tboot's text, with logs of each kind, with tables alone, and of real machines."""
    listed = tboot_texts.measurements([(17, dict(_BOTH)), (18, dict(_BOTH))])
    tables = tboot_texts.os_sinit(7, 0x602)
    made = [
        tboot_texts.container(_RECORDS),
        tboot_texts.container([(p, k, {4: d[4]}, b) for p, k, d, b in _RECORDS]),
        tboot_texts.banks({0x04: _RECORDS, 0x0B: _RECORDS}),
        tboot_texts.agile([0x04, 0x0B], _RECORDS),
        tboot_texts.agile([0x04, 0x0B], _RECORDS) + listed,
        tboot_texts.empty_agile() + listed + tables,
        tboot_texts.old_measurements([(18, b"\1" * 20)]),
    ]
    return [each.encode() for each in made] + _vectors("drtm/*.txt")


def memory_logs() -> list[bytes]:
    """tboot's log in memory, plain and packed."""
    text = tboot_texts.agile([0x04, 0x0B], _RECORDS).encode()
    packed = pack(text, 7)
    return [
        memory_log(text).rstrip(b"\0"),
        memory_log(b"TBOOT: more\n", [packed]).rstrip(b"\0"),
        memory_log(b"TBOOT: more\n", [packed, packed]).rstrip(b"\0"),
    ]


def consoles() -> list[bytes]:
    """What `xl dmesg` prints, in both spellings."""
    boot = b"(XEN) [    0.1] Xen version 4.17.5 (user@host) debug=n Mon May  6 2024\n"
    cmdline = b"(XEN) Command line: placeholder console=vga\n"
    old = b"(XEN) SLAUNCH: reserving event log (0x7b200000 - 0x7b208000)\n"
    new = b"(XEN) SLAUNCH: reserving event log [0x6d000000, 0x6d010000)\n"
    return [boot + cmdline + old, boot + old + boot + cmdline + new]


def every_log() -> list[bytes]:
    """Logs of every kind."""
    return [*tcg_logs(), *containers(), *bank_logs(), *heaps(), *texts()]
