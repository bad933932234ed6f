# SPDX-License-Identifier: GPL-2.0-or-later
"""A SINIT module's identity: its key, and its information table with what it is for.

Which module is launched depends on the lists here (which chipsets, which processors)
and on its date; what it measures, on its key and capabilities.

Sources: Intel TXT Software Development Guide A.1 (header 0.0: RSA-2048 with exponent,
0xa1 dwords; header 3.0: RSA-3072 without, 0xe0 dwords) and A.1.1 to A.1.3 (information
table, chipset, processor and TPM lists); tboot/txt/acmod.c (get_acmod_chipset_list,
get_acmod_processor_list, get_tpm_info_list, does_acmod_match_platform); TrenchBoot's
GRUB, loader/i386/txt/acmod.c (the same, and table version 9, whose lists are others).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from aemseal.formats.acm import SINIT_ACM, AcmHeader, measured_bytes, tboot_skips
from aemseal.formats.acm_platform import (
    CHIPSET,
    PROCESSOR,
    ChipsetId,
    Platform,
    ProcessorId,
)
from aemseal.formats.reader import ByteReader
from aemseal.words.errors import FormatError

MOST_IDS = 1024
"""Entries of a list; more are refused. Released modules have a few dozen."""

_KEY_AT = 128
_KEY_SIZE_AT = 120
_HEADER_VERSION_0_0, _HEADER_VERSION_3_0 = 0, 0x30000
_LAYOUTS = {_HEADER_VERSION_0_0: (256, 0xA1 * 4), _HEADER_VERSION_3_0: (384, 0xE0 * 4)}
"""Bytes of key and header, by header version."""

_TABLE = struct.Struct("<17xBHI8xI4xII")
"""Behind UUID and type: version, length, chipset list, capabilities, processor list,
TPM list; versions of other structures and the module's own lie between."""

_LENGTH_AT, _CHIPSETS_AT, _PROCESSORS_AT, _TPM_AT = 18, 20, 40, 44
_FLAG_DEBUG_SIGNED = 1 << 15

_PROCESSORS_SINCE, _TPM_SINCE, _FLEXIBLE_SINCE = 4, 5, 9
"""Table versions: the first with a processor list, a TPM list, lists in other form."""


class _Table(NamedTuple):
    version: int
    length: int
    chipsets: int
    capabilities: int
    processors: int
    tpm: int


@dataclass(frozen=True, slots=True)
class TpmInfo:
    """What a SINIT module says of TPMs: a capabilities word, TCG algorithm ids."""

    capabilities: int
    algorithms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SinitModule:
    """A SINIT module: what is measured of it, and what decides its launch.

    `modulus` is the RSA modulus as stored, None for a header version whose layout is
    not known. `platform` is None for table version 9 and later, `tpm` below 5.
    """

    header: AcmHeader
    measured: bytes = field(repr=False)
    modulus: bytes | None = field(repr=False)
    table_version: int
    table_length: int
    capabilities: int
    platform: Platform | None
    tpm: TpmInfo | None

    @classmethod
    def parse(cls, acm: bytes) -> SinitModule:
        """Read a whole module as GRUB hands it over, padding included.

        It is told by type, vendor and UUID, as tboot does, never by the header's
        length. FormatError when it is no SINIT module for tboot, when it says that it
        is longer than it is, when header version and key size do not go together,
        when the table is shorter than its version needs, and when a list leaves the
        module or has more than 1024 entries.
        """
        if tboot_skips(acm, len(acm)) != SINIT_ACM:
            raise FormatError("the file is no SINIT module", 0)
        header = AcmHeader.parse(acm)
        measured = measured_bytes(acm)
        table = header.info_offset
        fields = _Table(*_TABLE.unpack_from(acm, table))
        if fields.length < _least_length(fields.version):
            raise FormatError(
                f"an information table of version {fields.version} has "
                f"{fields.length} bytes",
                table + _LENGTH_AT,
            )
        whole = acm[: header.size]
        has_tpm = fields.version >= _TPM_SINCE
        return cls(
            header=header,
            measured=measured,
            modulus=_modulus(whole, header),
            table_version=fields.version,
            table_length=fields.length,
            capabilities=fields.capabilities,
            platform=_platform(whole, header, fields, table),
            tpm=_tpm(whole, fields.tpm, table) if has_tpm else None,
        )

    @property
    def key(self) -> str | None:
        """SHA-256 of the modulus, hex: what SINIT hashes into SINIT_PUBKEY_HASH."""
        if self.modulus is None:
            return None
        return hashlib.sha256(self.modulus).hexdigest()

    @property
    def date(self) -> str:
        """The date as yyyymmdd: "20190708"."""
        return f"{self.header.date:08x}"

    @property
    def header_version(self) -> str:
        """The header's version: "0.0", "3.0"."""
        version = self.header.header_version
        return f"{version >> 16}.{version & 0xFFFF}"


