# SPDX-License-Identifier: GPL-2.0-or-later
"""Provisioning: owning the TPM, the hook's files, and the first sealing.

The order is what makes a power cut harmless: an authorisation value is on the
encrypted root before the TPM has it, the journal is written before the first object
of ours, and nothing is accepted before everything is sealed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aemseal.flows.boot_places import boot_places
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE, kept_owners
from aemseal.flows.publishing import can_be_sealed_to
from aemseal.flows.sealing import ToSeal, seal_generation
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.flows.tries import with_lockout_value
from aemseal.flows.vault import Vault
from aemseal.formats.boot_conf import boot_conf
from aemseal.formats.hook_files import hook_conf
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import TpmChangedError, TpmError, VaultError
from aemseal.world.config import Medium
from aemseal.world.luks_headers import HeaderChange
from aemseal.world.signing import random_auth
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import STATE_FOLDER
from aemseal.world.tpm import NV_RANGE, Hierarchy, TpmRefusedError, in_lockout
from aemseal.world.tpm_lockout import LockoutSettings, lockout_state, set_lockout
from aemseal.world.tpm_policies import clear_policy

HOOK_FOLDER = f"{STATE_FOLDER}/hook"
"""What the initramfs takes over as /etc/aemseal: hook.conf and srk.tr."""

LOCKOUT = LockoutSettings(max_tries=32, recovery=7200, lockout_recovery=86400)
"""What locks the TPM: room for power cuts behind a right PIN and for mistyping, while
who guesses at a genuine boot has 32 tries and twelve a day (so do TPMs set up for
Windows, and secboot: https://github.com/canonical/secboot, tpm2/provisioning.go)."""


def require_not_enrolled(vault: Vault) -> None:
    """Raise VaultError where a vault exists: its secret would be lost."""
    if vault.load() is not None:
        raise VaultError(
            "a secret is sealed on this machine already",
            f"its state is in {STATE_FILE}; see: aemseal status",
        )


def free_place(vault: Vault, media: Sequence[Medium]) -> int:
    """Return a free NV index for the counter; VaultError where a medium is absent.

    TpmError when every index of our range is in use.
    """
    for medium in media:
        if not can_be_sealed_to(vault.files, medium):
            raise VaultError(
                f"the medium {medium.label} is not at hand: {medium.path}",
                "mount it and try again; for a new path of that label, make the folder",
            )
    used = vault.tpm.handles(NV_RANGE.start, len(NV_RANGE))
    for index in NV_RANGE:
        if index not in used:
            return index
    raise TpmError(
        "all NV indices of our range are in use",
        f"from 0x{NV_RANGE.start:08x} on; free one that nobody needs: tpm2_nvundefine",
    )


def counters_of_nobody(
    vault: Vault, session: Any, known: Collection[int] = ()
) -> list[str]:
    """Name what is made as our counters are, where nothing on the disk knows it.

    It may belong to another system on this machine.
    """
    found = []
    for index in sorted(vault.tpm.handles(NV_RANGE.start, len(NV_RANGE)) - {*known}):
        with suppress(TpmError, TpmChangedError):
            vault.tpm.count(index, session)
            found.append(
                f"the TPM's counter at 0x{index:08x}: nothing here knows it (if it is "
                f"of no other system: tpm2_nvundefine 0x{index:08x})"
            )
    return found


def own_the_tpm(vault: Vault, foreign_owner: bytes | None) -> StorageKey:
    """Set owner and lockout authorisation, and provide the storage key.

    `foreign_owner` is the value that another tool (Anti Evil Maid) set and keeps on
    the same encrypted root: it is used and left in force. Raises LockoutError, and
    TpmError when the TPM has an owner whose value nobody here knows.
    """
    tpm, files = vault.tpm, vault.files
    permanent = tpm.permanent()
    if permanent.in_lockout:
        raise in_lockout()
    ours = files.read(OWNER_FILE)
    known = (*kept_owners(files), foreign_owner)
    candidates = known if permanent.owner_auth_set else (b"",)
    key, owner = _provide(vault, candidates)
    salt_key = vault.storage.pinned(key)
    with tpm.session(salt_key) as session:
        if not permanent.owner_auth_set:
            _set_auth(vault, Hierarchy.OWNER, OWNER_FILE, session)
        elif owner != ours:
            files.write(OWNER_FILE, owner)
        if not permanent.lockout_auth_set:
            _set_auth(vault, Hierarchy.LOCKOUT, LOCKOUT_FILE, session)
    set_lockout_if_ours(vault)
    return key


def set_lockout_if_ours(vault: Vault) -> bool:
    """Set what locks the TPM, where its lockout authorisation is known; say whether.

    Nothing is sent where it is set so already. A value on the disk is the TPM's own: it
    was put there before the TPM had it, and only where the TPM had none.
    """
    if lockout_state(vault.tpm).settings == LOCKOUT:
        return True
    return prove_lockout(vault) is None


def prove_lockout(vault: Vault) -> str | None:
    """Set what locks the TPM, whatever is set now; return why that failed, or None.

    The lockout value is proved by it to be the one that is kept.
    """
    return with_lockout_value(vault, lambda it: set_lockout(vault.tpm, LOCKOUT, it))


def require_guarded(vault: Vault, secrets: Sequence[ToSeal]) -> None:
    """Raise VaultError for a PIN that could be guessed at for ever.

    Whoever knows the TPM's lockout value can have it forget the wrong PINs it counted.
    So it has to be ours, and is proved by being used: that the settings are right
    says nothing, since whoever set the value could have set them, too.
    """
    if all(each.pin is None for each in secrets):
        return
    trouble = prove_lockout(vault)
    if trouble is not None:
        raise VaultError(
            f"a PIN could be guessed at without end: {trouble}",
            f"if a tool of yours set the TPM's lockout value, write it to "
            f"{LOCKOUT_FILE} (Anti Evil Maid's is its owner password); else clear the "
            "TPM in the firmware set-up",
        )


def _provide(
    vault: Vault, candidates: tuple[bytes | None, ...]
) -> tuple[StorageKey, bytes]:
    for value in candidates:
        if value is None:
            continue
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        try:
            return vault.storage.provide(), value
        except TpmRefusedError as refused:
            if not refused.is_wrong_authorisation:
                raise
    raise TpmError(
        "the TPM has an owner whose authorisation is not known here",
        "name the file that holds it as owner_auth_file in /etc/aemseal.yaml, "
        "or clear the TPM in the firmware set-up",
    )


def _set_auth(vault: Vault, hierarchy: Hierarchy, path: str, session: Any) -> None:
    value = random_auth()
    vault.files.write(path, value)
    clear_policy(vault.tpm, hierarchy)
    vault.tpm.change_auth(hierarchy, value, session)


def write_hook_files(
    vault: Vault,
    key: StorageKey,
    selection: PcrSelection,
    media: Sequence[Medium] = (),
) -> None:
    """Write what the initramfs must carry: the pinned key, the selection, the media.

    VaultError, with nothing written, where a medium cannot be found by an initramfs.
    """
    places = boot_places(vault.files.root, media)
    vault.files.write(f"{HOOK_FOLDER}/srk.tr", key.serialized)
    vault.files.write(f"{HOOK_FOLDER}/hook.conf", hook_conf(selection), mode=0o644)
    vault.files.write(f"{HOOK_FOLDER}/boot.conf", boot_conf(places), mode=0o644)


def seal(
    vault: Vault,
    state: VaultState,
    secrets: Sequence[ToSeal],
    headers: tuple[HeaderChange, ...] = (),
) -> VaultState:
    """Seal the first secrets of this machine, and accept the state's boots.

    The state's counter, count and secrets are filled in. TpmError when the owner's NV
    range is full, VaultError when there is a vault, a medium is absent or the boots
    cannot be published; nothing is written then.
    """
    require_not_enrolled(vault)
    require_guarded(vault, secrets)
    state = replace(state, counter=free_place(vault, state.media))
    return seal_generation(vault, state, secrets, headers=headers)
