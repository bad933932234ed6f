# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot hook does, by tpm2-pytss in one process.

`unseal_by_pytss.py TCTI ETC MEDIUM BANK:PCRS DEVICE ...` measures the LUKS headers,
unseals, caps PCR 13, and prints the secret. As safe as the hook: a session salted to
the pinned key, with parameters encrypted.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aemseal.formats.hook_files import CAP_DATA
from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    VaultFile,
    acceptance_file,
    part_label,
)
from aemseal.formats.tpm_policy import COUNTER_SIZE, approval_digest, name_of
from aemseal.world.tpm import Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_EO,
    TPM2_SE,
    TPM2B_DIGEST,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMA_SESSION,
    TPML_DIGEST,
    TPML_DIGEST_VALUES,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
)

ENCRYPTED = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT


def measure(esapi: Any, devices: Sequence[str]) -> None:
    """Extend PCR 13 with the LUKS headers, by cryptsetup as the hook does."""
    with TemporaryDirectory() as folder:
        for number, device in enumerate(devices):
            header = Path(folder, str(number))
            subprocess.run(
                [
                    *("cryptsetup", "luksHeaderBackup", device, "--batch-mode"),
                    *("--header-backup-file", str(header)),
                ],
                check=True,
            )
            digest = hashlib.sha256(header.read_bytes()).digest()
            values, _ = TPML_DIGEST_VALUES.unmarshal(
                bytes.fromhex("00000001 000b") + digest
            )
            esapi.pcr_extend(pcr_handle=ESYS_TR.PCR13, digests=values)


def ticket_of(esapi: Any, vault: VaultFile, acceptance: Acceptance) -> Any:
    """Have K's signature checked by the TPM."""
    area, _ = TPMT_PUBLIC.unmarshal(vault.key)
    key = esapi.load_external(
        in_public=TPM2B_PUBLIC(publicArea=area), hierarchy=ESYS_TR.OWNER
    )
    signature, _ = TPMT_SIGNATURE.unmarshal(acceptance.signature)
    ticket = esapi.verify_signature(
        key_handle=key,
        digest=TPM2B_DIGEST(approval_digest(acceptance.policy, vault.policy_ref)),
        signature=signature,
    )
    esapi.flush_context(flush_handle=key)
    return ticket


def satisfy(
    esapi: Any, session: Any, pcrs: str, vault: VaultFile, now: Acceptance, ticket: Any
) -> None:
    """Bring the session's policy to what the sealed object asks for."""
    index = esapi.tr_from_tpmpublic(handle=vault.counter)
    branches = [branch.policy for branch in now.branches]
    listed = len(branches).to_bytes(4, "big") + b"".join(
        len(each).to_bytes(2, "big") + each for each in branches
    )
    digests, _ = TPML_DIGEST.unmarshal(listed)
    esapi.policy_pcr(policy_session=session, pcr_digest=b"", pcrs=pcrs)
    esapi.policy_or(policy_session=session, p_hash_list=digests)
    esapi.policy_nv(
        auth_handle=index,
        nv_index=index,
        policy_session=session,
        operand_b=now.count.to_bytes(COUNTER_SIZE, "big"),
        operation=TPM2_EO.EQ,
        offset=0,
    )
    esapi.policy_authorize(
        policy_session=session,
        approved_policy=now.policy,
        policy_ref=vault.policy_ref,
        key_sign=name_of(vault.key),
        check_ticket=ticket,
    )


def unseal(esapi: Any, etc: Path, medium: Path, pcrs: str) -> bytes:
    """Return the first secret of the medium's vault."""
    vault = VaultFile.parse((medium / VAULT_FILE).read_bytes())
    index = esapi.tr_from_tpmpublic(handle=vault.counter)
    data = esapi.nv_read(nv_index=index, size=COUNTER_SIZE, offset=0, auth_handle=index)
    path = medium / acceptance_file(int.from_bytes(bytes(data), "big"))
    now = Acceptance.parse(path.read_bytes())
    ticket = ticket_of(esapi, vault, now)
    parent = esapi.tr_deserialize(buffer=(etc / "srk.tr").read_bytes())
    session = esapi.start_auth_session(
        tpm_key=parent,
        bind=ESYS_TR.NONE,
        session_type=TPM2_SE.POLICY,
        symmetric="aes128cfb",
        auth_hash=TPM2_ALG.SHA256,
    )
    esapi.trsess_set_attributes(session=session, attributes=ENCRYPTED)
    secret, sealed = b"", vault.secrets[0]
    for number, part in enumerate(sealed.parts, start=1):
        satisfy(esapi, session, pcrs, vault, now, ticket)
        public, _ = TPM2B_PUBLIC.unmarshal(part.public)
        private, _ = TPM2B_PRIVATE.unmarshal(part.private)
        item = esapi.load(parent_handle=parent, in_private=private, in_public=public)
        data = bytes(esapi.unseal(item_handle=item, session1=session))
        label = part_label(sealed.kind, number, len(sealed.parts))
        if not data.startswith(label):
            raise ValueError("a part of another secret")
        secret += data.removeprefix(label)
        esapi.flush_context(flush_handle=item)
    esapi.flush_context(flush_handle=session)
    return secret


def main(tcti: str, etc: str, medium: str, pcrs: str, *devices: str) -> None:
    """Unseal, cap, and only then show."""
    with Tpm(tcti) as tpm:
        measure(tpm.esapi, devices)
        try:
            secret = unseal(tpm.esapi, Path(etc), Path(medium), pcrs)
        finally:
            tpm.esapi.pcr_event(pcr_handle=ESYS_TR.PCR13, event_data=CAP_DATA)
    sys.stdout.buffer.write(secret + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
