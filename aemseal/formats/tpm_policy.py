# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy digests, Names and public areas, computed without a TPM.

All policies and Names use SHA-256 (the nameAlg of everything aemseal makes),
whatever bank the PCRs are of. All integers are big endian, as the TPM marshals.
Sources: TPM 2.0 Library 1.59, part 3 sections 23.7 (PolicyPCR), 23.6 (PolicyOR),
23.9 (PolicyNV), 23.16 (PolicyAuthorize), 23.17 (PolicyAuthValue); part 1 section 16
(Names); part 2 sections 12.2 (TPMT_PUBLIC) and 13 (NV).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aemseal.words.digest import Digest, PcrSelection

NO_POLICY = bytes(32)
"""What a policy session starts from."""

MAX_BRANCHES = 8
"""TPM2_PolicyOR takes 2 to 8 digests."""

_ALG_SHA256 = 0x000B
_CC_POLICY_NV = 0x0149
_CC_POLICY_AUTHORIZE = 0x016A
_CC_POLICY_AUTH_VALUE = 0x016B
_CC_POLICY_OR = 0x0171
_CC_POLICY_PCR = 0x017F
_EO_EQ = 0x0000

_NV_OWNERWRITE = 1 << 1
_NV_TYPE_COUNTER = 1 << 4
_NV_AUTHREAD = 1 << 18
_NV_NO_DA = 1 << 25
_NV_WRITTEN = 1 << 29

COUNTER_ATTRIBUTES = _NV_OWNERWRITE | _NV_TYPE_COUNTER | _NV_AUTHREAD | _NV_NO_DA
COUNTER_SIZE = 8
"""A TPM_NT_COUNTER is eight bytes, big endian."""


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def pcr_selection_bytes(selection: PcrSelection) -> bytes:
    """Marshal a TPML_PCR_SELECTION of one bank."""
    bitmap = sum(1 << pcr for pcr in selection.pcrs).to_bytes(3, "little")
    return _u32(1) + _u16(selection.algorithm.tcg_id) + bytes([3]) + bitmap


def policy_pcr(selection: PcrSelection, values: Mapping[int, Digest]) -> bytes:
    """Return the digest after PolicyPCR on a fresh session with these PCR values.

    ValueError when a selected PCR has no value or one of another bank.
    """
    for pcr in selection.pcrs:
        if pcr not in values or values[pcr].algorithm is not selection.algorithm:
            raise ValueError(f"PCR {pcr} has no {selection.algorithm} value")
    pcr_digest = _sha256(*(values[pcr].value for pcr in selection.pcrs))
    return _sha256(
        NO_POLICY, _u32(_CC_POLICY_PCR), pcr_selection_bytes(selection), pcr_digest
    )


def policy_or(branches: Sequence[bytes]) -> bytes:
    """Return the digest after PolicyOR over 2 to 8 branches, in this order."""
    if not 2 <= len(branches) <= MAX_BRANCHES:
        raise ValueError(f"PolicyOR takes 2 to {MAX_BRANCHES} branches")
    return _sha256(NO_POLICY, _u32(_CC_POLICY_OR), *branches)


def policy_nv_equal(policy: bytes, nv_name: bytes, count: int) -> bytes:
    """Return `policy` followed by PolicyNV: the counter of this Name equals `count`."""
    operand = count.to_bytes(COUNTER_SIZE, "big")
    arguments = _sha256(operand, _u16(0), _u16(_EO_EQ))
    return _sha256(policy, _u32(_CC_POLICY_NV), arguments, nv_name)


def policy_authorize(key_name: bytes, policy_ref: bytes) -> bytes:
    """Return the digest after PolicyAuthorize, whatever policy was approved."""
    return _sha256(_sha256(NO_POLICY, _u32(_CC_POLICY_AUTHORIZE), key_name), policy_ref)


def policy_auth_value(policy: bytes) -> bytes:
    """Return `policy` followed by PolicyAuthValue: the PIN is asked for too."""
    return _sha256(policy, _u32(_CC_POLICY_AUTH_VALUE))


def approval_digest(policy: bytes, policy_ref: bytes) -> bytes:
    """Return what the key signs to approve `policy` (part 3 section 23.16.1, aHash)."""
    return _sha256(policy, policy_ref)


def policy_ref(generation: int, medium: str) -> bytes:
    """Return the 32 bytes that tie an acceptance to one generation and medium."""
    return _sha256(f"aemseal policy-ref 1 {generation} {medium}".encode("ascii"))


def counter_public(handle: int, *, written: bool) -> bytes:
    """Marshal the TPMS_NV_PUBLIC of our counter at this NV index handle."""
    attributes = COUNTER_ATTRIBUTES | (_NV_WRITTEN if written else 0)
    return (
        _u32(handle)
        + _u16(_ALG_SHA256)
        + _u32(attributes)
        + _u16(0)
        + _u16(COUNTER_SIZE)
    )


def counter_name(handle: int) -> bytes:
    """Return the Name our counter has once written: never read it from the TPM."""
    return name_of(counter_public(handle, written=True))


def name_of(public_area: bytes) -> bytes:
    """Return the Name (nameAlg and hash) of a SHA-256 public area."""
    return _u16(_ALG_SHA256) + _sha256(public_area)


@dataclass(frozen=True, slots=True)
class EccPoint:
    """A point on NIST P-256: two coordinates of 32 bytes, big endian."""

    x: bytes
    y: bytes

    def __post_init__(self) -> None:
        if len(self.x) != 32 or len(self.y) != 32:
            raise ValueError("P-256 coordinates have 32 bytes")


def signing_key_public(point: EccPoint) -> bytes:
    """Marshal the TPMT_PUBLIC of a P-256 key that verifies ECDSA with SHA-256."""
    attributes = 1 << 18 | 1 << 6  # sign, userWithAuth
    return b"".join(
        (
            _u16(0x0023),  # TPM_ALG_ECC
            _u16(_ALG_SHA256),
            _u32(attributes),
            _u16(0),  # authPolicy
            _u16(0x0010),  # symmetric: TPM_ALG_NULL
            _u16(0x0018),  # scheme: TPM_ALG_ECDSA
            _u16(_ALG_SHA256),
            _u16(0x0003),  # TPM_ECC_NIST_P256
            _u16(0x0010),  # kdf: TPM_ALG_NULL
            _u16(32),
            point.x,
            _u16(32),
            point.y,
        )
    )


def ecdsa_signature(r: int, s: int) -> bytes:
    """Marshal a TPMT_SIGNATURE of P-256 ECDSA with SHA-256."""
    return b"".join(
        (
            _u16(0x0018),
            _u16(_ALG_SHA256),
            _u16(32),
            r.to_bytes(32, "big"),
            _u16(32),
            s.to_bytes(32, "big"),
        )
    )
