# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT AC modules and LCP policy data: what tboot drops from its module list.

After the launch tboot removes, unmeasured, every module but the first that is a SINIT
ACM (for any platform), and one LCP policy data file. Here is how it tells them (which
of several files it removes is measure/tboot_files.py's), and
which bytes of an ACM the processor hashes when it is launched (HASH_START).

Sources: tboot/txt/acmod.c (is_acmod, is_sinit_acmod, get_acmod_info_table,
are_sizes_equal_pad_adjusted), tboot/common/loader.c (remove_txt_modules,
find_lcp_module, find_module), include/txt/acmod.h of 1.8 to 1.11; Intel TXT Software
Development Guide A.1 (ACM header) and E (what SENTER measures).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aemseal.words.errors import FormatError

SINIT_ACM = "sinit-acm"
LCP_POLICY_DATA = "lcp-policy-data"
LCP_POLICY_DATA_V1 = "lcp-policy-data-v1"

HEAD_LIMIT = 1 << 20
"""Bytes of a module that `tboot_skips` may need. Released ACMs have at most 512 KiB."""

LCP_UUID = bytes.fromhex("25190dabe7eeeb48fca90bac5a262d0e")
"""First bytes of LCP policy data of version 0 and 1 (LCP_POLICY_DATA_UUID)."""

LCP_SIGNATURE = b"Intel(R) TXT LCP_POLICY_DATA"
"""First bytes of LCP policy data of version 2 and later (without its NULs)."""

_HEADER = struct.Struct("<HHII2xHIIIH")
"""Type, subtype, header length, header version, flags, vendor, date, size, SVN."""

_SIZES_AT = 120
_SIZES = struct.Struct("<II")
"""Key size and scratch size."""

_HEADER_STRUCT = 1216
"""sizeof(acm_hdr_t): tboot takes nothing shorter for an ACM."""

_INFO_TABLE = struct.Struct("<16sBBH28x")
"""UUID, ACM type, version, length; 48 bytes in all."""

_TYPE_CHIPSET = 2
_VENDOR_INTEL = 0x8086
_INFO_UUID = bytes.fromhex("aa3ac07fa746db182eac698f8d417f5a")
_INFO_TYPE_SINIT = 1
_INFO_VERSION_MIN = 3
_PADDING = range(0x10000, 0x40000 + 1)
_MEASURED_START = 128
"""Up to the public key; key, exponent, signature and scratch area are left out."""


@dataclass(frozen=True, slots=True)
class AcmHeader:
    """An AC module's header. Lengths are bytes; `info_offset` is behind the scratch.

    `date` is the word that launchers compare, BCD yyyymmdd ("0x20190708");
    `security_version` is TXT's (txt_svn), not SGX's. Nothing is held against anything
    else here: `modulus` in acm_info.py says which lengths go together.
    """

    type: int
    subtype: int
    header_length: int
    header_version: int
    flags: int
    vendor: int
    date: int
    size: int
    security_version: int
    key_size: int
    info_offset: int

    @classmethod
    def parse(cls, head: bytes) -> AcmHeader:
        """Read the first 128 bytes; FormatError when they are too short or no ACM's."""
        if len(head) < _MEASURED_START:
            raise FormatError("the file is too short for an ACM header", len(head))
        fields = _HEADER.unpack_from(head)
        kind, subtype, length, version, flags, vendor, date, size, svn = fields
        key, scratch = _SIZES.unpack_from(head, _SIZES_AT)
        if kind != _TYPE_CHIPSET or vendor != _VENDOR_INTEL:
            raise FormatError("the file is no Intel AC module", 0)
        return cls(
            type=kind,
            subtype=subtype,
            header_length=length * 4,
            header_version=version,
            flags=flags,
            vendor=vendor,
            date=date,
            size=size * 4,
            security_version=svn,
            key_size=key * 4,
            info_offset=(length + scratch) * 4,
        )


def tboot_skips(head: bytes, size: int) -> str | None:
    """Tell what tboot may drop a module for: SINIT_ACM, LCP_POLICY_DATA[_V1] or None.

    `head` holds the module's first bytes as GRUB hands them over, all of them or
    HEAD_LIMIT; `size` is the whole module's. FormatError when an ACM's header points
    behind HEAD_LIMIT, where nothing was kept.

    A module padded by 64 to 256 KiB counts as an ACM, as for tboot 1.9.11 and later;
    older ones measure it.
    """
    if head.startswith(LCP_UUID):
        return LCP_POLICY_DATA_V1
    if head.startswith(LCP_SIGNATURE):
        return LCP_POLICY_DATA
    if size < _HEADER_STRUCT:
        return None
    try:
        header = AcmHeader.parse(head)
    except FormatError:
        return None
    if size != header.size and size - header.size not in _PADDING:
        return None
    table_end = header.info_offset + _INFO_TABLE.size
    if table_end > header.size:
        return None
    if table_end > len(head):
        raise FormatError(
            f"the ACM's information table is behind the first {len(head)} bytes",
            header.info_offset,
        )
    uuid, kind, version, _ = _INFO_TABLE.unpack_from(head, header.info_offset)
    is_sinit = (
        uuid == _INFO_UUID and kind == _INFO_TYPE_SINIT and version >= _INFO_VERSION_MIN
    )
    return SINIT_ACM if is_sinit else None


def measured_ranges(acm: bytes) -> tuple[range, range]:
    """Return the ranges of an ACM that the processor hashes, in order.

    They are the header up to the public key, and all from the end of the scratch area
    to the module's own size. The rule was seen to hold for header 0.0 (2048-bit key,
    header of 644 bytes); for 3.0 (3072 bits, 896 bytes) it is computed the same way,
    and no log was there to confirm it. FormatError when `acm` is no Intel AC module,
    is shorter than it says, or its scratch area leaves it.
    """
    header = AcmHeader.parse(acm)
    if header.size > len(acm):
        raise FormatError(
            f"the ACM says it has {header.size} bytes, and there are {len(acm)}",
            len(acm),
        )
    if not _MEASURED_START <= header.info_offset <= header.size:
        raise FormatError("the ACM's scratch area leaves the module", _SIZES_AT)
    return range(_MEASURED_START), range(header.info_offset, header.size)


def measured_bytes(acm: bytes) -> bytes:
    """Return the bytes of an ACM that the processor hashes; FormatError as above."""
    return b"".join(acm[each.start : each.stop] for each in measured_ranges(acm))
