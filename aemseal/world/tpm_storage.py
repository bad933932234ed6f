# SPDX-License-Identifier: GPL-2.0-or-later
"""The storage key: found only if it is what it should be, and what is sealed to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aemseal.formats.slot import PART_SIZE, SealedPart
from aemseal.formats.srk_templates import (
    OWN_TEMPLATE,
    STORAGE_TEMPLATES,
    StorageTemplate,
)
from aemseal.formats.tpm_policy import name_of
from aemseal.words.errors import TpmChangedError, TpmError
from aemseal.world.storage_key import StorageKey
from aemseal.world.tpm import Tpm, TpmRefusedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tpm2_pytss import (
        ESYS_TR,
        TPM2B_PUBLIC,
        TPM2B_SENSITIVE_CREATE,
        TPML_PCR_SELECTION,
        TPMS_SENSITIVE_CREATE,
        TPMT_PUBLIC,
    )

SRK_HANDLE = 0x81000001
"""TCG Registry of Reserved TPM 2.0 Handles 2.3.1: the storage primary key."""

_OWN_HANDLES = range(0x81000002, 0x81000100)

_SEALED_ATTRIBUTES = 1 << 1 | 1 << 4 | 1 << 7  # fixedTPM, fixedParent, adminWithPolicy
_NO_DA = 1 << 10


class Storage:
    """What is done with storage keys, on one TPM connection."""

    def __init__(self, tpm: Tpm) -> None:
        self.tpm = tpm
        self.esapi = tpm.esapi

    def provide(self) -> StorageKey:
        """Return the key at 0x81000001 if it is genuine and opens without a password.

        Genuine means: CreatePrimary from a known template gives the same Name on this
        TPM. Else our own goes to a free persistent handle (or is there already). The
        owner's authorisation must be set in the TSS.
        """
        public = self.public_area(SRK_HANDLE)
        if public is not None and self.is_genuine(public) and self._opens(SRK_HANDLE):
            return self._key(SRK_HANDLE)
        return self._own_key()

    def is_genuine(self, public: bytes) -> bool:
        """Whether this TPM derives the same key from a template that is known.

        The owner's authorisation must be set in the TSS.
        """
        for template in STORAGE_TEMPLATES:
            if template.could_have_made(public):
                with self._primary(template) as (_, name):
                    if name == name_of(public):
                        return True
        return False

    def pinned(self, key: StorageKey) -> Any:
        """Return a TSS handle for the pinned key, to salt sessions to.

        TpmChangedError when the TPM has no such key, or another one, at that handle.
        """
        public = self.public_area(key.handle)
        if public is None or name_of(public) != key.name:
            found = "gone" if public is None else "another one"
            raise TpmChangedError(
                f"the storage key at 0x{key.handle:08x} is {found}",
                "the TPM was cleared or its key replaced: this says nothing of the "
                "boot files; if it was you: aemseal recover",
            )
        return self.esapi.tr_deserialize(buffer=key.serialized)

    def holds(self, serialized: bytes) -> bool:
        """Whether the TPM still has the key of a pin; not so once it was cleared."""
        return self.pinned_by(serialized) is not None

    def pinned_by(self, serialized: bytes) -> StorageKey | None:
        """Return the key of a pin, None where the TPM has it no more."""
        first = SRK_HANDLE
        handles = self.tpm.handles(first, _OWN_HANDLES.stop - first)
        keys = (self._key(each) for each in sorted(handles))
        return next((each for each in keys if each.serialized == serialized), None)

    def evict(self, key: StorageKey, session: object) -> None:
        """Take a persistent key out of the TPM; owner authorisation by `session`.

        TpmChangedError when it is not there any more.
        """
        self.tpm.run(
            "EvictControl",
            self.esapi.evict_control,
            auth=ESYS_TR.OWNER,
            object_handle=self.pinned(key),
            persistent_handle=key.handle,
            session1=session,
        )

    def public_area(self, handle: int) -> bytes | None:
        """Return the TPMT_PUBLIC at a persistent handle, None when it is free."""
        if handle not in self.tpm.handles(handle, 1):
            return None
        key = self.tpm.run("ReadPublic", self.esapi.tr_from_tpmpublic, handle=handle)
        public, _, _ = self.tpm.run(
            "ReadPublic", self.esapi.read_public, object_handle=key
        )
        return bytes(public.publicArea.marshal())

    def seal(
        self,
        data: bytes,
        policy: bytes,
        parent: object,
        session: object,
        pin: bytes | None = None,
    ) -> SealedPart:
        """Seal up to PART_SIZE bytes; `session` is salted to the parent and encrypts.

        fixedTPM, fixedParent, adminWithPolicy, no userWithAuth; noDA only where there
        is no PIN to guess. `policy` must end in PolicyAuthValue where there is one.
        """
        if not 1 <= len(data) <= PART_SIZE:
            raise ValueError(f"a part has 1 to {PART_SIZE} bytes")
        private, public, *_ = self.tpm.run(
            "Create",
            self.esapi.create,
            parent_handle=parent,
            in_sensitive=TPM2B_SENSITIVE_CREATE(
                sensitive=TPMS_SENSITIVE_CREATE(userAuth=pin or b"", data=data)
            ),
            in_public=_sealed_template(policy, guarded=pin is not None),
            outside_info=b"",
            creation_pcr=TPML_PCR_SELECTION(),
            session1=session,
        )
        return SealedPart(bytes(public.marshal()), bytes(private.marshal()))

    def _key(self, handle: int) -> StorageKey:
        key = self.tpm.run("ReadPublic", self.esapi.tr_from_tpmpublic, handle=handle)
        name = bytes(self.esapi.tr_get_name(handle=key))
        return StorageKey(handle, name, bytes(self.esapi.tr_serialize(esys_handle=key)))

    def _own_key(self) -> StorageKey:
        with self._primary(OWN_TEMPLATE) as (transient, name):
            used = self.tpm.handles(_OWN_HANDLES.start, len(_OWN_HANDLES))
            for handle in sorted(used):
                public = self.public_area(handle)
                if public and name_of(public) == name and self._opens(handle):
                    return self._key(handle)
            all_handles = [SRK_HANDLE, *_OWN_HANDLES]
            used |= self.tpm.handles(SRK_HANDLE, 1)
            free = next((each for each in all_handles if each not in used), None)
            if free is None:
                raise TpmError("the TPM has no free persistent handle for a key")
            with self.tpm.session() as session:
                self.tpm.run(
                    "EvictControl",
                    self.esapi.evict_control,
                    auth=ESYS_TR.OWNER,
                    object_handle=transient,
                    persistent_handle=free,
                    session1=session,
                )
        return self._key(free)

    @contextmanager
    def _primary(self, template: StorageTemplate) -> Iterator[tuple[Any, bytes]]:
        """Derive a primary key from this TPM's owner seed, for as long as needed."""
        public, _ = TPMT_PUBLIC.unmarshal(template.public)
        with self.tpm.session() as session:
            handle, made, *_ = self.tpm.run(
                "CreatePrimary",
                self.esapi.create_primary,
                in_sensitive=TPM2B_SENSITIVE_CREATE(),
                in_public=TPM2B_PUBLIC(publicArea=public),
                primary_handle=ESYS_TR.OWNER,
                outside_info=b"",
                creation_pcr=TPML_PCR_SELECTION(),
                session1=session,
            )
        try:
            yield handle, name_of(bytes(made.publicArea.marshal()))
        finally:
            self.tpm.flush(handle)

    def _opens(self, handle: int) -> bool:
        """Whether the key takes an empty password, tried once by sealing nothing.

        A wrong one costs nothing: every template has noDA.
        """
        key = self.tpm.run("ReadPublic", self.esapi.tr_from_tpmpublic, handle=handle)
        try:
            with self.tpm.session(key) as session:
                self.seal(b"\0", bytes(32), key, session)
        except TpmRefusedError as refused:
            if not refused.is_wrong_authorisation:
                raise
            return False
        return True


def _sealed_template(policy: bytes, *, guarded: bool) -> Any:
    """Return the TPM2B_PUBLIC of a sealed data object (part 1 section 15.7).

    `guarded`: wrong authValues count towards lockout.
    """
    attributes = _SEALED_ATTRIBUTES | (0 if guarded else _NO_DA)
    public = b"".join(
        (
            bytes.fromhex("0008 000b"),  # TPM_ALG_KEYEDHASH, nameAlg SHA-256
            attributes.to_bytes(4, "big"),
            len(policy).to_bytes(2, "big"),
            policy,
            bytes.fromhex("0010"),  # scheme: TPM_ALG_NULL
            bytes(2),  # unique
        )
    )
    area, _ = TPMT_PUBLIC.unmarshal(public)
    return TPM2B_PUBLIC(publicArea=area)
