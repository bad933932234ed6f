# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id that a running Xen tells in /sys/hypervisor/buildid.

Sources: Xen common/version.c (the GNU note of an ELF image; of a PE image the GUID of
the CodeView record in .buildid), System V ABI (notes: sizes, type, name, descriptor).
"""

from __future__ import annotations

import struct

_GNU_NOTE = struct.pack("<III4s", 4, 20, 3, b"GNU")
_GUID_SIZE = 16
_RSDS = b"RSDS"
_PE_AT = 0x3C
_SECTION = struct.Struct("<8sIIII16x")


def build_id_of(xen: bytes) -> str | None:
    """Return the id of a plain xen image or of a xen.efi in hex; None without one."""
    if xen.startswith(b"MZ"):
        return _of_pe(xen)
    at = xen.find(_GNU_NOTE)
    if at < 0:
        return None
    at += len(_GNU_NOTE)
    return xen[at : at + 20].hex()


def _of_pe(xen: bytes) -> str | None:
    (header,) = struct.unpack_from("<I", xen, _PE_AT)
    count, optional = struct.unpack_from("<H12xH", xen, header + 6)
    table = header + 24 + optional
    for number in range(count):
        section = _SECTION.unpack_from(xen, table + number * _SECTION.size)
        name, _, _, size, offset = section
        record = xen[offset : offset + size].find(_RSDS)
        if name == b".buildid" and record >= 0:
            at = offset + record + len(_RSDS)
            return xen[at : at + _GUID_SIZE].hex()
    return None
