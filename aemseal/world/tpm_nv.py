# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading other people's NV indices, such as the policy that tboot goes by.

Nothing is ever written, and no authorisation but the empty one is given. Sources:
TPM 2.0 Library part 3, 31.6 (NV_ReadPublic) and 31.13 (NV_Read); part 2, 13.4
(TPMA_NV).
"""

from __future__ import annotations

from typing import Any

from aemseal.words.errors import TpmError
from aemseal.world.tpm import Tpm, TpmRefusedError

# isort: split
# after world/tpm.py, which quiets what tpm2-pytss 2.3 warns of on import
from tpm2_pytss import ESYS_TR

NV_HANDLES = range(0x01000000, 0x02000000)

_AT_ONCE = 256
"""Bytes of one NV_Read: less than any TPM's limit (TPM_PT_NV_BUFFER_MAX)."""

_OWNER_READ = 1 << 17
_AUTH_READ = 1 << 18
_WRITTEN = 1 << 29


def read_nv(tpm: Tpm, index: int) -> bytes | None:
    """Return what an NV index holds, None where it is not defined or not written.

    By the owner's authorisation where that is empty and the index allows it, else by
    the index's own: the owner's is not protected against guessing, so that a password
    there costs no attempt. An index's password that is not empty costs one (tboot,
    which knows no password either, makes the same attempt at each boot).

    TpmError, naming the index, when it may not be read so; ValueError for a handle of
    another kind.
    """
    if index not in NV_HANDLES:
        raise ValueError(f"0x{index:08x} is no NV index")
    if index not in tpm.handles(index, 1):
        return None
    handle = tpm.run("NV_ReadPublic", tpm.esapi.tr_from_tpmpublic, handle=index)
    try:
        return _read(tpm, index, handle)
    finally:
        tpm.esapi.tr_close(handle)


def _read(tpm: Tpm, index: int, handle: Any) -> bytes | None:
    public, _ = tpm.run("NV_ReadPublic", tpm.esapi.nv_read_public, nv_index=handle)
    attributes, size = int(public.nvPublic.attributes), int(public.nvPublic.dataSize)
    if not attributes & _WRITTEN:
        return None
    reader = _reader(tpm, index, handle, attributes)
    data = bytearray()
    try:
        while len(data) < size:
            data += bytes(
                tpm.run(
                    "NV_Read",
                    tpm.esapi.nv_read,
                    nv_index=handle,
                    size=min(_AT_ONCE, size - len(data)),
                    offset=len(data),
                    auth_handle=reader,
                )
            )
    except TpmRefusedError as refused:
        if refused.is_wrong_authorisation:
            raise _locked(index) from None
        raise
    return bytes(data)


def _reader(tpm: Tpm, index: int, handle: Any, attributes: int) -> Any:
    if attributes & _OWNER_READ and not tpm.permanent().owner_auth_set:
        return ESYS_TR.OWNER
    if attributes & _AUTH_READ:
        return handle
    raise _locked(index)


def _locked(index: int) -> TpmError:
    return TpmError(
        f"the TPM's NV index 0x{index:08x} may not be read without a password",
        f"tpm2_nvreadpublic 0x{index:08x} shows who may",
    )
