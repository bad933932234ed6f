# SPDX-License-Identifier: GPL-2.0-or-later
"""The owner's and the lockout authorisation: kept, rotated, given back.

A new value is on the encrypted root before the TPM has it (docs/adr/0010). Of two
owner's values both may be tried: a wrong one counts towards nothing. A wrong lockout
value has the TPM refuse the right one for a day, so it is never guessed: it is
rotated by way of the empty one, since whether it is empty is what a TPM tells.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from aemseal.words.errors import LockoutError, TpmChangedError, VaultError
from aemseal.world.signing import random_auth
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import STATE_FOLDER, Files
from aemseal.world.tpm import Hierarchy, TpmRefusedError
from aemseal.world.tpm_policies import clear_policy

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault

OWNER_FILE = f"{STATE_FOLDER}/owner.auth"
LOCKOUT_FILE = f"{STATE_FOLDER}/lockout.auth"
NEXT_OWNER_FILE = f"{OWNER_FILE}.next"
NEXT_LOCKOUT_FILE = f"{LOCKOUT_FILE}.next"
"""There while a value is changed. Who finds this one, and in LOCKOUT_FILE another
value, finds that other one in the TPM, or none; and in both the same: it, or none."""

REFUSED_FILE = f"{STATE_FOLDER}/lockout.refused"
"""SHA-256 of a lockout value that must not be tried: the TPM refused it."""

_FOREIGN_OWNER = "the TPM's owner authorisation: another tool keeps it"
_FOREIGN_LOCKOUT = "the TPM's lockout authorisation: another tool set it"
_NOT_NOW = (
    "the TPM's lockout authorisation: after a wrong one the TPM takes none for a day"
)
_REFUSED_BEFORE = (
    f"the TPM's lockout authorisation: the TPM has refused the value in {LOCKOUT_FILE} "
    f"before, and it is not tried again (if it is right by now, remove {REFUSED_FILE})"
)
_NOT_OURS = "the TPM's {} authorisation: it is not the one in {}"


def kept_owners(files: Files) -> tuple[bytes, ...]:
    """Return the owner's values that the TPM may have; none, one or two."""
    found = (files.read(path) for path in (OWNER_FILE, NEXT_OWNER_FILE))
    return tuple(each for each in found if each is not None)


def refused_mark(value: bytes) -> bytes:
    """Return what REFUSED_FILE holds for a lockout value that is not to be tried."""
    return hashlib.sha256(value).hexdigest().encode()


def authorise(vault: Vault, session: Any, foreign: bytes | None = None) -> bytes:
    """Tell the TSS the owner's value that the TPM takes, and return it.

    `foreign` is one more that may be it. VaultError when none is the TPM's.
    """
    for value in (*kept_owners(vault.files), foreign):
        if value is None:
            continue
        vault.tpm.set_auth(Hierarchy.OWNER, value)
        try:
            vault.tpm.require_authorised(Hierarchy.OWNER, session)
        except TpmRefusedError as refused:
            if not refused.is_wrong_authorisation:
                raise
        else:
            return value
    raise VaultError(
        f"the TPM's owner authorisation is not the one in {OWNER_FILE}",
        "another tool has set it since: write its value there; or clear the TPM in "
        "the firmware set-up, and then: aemseal recover",
    )


def rotate(vault: Vault, storage: StorageKey, foreign_owner: bytes | None) -> list[str]:
    """Change both values where they are ours; return what was not, in words.

    `foreign_owner` is the owner's value that another tool keeps. VaultError,
    TpmChangedError as for a move.
    """
    left = []
    with vault.tpm.session(vault.storage.pinned(storage)) as session:
        if authorise(vault, session) == foreign_owner:
            left.append(_FOREIGN_OWNER)
        else:
            _rotate_owner(vault, session)
        trouble = _rotate_lockout(vault, session)
    return [*left, *([] if trouble is None else [trouble])]


def settle(vault: Vault) -> str | None:
    """Finish a change that was cut short, and say so; None where there was none.

    What locks the TPM is set again: for a moment anybody could have changed that.
    Where the TPM takes no value now the change waits for the next command. Without our
    storage key it waits too: what then owns the TPM knows both values.
    """
    from aemseal.flows.provision import set_lockout_if_ours  # it builds on this room

    files = vault.files
    owner_waits = files.read(NEXT_OWNER_FILE) is not None
    lockout_waits = files.read(NEXT_LOCKOUT_FILE) is not None
    state = vault.load() if owner_waits or lockout_waits else None
    if state is None:
        return None
    trouble = None
    try:
        with vault.tpm.session(vault.storage.pinned(state.storage)) as session:
            if owner_waits:
                _rotate_owner(vault, session)
            if lockout_waits:
                trouble = _rotate_lockout(vault, session)
    except TpmChangedError:
        return None
    set_lockout_if_ours(vault)
    if trouble is not None:
        return f"not changed: {trouble}"
    return "a change of the TPM's authorisations was cut short: finished it"


