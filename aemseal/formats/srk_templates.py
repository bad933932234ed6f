# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage key templates in use in the field, as TPMT_PUBLIC bytes (big endian).

A key at 0x81000001 is taken for a storage root key only when CreatePrimary from one
of these gives the same Name: a key imported with a known private part persists
there just as well.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIXED_TPM = 1 << 1
_FIXED_PARENT = 1 << 4
_SENSITIVE_DATA_ORIGIN = 1 << 5
_USER_WITH_AUTH = 1 << 6
_NO_DA = 1 << 10
_RESTRICTED = 1 << 16
_DECRYPT = 1 << 17
_STORAGE = (
    _FIXED_TPM
    | _FIXED_PARENT
    | _SENSITIVE_DATA_ORIGIN
    | _USER_WITH_AUTH
    | _RESTRICTED
    | _DECRYPT
)
_SHA256 = 0x000B
_AES_128_CFB = bytes.fromhex("0006 0080 0043")
_NULL = bytes.fromhex("0010")


@dataclass(frozen=True, slots=True)
class StorageTemplate:
    """A known template; `unguarded` says that a wrong password counts (no noDA)."""

    name: str
    public: bytes
    unguarded: bool


def _head(algorithm: int, attributes: int) -> bytes:
    return (
        algorithm.to_bytes(2, "big")
        + _SHA256.to_bytes(2, "big")
        + attributes.to_bytes(4, "big")
        + bytes(2)  # authPolicy
    )


def _ecc(attributes: int, unique: int) -> bytes:
    coordinate = unique.to_bytes(2, "big") + bytes(unique)
    curve_and_kdf = bytes.fromhex("0003") + _NULL
    return (
        _head(0x0023, attributes)
        + _AES_128_CFB
        + _NULL
        + curve_and_kdf
        + coordinate * 2
    )


def _rsa(attributes: int, unique: int) -> bytes:
    bits_and_exponent = bytes.fromhex("0800 00000000")
    return (
        _head(0x0001, attributes)
        + _AES_128_CFB
        + _NULL
        + bits_and_exponent
        + unique.to_bytes(2, "big")
        + bytes(unique)
    )


STORAGE_TEMPLATES = (
    # TCG TPM v2.0 Provisioning Guidance 7.5.1: H-2 / H-1 with a zero unique field
    StorageTemplate("TCG ECC P-256", _ecc(_STORAGE | _NO_DA, 32), unguarded=False),
    StorageTemplate("TCG RSA 2048", _rsa(_STORAGE | _NO_DA, 256), unguarded=False),
    # tpm2-tools lib/tpm2_alg_util.c: default attributes of createprimary, no noDA
    StorageTemplate("tpm2-tools RSA 2048", _rsa(_STORAGE, 0), unguarded=True),
    StorageTemplate("tpm2-tools ECC P-256", _ecc(_STORAGE, 0), unguarded=True),
    # the same with noDA, as a user of tpm2_createprimary -a may ask for
    StorageTemplate("ECC P-256, noDA", _ecc(_STORAGE | _NO_DA, 0), unguarded=False),
    StorageTemplate("RSA 2048, noDA", _rsa(_STORAGE | _NO_DA, 0), unguarded=False),
)

OWN_TEMPLATE = STORAGE_TEMPLATES[0]
"""What aemseal creates where it finds no storage key that it can vouch for."""


def matches_template(public: bytes, template: StorageTemplate) -> bool:
    """Whether a public area could come of this template: all but the unique field."""
    length = len(template.public) - _unique_length(template)
    return public[:length] == template.public[:length]


def _unique_length(template: StorageTemplate) -> int:
    is_ecc = template.public[:2] == bytes.fromhex("0023")
    return len(template.public) - (
        len(_ecc(0, 0)) - 4 if is_ecc else len(_rsa(0, 0)) - 2
    )
