# SPDX-License-Identifier: GPL-2.0-or-later
"""The few TPM 2.0 commands that firmware and launcher send, as bytes.

Source: TCG TPM 2.0 Library, part 3 (commands) and part 2 (constants); big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from aemseal.words.digest import Digests, HashAlgorithm
from tpm_sim.errors import SimulationError

RC_LOCALITY = 0x907
RC_HANDLE_1 = 0x18B
"""The first handle names nothing."""

_NO_SESSIONS = 0x8001
_SESSIONS = 0x8002
_CC_NV_UNDEFINE_SPACE = 0x122
_CC_NV_DEFINE_SPACE = 0x12A
_CC_PCR_ALLOCATE = 0x12B
_CC_NV_WRITE = 0x137
_CC_STARTUP = 0x144
_CC_SHUTDOWN = 0x145
_CC_NV_READ = 0x14E
_CC_NV_READ_PUBLIC = 0x169
_CC_PCR_READ = 0x17E
_CC_PCR_EXTEND = 0x182
_RH_OWNER = 0x40000001
_RH_PLATFORM = 0x4000000C
_SU_CLEAR = 0
_HEADER = struct.Struct(">HII")

_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
"""Authorization area: TPM_RS_PW with an empty password."""

_BITMAP_SIZE = 3


def command(tag: int, code: int, body: bytes) -> bytes:
    """Put the header before a command's handles, authorization and parameters."""
    return _HEADER.pack(tag, _HEADER.size + len(body), code) + body


def startup() -> bytes:
    """TPM2_Startup(CLEAR), as firmware sends it after a power-on."""
    return command(_NO_SESSIONS, _CC_STARTUP, struct.pack(">H", _SU_CLEAR))


def shutdown() -> bytes:
    """TPM2_Shutdown(CLEAR), as a kernel sends it before an orderly power-off."""
    return command(_NO_SESSIONS, _CC_SHUTDOWN, struct.pack(">H", _SU_CLEAR))


def pcr_extend(pcr: int, digests: Digests) -> bytes:
    """TPM2_PCR_Extend of one PCR in the banks of the digests given."""
    values = b"".join(
        struct.pack(">H", algorithm.tcg_id) + digest.value
        for algorithm, digest in digests.items()
    )
    body = struct.pack(">I", pcr) + _EMPTY_PASSWORD
    return command(
        _SESSIONS, _CC_PCR_EXTEND, body + struct.pack(">I", len(digests)) + values
    )


def pcr_read(algorithm: HashAlgorithm, pcrs: Iterable[int]) -> bytes:
    """TPM2_PCR_Read of one bank; a TPM answers at most 8 PCRs at once."""
    body = struct.pack(">I", 1) + _selection(algorithm, pcrs)
    return command(_NO_SESSIONS, _CC_PCR_READ, body)


def pcr_read_values(response: bytes) -> list[bytes]:
    """Return the values in the response to `pcr_read`, in ascending order of PCR."""
    offset = _HEADER.size + 4
    (selections,) = struct.unpack_from(">I", response, offset)
    offset += 4
    for _ in range(selections):
        offset += 3 + response[offset + 2]
    (count,) = struct.unpack_from(">I", response, offset)
    offset += 4
    values = []
    for _ in range(count):
        (size,) = struct.unpack_from(">H", response, offset)
        values.append(response[offset + 2 : offset + 2 + size])
        offset += 2 + size
    return values


def pcr_allocate(active: Mapping[HashAlgorithm, bool]) -> bytes:
    """TPM2_PCR_Allocate: which banks have PCRs after the next power-on."""
    body = struct.pack(">I", _RH_PLATFORM) + _EMPTY_PASSWORD
    body += struct.pack(">I", len(active))
    for algorithm, is_active in active.items():
        body += _selection(algorithm, range(24) if is_active else ())
    return command(_SESSIONS, _CC_PCR_ALLOCATE, body)


def nv_define(index: int, size: int) -> bytes:
    """TPM2_NV_DefineSpace by the owner; owner and index may read and write it."""
    attributes = 0x2 | 0x4 | 0x20000 | 0x40000 | 0x2000000
    public = struct.pack(
        ">IHIHH", index, HashAlgorithm.SHA256.tcg_id, attributes, 0, size
    )
    body = struct.pack(">I", _RH_OWNER) + _EMPTY_PASSWORD + struct.pack(">H", 0)
    body += struct.pack(">H", len(public)) + public
    return command(_SESSIONS, _CC_NV_DEFINE_SPACE, body)


def nv_undefine(index: int) -> bytes:
    """TPM2_NV_UndefineSpace by the owner."""
    body = struct.pack(">II", _RH_OWNER, index) + _EMPTY_PASSWORD
    return command(_SESSIONS, _CC_NV_UNDEFINE_SPACE, body)


def nv_write(index: int, data: bytes) -> bytes:
    """TPM2_NV_Write of an index, from its start."""
    body = struct.pack(">II", index, index) + _EMPTY_PASSWORD
    body += struct.pack(">H", len(data)) + data + struct.pack(">H", 0)
    return command(_SESSIONS, _CC_NV_WRITE, body)


def nv_read_public(index: int) -> bytes:
    """TPM2_NV_ReadPublic of an index."""
    return command(_NO_SESSIONS, _CC_NV_READ_PUBLIC, struct.pack(">I", index))


def nv_size(response: bytes) -> int:
    """Return the data size in the response to `nv_read_public`."""
    (policy_size,) = struct.unpack_from(">H", response, _HEADER.size + 12)
    (size,) = struct.unpack_from(">H", response, _HEADER.size + 14 + policy_size)
    return int(size)


def nv_read(index: int, size: int) -> bytes:
    """TPM2_NV_Read of an index, from its start."""
    body = struct.pack(">II", index, index) + _EMPTY_PASSWORD
    return command(_SESSIONS, _CC_NV_READ, body + struct.pack(">HH", size, 0))


def nv_data(response: bytes) -> bytes:
    """Return the data in the response to `nv_read`."""
    at = _HEADER.size + 4
    (size,) = struct.unpack_from(">H", response, at)
    return response[at + 2 : at + 2 + size]


def response_code(response: bytes) -> int:
    """Return a response's TPM_RC; SimulationError when it is no response."""
    if len(response) < _HEADER.size:
        raise SimulationError("the TPM's answer is cut short")
    code: int = _HEADER.unpack_from(response)[2]
    return code


def _selection(algorithm: HashAlgorithm, pcrs: Iterable[int]) -> bytes:
    bits = sum(1 << pcr for pcr in pcrs)
    return struct.pack(">HB", algorithm.tcg_id, _BITMAP_SIZE) + bits.to_bytes(
        _BITMAP_SIZE, "little"
    )