def give_back(vault: Vault, session: Any, foreign_owner: bytes | None) -> list[str]:
    """Set both values back to none where they are ours; return what was not.

    Their files go with them, and stay where the value stays in force.
    """
    told = (
        _give_back_lockout(vault, session),
        _give_back_owner(vault, session, foreign_owner),
    )
    return [each for each in told if each is not None]


def _rotate_owner(vault: Vault, session: Any) -> None:
    """Change the owner's value, by way of none: a policy beside it goes there."""
    new = _next(vault.files, NEXT_OWNER_FILE)
    is_set = vault.tpm.permanent().owner_auth_set
    if is_set and authorise(vault, session) != new:
        vault.tpm.change_auth(Hierarchy.OWNER, b"", session)
        is_set = False
    if not is_set:
        vault.tpm.set_auth(Hierarchy.OWNER, b"")
        clear_policy(vault.tpm, Hierarchy.OWNER)
        vault.tpm.change_auth(Hierarchy.OWNER, new, session)
    vault.files.write(OWNER_FILE, new)
    vault.files.remove(NEXT_OWNER_FILE)


def _rotate_lockout(vault: Vault, session: Any) -> str | None:
    """Change the lockout value by way of none; say why where that is not done.

    Found to be set after a cut, the new one is proved: while it was none anybody could
    have set another, with which wrong PINs are forgotten for ever.
    """
    from aemseal.flows.provision import prove_lockout  # it builds on this room

    files = vault.files
    old = files.read(LOCKOUT_FILE)
    if old is None:
        return _FOREIGN_LOCKOUT
    new = _next(files, NEXT_LOCKOUT_FILE)
    is_set = vault.tpm.permanent().lockout_auth_set
    if is_set and old != new:
        trouble = _clear_lockout(vault, old, session)
        if trouble is not None:
            return trouble
        is_set = False
    if is_set:
        trouble = prove_lockout(vault)
        if trouble is not None:
            if files.read(REFUSED_FILE) == refused_mark(new):
                files.remove(NEXT_LOCKOUT_FILE)
            return trouble
    else:
        files.write(LOCKOUT_FILE, new)
        vault.tpm.set_auth(Hierarchy.LOCKOUT, b"")
        clear_policy(vault.tpm, Hierarchy.LOCKOUT)
        vault.tpm.change_auth(Hierarchy.LOCKOUT, new, session)
    files.remove(NEXT_LOCKOUT_FILE)
    return None


def _clear_lockout(vault: Vault, value: bytes, session: Any) -> str | None:
    """Set the lockout value back to none; say why where that is not done.

    Nothing is written before the try that a cut would leave: this value is the TPM's,
    unless another tool set one, and trying it again is no guess.
    """
    mark = refused_mark(value)
    if vault.files.read(REFUSED_FILE) == mark:
        vault.files.remove(NEXT_LOCKOUT_FILE)
        return _REFUSED_BEFORE
    vault.tpm.set_auth(Hierarchy.LOCKOUT, value)
    try:
        vault.tpm.change_auth(Hierarchy.LOCKOUT, b"", session)
    except LockoutError:
        return _NOT_NOW
    except TpmRefusedError as refused:
        if not refused.is_wrong_authorisation:
            raise
        vault.files.write(REFUSED_FILE, mark)
        vault.files.remove(NEXT_LOCKOUT_FILE)
        return _NOT_OURS.format("lockout", LOCKOUT_FILE)
    return None


def _give_back_lockout(vault: Vault, session: Any) -> str | None:
    value = vault.files.read(LOCKOUT_FILE)
    if vault.tpm.permanent().lockout_auth_set:
        if value is None:
            return _FOREIGN_LOCKOUT
        trouble = _clear_lockout(vault, value, session)
        if trouble is not None:
            return trouble
        clear_policy(vault.tpm, Hierarchy.LOCKOUT)
    vault.files.remove(NEXT_LOCKOUT_FILE)
    vault.files.remove(LOCKOUT_FILE)
    return None


def _give_back_owner(
    vault: Vault, session: Any, foreign_owner: bytes | None
) -> str | None:
    told = None
    if vault.tpm.permanent().owner_auth_set:
        try:
            held = authorise(vault, session, foreign_owner)
        except VaultError:
            return _NOT_OURS.format("owner", OWNER_FILE)
        if held == foreign_owner:
            told = _FOREIGN_OWNER
        else:
            vault.tpm.change_auth(Hierarchy.OWNER, b"", session)
            clear_policy(vault.tpm, Hierarchy.OWNER)
    vault.files.remove(NEXT_OWNER_FILE)
    vault.files.remove(OWNER_FILE)
    return told


def _next(files: Files, path: str) -> bytes:
    """Return the value that is to come; the same one after a cut."""
    found = files.read(path)
    if found is not None:
        return found
    value = random_auth()
    files.write(path, value)
    return value
