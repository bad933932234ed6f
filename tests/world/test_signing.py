# SPDX-License-Identifier: GPL-2.0-or-later
"""K: kept in a file, and its signatures are ones that a TPM verifies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tpm_sim.swtpm import Swtpm
from unsealer import connected

from aemseal.formats.tpm_policy import ecdsa_signature
from aemseal.words.errors import VaultError
from aemseal.world.signing import AUTH_SIZE, SigningKey, random_auth

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2B_DIGEST,
    TPM2B_PUBLIC,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TSS2_Exception,
)

DIGEST = bytes(range(32))
RC_SIGNATURE = 0x2DB


@pytest.fixture(scope="module")
def esapi() -> Iterator[Any]:
    with Swtpm() as chip:
        chip.power_on()
        with connected(chip.tcti) as esapi:
            yield esapi


def verified(esapi: Any, public: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the TPM believes this signature."""
    area, _ = TPMT_PUBLIC.unmarshal(public)
    made, _ = TPMT_SIGNATURE.unmarshal(signature)
    key = esapi.load_external(
        in_public=TPM2B_PUBLIC(publicArea=area), hierarchy=ESYS_TR.OWNER
    )
    try:
        esapi.verify_signature(
            key_handle=key, digest=TPM2B_DIGEST(digest), signature=made
        )
    except TSS2_Exception as error:
        if int(error.rc) != RC_SIGNATURE:
            raise
        return False
    finally:
        esapi.flush_context(flush_handle=key)
    return True


@pytest.mark.tpm
def test_the_tpm_verifies_what_the_key_signs(esapi: Any) -> None:
    # Coordinates and signature numbers with leading zeros come up by themselves.
    for number in range(40):
        key = SigningKey.generate()
        digest = number.to_bytes(32, "big")
        assert verified(esapi, key.public, digest, key.sign(digest))


@pytest.mark.tpm
def test_the_tpm_does_not_verify_for_another_digest_or_key(esapi: Any) -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(DIGEST)
    assert not verified(esapi, key.public, DIGEST[::-1], signature)
    assert not verified(esapi, other.public, DIGEST, signature)
    changed = signature[:-1] + bytes([signature[-1] ^ 1])
    assert not verified(esapi, key.public, DIGEST, changed)


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1))
def test_a_signature_always_has_two_numbers_of_32_bytes(r: int, s: int) -> None:
    made = ecdsa_signature(r, s)
    assert len(made) == 72
    assert int.from_bytes(made[6:38], "big") == r
    assert int.from_bytes(made[40:], "big") == s


def test_a_key_comes_back_from_its_file() -> None:
    key = SigningKey.generate()
    assert SigningKey.load(key.to_bytes()).public == key.public


def test_two_keys_differ() -> None:
    assert SigningKey.generate().public != SigningKey.generate().public


def test_a_key_does_not_show_itself() -> None:
    assert repr(SigningKey.generate()) == "SigningKey(...)"


def pem(key: Any, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
    ids=["P-384", "RSA"],
)
def test_another_kind_of_key_is_refused(key: Any) -> None:
    with pytest.raises(VaultError, match="another kind of key"):
        SigningKey.load(pem(key))


def test_a_key_with_a_password_is_refused() -> None:
    with pytest.raises(VaultError, match="damaged"):
        SigningKey.load(pem(ec.generate_private_key(ec.SECP256R1()), b"password"))


WRITTEN = SigningKey.generate().to_bytes()


@settings(deadline=None)
@given(st.integers(0, len(WRITTEN)), st.binary(max_size=8), st.integers(0, 64))
def test_a_damaged_key_file_is_refused_or_still_a_key(
    at: int, junk: bytes, taken: int
) -> None:
    data = WRITTEN[:at] + junk + WRITTEN[at + taken :]
    try:
        key = SigningKey.load(data)
    except VaultError:
        return
    assert len(key.public) == 88


def test_authorisation_values_are_random_and_can_be_given_to_tpm2_tools() -> None:
    values = {random_auth() for _ in range(100)}
    assert len(values) == 100
    for value in values:
        assert len(value) == AUTH_SIZE
        assert int(value, 16).bit_length() <= 8 * AUTH_SIZE // 2
