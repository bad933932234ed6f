# SPDX-License-Identifier: GPL-2.0-or-later
"""The key K that signs which boots are accepted, and randomness.

P-256 by the cryptography package, which tpm2-pytss brings along. The private half is
a file on the encrypted root; it never reaches the TPM or the medium.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from aemseal.formats.tpm_policy import EccPoint, ecdsa_signature, signing_key_public
from aemseal.words.errors import VaultError

AUTH_SIZE = 32
"""Bytes of a random authorisation value; the TPM takes up to its largest digest."""


def random_auth() -> bytes:
    """Return a fresh authorisation value.

    Hex digits, so that tpm2-tools can be given it by `file:` on the rescue day.
    """
    return secrets.token_hex(AUTH_SIZE // 2).encode("ascii")


class SigningKey:
    """K: signs approvals; its public half is a TPMT_PUBLIC."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "SigningKey(...)"

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, data: bytes) -> SigningKey:
        """Read the file written by `to_bytes`; VaultError when it is not one."""
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise VaultError("the signing key's file is damaged") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise VaultError("the signing key's file holds another kind of key")
        return cls(key)

    def to_bytes(self) -> bytes:
        """Write the private half (PKCS#8 PEM, for a file of mode 0600)."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def public(self) -> bytes:
        """The public half as a TPMT_PUBLIC."""
        numbers = self._key.public_key().public_numbers()
        point = EccPoint(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
        return signing_key_public(point)

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; returns a TPMT_SIGNATURE."""
        der = self._key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return ecdsa_signature(*utils.decode_dss_signature(der))
