# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attacker does with the TPM, by tpm2-pytss: nothing of aemseal is used.

The attacker runs their own system, so they have localities 0 and 2 and, where the
owner's authorisation is empty or known, the owner's commands.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from unsealer import RefusedError

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_NV_PUBLIC,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TPMT_SYM_DEF_OBJECT,
    TSS2_Exception,
)

NT_COUNTER, NT_BITS, NT_EXTEND = 1 << 4, 2 << 4, 4 << 4
OWNERWRITE, AUTHWRITE, AUTHREAD, NO_DA = 1 << 1, 1 << 2, 1 << 18, 1 << 25

AEM_SRK_PUBLIC = bytes.fromhex(
    "0001 000b 00030072 0000 0006 0080 0043 0010 0800 00000000 0000"
)
"""The TPMT_PUBLIC of Anti Evil Maid's storage key: tpm2-tools' default RSA, no noDA."""

COUNTER_LIKE_OURS = OWNERWRITE | NT_COUNTER | AUTHREAD | NO_DA


@dataclass
class Attacker:
    """A connection of theirs, with the owner's authorisation as far as they know it."""

    esapi: Any
    owner: bytes = b""

    def __post_init__(self) -> None:
        self.esapi.tr_set_auth(esys_handle=ESYS_TR.OWNER, auth_value=self.owner)

    def do(self, name: str, /, **arguments: object) -> Any:
        """Send a command; RefusedError when the TPM says no."""
        try:
            return getattr(self.esapi, name)(**arguments)
        except TSS2_Exception as error:
            raise RefusedError(name, int(error.rc)) from None

    def undefine(self, handle: int) -> None:
        index = self.do("tr_from_tpmpublic", handle=handle)
        self.do("nv_undefine_space", nv_index=index, auth_handle=ESYS_TR.OWNER)

    def define(self, handle: int, attributes: int, size: int = 8) -> Any:
        area = struct.pack(">IHIHH", handle, 0x000B, attributes, 0, size)
        public, _ = TPM2B_NV_PUBLIC.unmarshal(struct.pack(">H", len(area)) + area)
        return self.do("nv_define_space", auth=b"", public_info=public)

    def increment(self, index: Any) -> None:
        self.do("nv_increment", nv_index=index, auth_handle=ESYS_TR.OWNER)

    def read(self, index: Any) -> int:
        data = self.do("nv_read", nv_index=index, size=8, offset=0, auth_handle=index)
        return int.from_bytes(bytes(data), "big")

    def index(self, handle: int) -> Any:
        return self.do("tr_from_tpmpublic", handle=handle)

    def clear_persistent(self, handle: int) -> None:
        key = self.do("tr_from_tpmpublic", handle=handle)
        self.do(
            "evict_control",
            auth=ESYS_TR.OWNER,
            object_handle=key,
            persistent_handle=handle,
        )

    def plant_key(self, handle: int, template: bytes) -> None:
        """Persist a P-256 storage key whose private part the attacker made up.

        A loaded external key cannot be persisted, so it is imported beneath a
        primary key of the same TPM, as anybody can.
        """
        parent = self.primary(template)
        private = ec.generate_private_key(ec.SECP256R1())
        key = self.imported(parent, storage_public(private), private)
        self.do(
            "evict_control",
            auth=ESYS_TR.OWNER,
            object_handle=key,
            persistent_handle=handle,
        )
        self.do("flush_context", flush_handle=key)
        self.do("flush_context", flush_handle=parent)

    def primary(self, template: bytes, password: bytes = b"") -> Any:
        area, _ = TPMT_PUBLIC.unmarshal(template)
        handle, *_ = self.do(
            "create_primary",
            in_sensitive=TPM2B_SENSITIVE_CREATE(
                TPMS_SENSITIVE_CREATE(userAuth=password)
            ),
            in_public=TPM2B_PUBLIC(publicArea=area),
            primary_handle=ESYS_TR.OWNER,
        )
        return handle

    def persist(self, transient: Any, handle: int) -> None:
        """Persist a key and let go of the transient one."""
        self.do(
            "evict_control",
            auth=ESYS_TR.OWNER,
            object_handle=transient,
            persistent_handle=handle,
        )
        self.do("flush_context", flush_handle=transient)

    def imported(
        self, parent: Any, public: bytes, private: ec.EllipticCurvePrivateKey
    ) -> Any:
        """Import a key, unwrapped, and load it."""
        area, _ = TPMT_PUBLIC.unmarshal(public)
        number = private.private_numbers().private_value.to_bytes(32, "big")
        # TPMT_SENSITIVE: type, authValue, seedValue (a storage key has one), ECC d
        seed = hashlib.sha256(b"the attacker's seed").digest()
        sensitive = (
            struct.pack(">HHH", 0x0023, 0, len(seed))
            + seed
            + struct.pack(">H", 32)
            + number
        )
        wrapped = struct.pack(">H", len(sensitive)) + sensitive
        duplicate, _ = TPM2B_PRIVATE.unmarshal(
            struct.pack(">H", len(wrapped)) + wrapped
        )
        made = self.do(
            "import_",
            parent_handle=parent,
            encryption_key=b"",
            object_public=TPM2B_PUBLIC(publicArea=area),
            duplicate=duplicate,
            in_sym_seed=TPM2B_ENCRYPTED_SECRET(),
            symmetric_alg=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
        )
        return self.do(
            "load",
            parent_handle=parent,
            in_private=made,
            in_public=TPM2B_PUBLIC(publicArea=area),
        )


def storage_public(private: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public area of a storage key that can be imported.

    Like the TCG template's but for fixedTPM, fixedParent and sensitiveDataOrigin,
    which the TPM grants to nothing that was imported.
    """
    numbers = private.public_key().public_numbers()
    attributes = 1 << 6 | 1 << 10 | 1 << 16 | 1 << 17
    return b"".join(
        (
            bytes.fromhex("0023 000b"),
            struct.pack(">I", attributes),
            bytes.fromhex("0000 0006 0080 0043 0010 0003 0010 0020"),
            numbers.x.to_bytes(32, "big"),
            bytes.fromhex("0020"),
            numbers.y.to_bytes(32, "big"),
        )
    )
