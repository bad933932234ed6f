# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage key templates in use in the field, as TPMT_PUBLIC bytes (big endian).

A key at 0x81000001 is taken for a storage root key only when CreatePrimary from one
of these gives the same Name: a key imported with a known private part persists
there just as well. All have noDA. Without it (tpm2-tools' default, and so Anti Evil
Maid's key) even a Load with the right, empty password is in the TPM's books until an
orderly shutdown: a few power cuts, and the TPM is in lockout (docs/adr/0006).
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
    | _NO_DA
    | _RESTRICTED
    | _DECRYPT
)
_SHA256 = bytes.fromhex("000b")
_AES_128_CFB = bytes.fromhex("0006 0080 0043")
_NULL = bytes.fromhex("0010")


@dataclass(frozen=True, slots=True)
class StorageTemplate:
    """A known template: what every key of it has in common, and its unique field."""

    name: str
    common: bytes
    unique: bytes

    @property
    def public(self) -> bytes:
        """The TPMT_PUBLIC that CreatePrimary is given."""
        return self.common + self.unique

    def could_have_made(self, public: bytes) -> bool:
        """Whether a public area could come of it: all but the unique field."""
        return public.startswith(self.common)


def _common(algorithm: str, parameters: str) -> bytes:
    return (
        bytes.fromhex(algorithm)
        + _SHA256
        + _STORAGE.to_bytes(4, "big")
        + bytes(2)  # authPolicy
        + _AES_128_CFB
        + _NULL  # scheme
        + bytes.fromhex(parameters)
    )


def _field(size: int) -> bytes:
    return size.to_bytes(2, "big") + bytes(size)


_ECC_P256 = _common("0023", "0003 0010")  # curve, kdf: TPM_ALG_NULL
_RSA_2048 = _common("0001", "0800 00000000")  # key bits, exponent

STORAGE_TEMPLATES = (
    # TCG TPM v2.0 Provisioning Guidance 7.5.1: a unique field of zeros
    StorageTemplate("TCG ECC P-256", _ECC_P256, _field(32) * 2),
    StorageTemplate("TCG RSA 2048", _RSA_2048, _field(256)),
    # tpm2_createprimary with noDA among its attributes (-a): an empty unique field
    StorageTemplate("ECC P-256, noDA", _ECC_P256, _field(0) * 2),
    StorageTemplate("RSA 2048, noDA", _RSA_2048, _field(0)),
)

OWN_TEMPLATE = STORAGE_TEMPLATES[0]
"""What aemseal creates where it finds no storage key that it can vouch for."""