def _least_length(version: int) -> int:
    """Return how much of the table a version needs to be read here."""
    if version < _PROCESSORS_SINCE:
        return _PROCESSORS_AT
    return _TPM_AT if version < _TPM_SINCE else _TABLE.size


def _modulus(acm: bytes, header: AcmHeader) -> bytes | None:
    layout = _LAYOUTS.get(header.header_version)
    if layout is None:
        return None
    if layout != (header.key_size, header.header_length):
        raise FormatError(
            f"a key of {header.key_size} bytes in a header of {header.header_length}: "
            f"with this header version they are {layout[0]} and {layout[1]}",
            _KEY_SIZE_AT,
        )
    return acm[_KEY_AT : _KEY_AT + header.key_size]


def _platform(
    acm: bytes, header: AcmHeader, fields: _Table, table: int
) -> Platform | None:
    if fields.version >= _FLEXIBLE_SINCE:
        return None
    rows = _entries(acm, fields.chipsets, table + _CHIPSETS_AT, "chipset", CHIPSET.size)
    processors = None
    if fields.version >= _PROCESSORS_SINCE:
        at = table + _PROCESSORS_AT
        found = _entries(acm, fields.processors, at, "processor", PROCESSOR.size)
        processors = frozenset(map(ProcessorId.unpack, found))
    return Platform(
        chipsets=frozenset(map(ChipsetId.unpack, rows)),
        processors=processors,
        kind=fields.capabilities >> 6 & 3 if fields.version >= _TPM_SINCE else None,
        is_debug=bool(header.flags & _FLAG_DEBUG_SIGNED),
    )


def _list_reader(acm: bytes, offset: int, said_at: int, what: str) -> ByteReader:
    """Return a reader at a list; FormatError where the table said it, when outside."""
    if not 0 < offset <= len(acm):
        raise FormatError(
            f"the {what} list at {offset:#x} is not within the module", said_at
        )
    return ByteReader(acm, offset)


def _entries(
    acm: bytes, offset: int, said_at: int, what: str, size: int
) -> list[bytes]:
    """Return a list's entries: a count, then as many of this size."""
    reader = _list_reader(acm, offset, said_at, what)
    count = reader.u32(f"the {what} list's length")
    if count > MOST_IDS:
        raise FormatError(f"the {what} list has {count} entries", offset)
    whole = reader.take(count * size, f"the {what} list of {count} entries")
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _tpm(acm: bytes, offset: int, table: int) -> TpmInfo:
    reader = _list_reader(acm, offset, table + _TPM_AT, "TPM")
    capabilities = reader.u32("the TPM list's capabilities")
    count = reader.u16("the TPM list's length")
    if count > MOST_IDS:
        raise FormatError(f"the TPM list has {count} entries", offset)
    ids = reader.take(count * 2, f"the TPM list of {count} entries")
    return TpmInfo(capabilities, struct.unpack(f"<{count}H", ids))
