# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id inside a Xen image: which build it is, whatever its version says.

The linker hashes the image for it, so equal ids are equal builds. A running Xen tells
its own in /sys/hypervisor/buildid, as hex: 20 bytes of an ELF image's note, or the 16
bytes of a PE image's CodeView record.
Sources: ELF note NT_GNU_BUILD_ID (binutils ld, --build-id=sha1); Xen
xen/common/version.c (xen_build_init, struct cv_info_pdb70);
Linux Documentation/ABI/stable/sysfs-hypervisor-xen (buildid).
"""

from __future__ import annotations

import struct

_NAME = b"GNU\0"
_TYPE_BUILD_ID = 3
_SHA1_SIZE = 20
_NOTE = struct.pack("<III", len(_NAME), _SHA1_SIZE, _TYPE_BUILD_ID) + _NAME

_CODEVIEW = b"RSDS"
_GUID_SIZE = 16

_PE_OFFSET_AT = 0x3C
_COFF = struct.Struct("<4s2xH12xH2x")
"""Signature; number of sections; size of the optional header."""
_SECTION = struct.Struct("<8s8xII16x")
"""Name; size and offset in the file."""
_BUILD_ID_SECTION = b".buildid"


def build_id(image: bytes) -> str | None:
    """Return the build id of a plain ELF or PE image, lower-case hex.

    None where there is none, or where there are two that differ.
    """
    if not image.startswith(b"MZ"):
        return _only(image, _NOTE, _SHA1_SIZE)
    return _only(_section(image), _CODEVIEW, _GUID_SIZE)


def _only(data: bytes, mark: bytes, size: int) -> str | None:
    """Return what stands behind every mark in the data, if it is the same."""
    found = set()
    at = data.find(mark)
    while at >= 0:
        value = data[at + len(mark) : at + len(mark) + size]
        if len(value) == size:
            found.add(value.hex())
        at = data.find(mark, at + 1)
    return found.pop() if len(found) == 1 else None


def _section(image: bytes) -> bytes:
    """Return a PE image's section for the build id; empty where there is none."""
    at = int.from_bytes(image[_PE_OFFSET_AT : _PE_OFFSET_AT + 4], "little")
    if at + _COFF.size > len(image):
        return b""
    signature, count, optional = _COFF.unpack_from(image, at)
    table = at + _COFF.size + optional
    if signature != b"PE\0\0" or table + count * _SECTION.size > len(image):
        return b""
    for number in range(count):
        name, size, start = _SECTION.unpack_from(image, table + number * _SECTION.size)
        if name == _BUILD_ID_SECTION:
            return image[start : start + size]
    return b""
