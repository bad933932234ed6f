# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot hook does with a TPM (unseal by the whole policy), step by step.

Written out here against the TPM alone, from docs/slot-format.md, so that nothing of the
vault vouches for itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aemseal.world.tpm  # noqa: F401  # it quiets what tpm2-pytss 2.3 warns of
from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    SealedSecret,
    VaultFile,
    acceptance_file,
)
from aemseal.words.digest import HashAlgorithm, PcrSelection

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_EO,
    TPM2_SE,
    TPM2B_DIGEST,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMA_SESSION,
    TPML_DIGEST,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TSS2_Exception,
)

SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection.of(SHA256, {13, 17, 18})


class RefusedError(Exception):
    """The TPM refused an unsealing: which command, with which TPM_RC."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"{command}: 0x{code:x}")
        self.command, self.code = command, code


class NoAcceptanceError(Exception):
    """The medium holds no acceptance for the counter's value."""


@dataclass
class Unsealer:
    """The hook's way to the secret, one method a step, by tpm2-pytss alone.

    `name` is the secret's, else the first one's; `typed` is its PIN. An attacker takes
    the same way with a step changed: `branches`, `key`, `operand` and so on may be set
    to something else than the files say.
    """

    esapi: Any
    vault: VaultFile
    acceptance: Acceptance
    selection: str = str(SELECTION)
    name: str | None = None
    typed: bytes = b""
    handles: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in reversed(self.handles):
            # An object that was refused or flushed by the TPM itself is gone.
            try:
                self.esapi.flush_context(flush_handle=handle)
            except TSS2_Exception:
                continue
        self.handles.clear()

    def do(self, name: str, /, **arguments: object) -> Any:
        """Send a command; RefusedError when the TPM says no."""
        try:
            return getattr(self.esapi, name)(**arguments)
        except TSS2_Exception as error:
            raise RefusedError(name, int(error.rc)) from None

    def _kept(self, handle: Any) -> Any:
        self.handles.append(handle)
        return handle

    def session(self) -> Any:
        handle = self.do(
            "start_auth_session",
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.POLICY,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
        self.esapi.trsess_set_attributes(
            session=handle, attributes=TPMA_SESSION.CONTINUESESSION
        )
        return self._kept(handle)

    def policy_pcr(self, session: Any) -> None:
        self.do(
            "policy_pcr", policy_session=session, pcr_digest=b"", pcrs=self.selection
        )

    def policy_or(self, session: Any, branches: list[bytes] | None = None) -> None:
        digests = branches or [each.policy for each in self.acceptance.branches]
        self.do("policy_or", policy_session=session, p_hash_list=digest_list(digests))

    def policy_nv(self, session: Any, operand: bytes | None = None) -> None:
        index = self.do("tr_from_tpmpublic", handle=self.vault.counter)
        self.do(
            "policy_nv",
            auth_handle=index,
            nv_index=index,
            policy_session=session,
            operand_b=operand or self.acceptance.count.to_bytes(8, "big"),
            operation=TPM2_EO.EQ,
            offset=0,
        )

    def policy_authorize(self, session: Any) -> None:
        area, _ = TPMT_PUBLIC.unmarshal(self.vault.key)
        key = self._kept(
            self.do(
                "load_external",
                in_public=TPM2B_PUBLIC(publicArea=area),
                hierarchy=ESYS_TR.OWNER,
            )
        )
        name = bytes(self.esapi.tr_get_name(handle=key))
        approved, reference = self.acceptance.policy, self.vault.policy_ref
        signature, _ = TPMT_SIGNATURE.unmarshal(self.acceptance.signature)
        ticket = self.do(
            "verify_signature",
            key_handle=key,
            digest=TPM2B_DIGEST(hashlib.sha256(approved + reference).digest()),
            signature=signature,
        )
        self.do(
            "policy_authorize",
            policy_session=session,
            approved_policy=approved,
            policy_ref=reference,
            key_sign=name,
            check_ticket=ticket,
        )
        self.esapi.flush_context(flush_handle=self.handles.pop())

    def policy_auth_value(self, session: Any) -> None:
        self.do("policy_auth_value", policy_session=session)

    def satisfied(self) -> Any:
        """Return a session that has gone the whole way; a PIN's step is the last."""
        session = self.session()
        self.policy_pcr(session)
        self.policy_or(session)
        self.policy_nv(session)
        self.policy_authorize(session)
        if self.typed:
            self.policy_auth_value(session)
        return session

    @property
    def sealed(self) -> SealedSecret:
        """The secret of the name; StopIteration where there is none."""
        wanted = self.name or self.vault.secrets[0].name
        return next(each for each in self.vault.secrets if each.name == wanted)

    def load(self, part: int = 0, parent: int = 0x81000001) -> Any:
        sealed = self.sealed.parts[part]
        public, _ = TPM2B_PUBLIC.unmarshal(sealed.public)
        private, _ = TPM2B_PRIVATE.unmarshal(sealed.private)
        key = self.do("tr_from_tpmpublic", handle=parent)
        return self._kept(
            self.do("load", parent_handle=key, in_private=private, in_public=public)
        )

    @staticmethod
    def behind_label(part: bytes) -> bytes:
        """Return a part of a secret without the line that says which it is."""
        label, _, data = part.partition(b"\n")
        assert label.startswith(b"aemseal "), label
        return data

    def take(self, item: Any, session: Any) -> bytes:
        return bytes(self.do("unseal", item_handle=item, session1=session))

    def secret(self, parent: int = 0x81000001) -> bytes:
        """Unseal every part of the secret; RefusedError when the TPM says no."""
        secret = b""
        for part in range(len(self.sealed.parts)):
            session = self.satisfied()
            item = self.load(part, parent)
            if self.typed:
                self.esapi.tr_set_auth(item, self.typed)
            secret += self.behind_label(self.take(item, session))
            for handle in self.handles:
                self.esapi.flush_context(flush_handle=handle)
            self.handles.clear()
        return secret


@contextmanager
def connected(tcti: str) -> Iterator[Any]:
    """Speak to the TPM as anybody can."""
    esapi = ESAPI(tcti=tcti)
    try:
        yield esapi
    finally:
        esapi.close()


def unseal(tcti: str, folder: Path, name: str | None = None, pin: bytes = b"") -> bytes:
    """Do what the hook does with a medium's files, on whatever runs now.

    `name` is the secret's, else the first one's. RefusedError when the TPM says no,
    NoAcceptanceError where the medium holds none for the counter's value.
    """
    vault = VaultFile.parse((folder / VAULT_FILE).read_bytes())
    with connected(tcti) as esapi:
        path = folder / acceptance_file(read_count(esapi, vault.counter))
        if not path.exists():
            raise NoAcceptanceError(path.name)
        acceptance = Acceptance.parse(path.read_bytes())
        unsealer = Unsealer(esapi, vault, acceptance, name=name, typed=pin)
        with unsealer:
            return unsealer.secret()


def digest_list(digests: list[bytes]) -> Any:
    """Return a TPML_DIGEST."""
    marshalled = struct.pack(">I", len(digests)) + b"".join(
        struct.pack(">H", len(each)) + each for each in digests
    )
    listed, _ = TPML_DIGEST.unmarshal(marshalled)
    return listed


def lockout_count(esapi: Any) -> int:
    """Return how many failures count towards lockout (TPM_PT_LOCKOUT_COUNTER)."""
    _, data = esapi.get_capability(
        capability=TPM2_CAP.TPM_PROPERTIES, prop=0x20E, property_count=1
    )
    return int.from_bytes(bytes(data.marshal())[-4:], "big")


def read_count(esapi: Any, handle: int) -> int:
    """Read the counter as the hook does. RefusedError when it is not to be had."""
    try:
        index = esapi.tr_from_tpmpublic(handle=handle)
        data = esapi.nv_read(nv_index=index, size=8, offset=0, auth_handle=index)
    except TSS2_Exception as error:
        raise RefusedError("nv_read", int(error.rc)) from None
    return int.from_bytes(bytes(data), "big")
