# SPDX-License-Identifier: GPL-2.0-or-later
"""Small Xen images, as ELF and as PE, with or without an MLE header."""

from __future__ import annotations

import struct

UUID = bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642")
BODY_AT = 0x200
BASE = 0x200000


def mle_header(start: int = 0, end: int = 0x900, entry: int = 0x626794) -> bytes:
    """The header as Xen's head.S has it."""
    words = (52, 0x20002, entry, 0x55, start, end, 0x723, 0, 0)
    return UUID + struct.pack("<9I", *words)


def segment(
    offset: int, address: int, in_file: int, in_memory: int, kind: int = 1
) -> bytes:
    """A program header."""
    fields = (kind, offset, address, address, in_file, in_memory, 7, 4096)
    return struct.pack("<8I", *fields)


def elf(*segments: bytes, body: bytes = b"", **header: int | bytes) -> bytes:
    """An ELF file: header, program headers, then `body` at BODY_AT."""
    ident = header.get("ident", b"\x7fELF\x01\x01\x01" + bytes(9))
    assert isinstance(ident, bytes)
    start = ident + struct.pack(
        "<HHIIIIIHHHHHH",
        header.get("kind", 2),
        header.get("machine", 3),
        header.get("version", 1),
        BASE,
        header.get("phoff", 52),
        *(0, 0, 52),
        header.get("entry", 32),
        header.get("count", len(segments)),
        *(40, 0, 0),
    )
    return (start + b"".join(segments)).ljust(BODY_AT, b"\0") + body


def xen_body(header: bytes | None = None, at: int = 0x40, size: int = 0x800) -> bytes:
    """Bytes of a segment with an MLE header in it."""
    header = mle_header() if header is None else header
    filler = bytes(number % 251 for number in range(size))
    return filler[:at] + header + filler[at + len(header) :]


def xen_elf(header: bytes | None = None, at: int = 0x40) -> bytes:
    """A Xen of one segment, 0x800 bytes in the file and 0x900 in memory."""
    body = xen_body(header, at)
    return elf(segment(BODY_AT, BASE, len(body), 0x900), body=body)


def xen_efi(
    *sections: bytes, header: bytes | None = None, at: int = 0x400, **pe: int | bytes
) -> bytes:
    """A xen.efi whose section table names these sections."""
    names = b"".join(name.ljust(8, b"\0") + bytes(32) for name in sections)
    coff = struct.pack(
        "<4sHH12xHH",
        pe.get("signature", b"PE\0\0"),
        pe.get("machine", 0x8664),
        pe.get("count", len(sections)),
        pe.get("optional", 240),
        0x202,
    )
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 0x80)
    start = (dos.ljust(0x80, b"\0") + coff).ljust(0x80 + len(coff) + 240, b"\0") + names
    made = mle_header() if header is None else header
    return start.ljust(at, b"\xcc") + made + bytes(0x1000)
