# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `remove`: everything of ours out of the TPM, the media and the disk.

The way out of every other trouble, so nothing has to be in order: not the state, not a
journal, not the TPM. What cannot be removed is named and left. LUKS and TPM come first,
state.json last: cut anywhere, `remove` again takes down what is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from aemseal.flows import owner
from aemseal.flows.journal import JOURNAL_FILE, Journal, Sealing, parse_journal
from aemseal.flows.keyfile import remove_keys
from aemseal.flows.provision import HOOK_FOLDER, counters_of_nobody
from aemseal.flows.publishing import KEPT_PREFIX, remove_everything
from aemseal.flows.state import STATE_FILE, VaultState, nothing_sealed
from aemseal.flows.vault import Vault
from aemseal.formats.slot import VaultFile
from aemseal.words.errors import AemsealError, TpmChangedError, VaultError
from aemseal.world.config import Medium
from aemseal.world.storage_key import StorageKey
from aemseal.world.store import STATE_FOLDER
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_storage import SRK_HANDLE

_OURS = re.compile(
    r"journal\.json|foreseen\.json|initramfs\.json|key-[0-9]+\.pem|vault-.+"
    r"|luks-.+\.(header|before)|lockout\.refused|\..+\.[0-9a-f]{16}\.new"
)
"""Files of ours in /var/lib/aemseal that go with the vault."""

_LAST = {
    path.rpartition("/")[2]
    for path in (
        STATE_FILE,
        *(owner.OWNER_FILE, owner.NEXT_OWNER_FILE),
        *(owner.LOCKOUT_FILE, owner.NEXT_LOCKOUT_FILE),
    )
}
"""Those that go when all else has, or when the TPM's value does."""

_IN_THE_INITRAMFS = (
    "aemseal's hook in the initramfs: build that anew, or each boot says that no vault "
    "was found"
)


def remove(
    vault: Vault,
    configured: Sequence[Medium] = (),
    foreign_owner: bytes | None = None,
) -> list[str]:
    """Take the vault down, and return what was left, in words. Its secrets are lost.

    The counters of every generation that is on record, the media's files, our storage
    key, owner and lockout authorisation where they are ours, and every file of ours.
    `configured` are the media where no state tells them, `foreign_owner` is the
    owner's value that another tool keeps. VaultError where nothing of ours is here.
    """
    files = vault.files
    if not _anything(vault):
        raise nothing_sealed()
    states = _known_states(vault)
    left = remove_keys(vault, states)
    with _session(vault, states) as session:
        left += _free_the_tpm(vault, states, session, foreign_owner)
    left += _clear_media(vault, states, configured)
    left += _clear_hook(vault)
    for name in files.names(STATE_FOLDER):
        if _OURS.fullmatch(name):
            files.remove(f"{STATE_FOLDER}/{name}")
    files.remove(STATE_FILE)
    return left


def _anything(vault: Vault) -> bool:
    """Whether a file of ours is here, or of the hook; the lock always is."""
    names = vault.files.names(STATE_FOLDER)
    return bool(vault.files.names(HOOK_FOLDER)) or any(
        name in _LAST or _OURS.fullmatch(name) for name in names
    )


def _known_states(vault: Vault) -> list[VaultState]:
    """Return the state on record, and the one that a journal leads to."""
    found = []
    with suppress(AemsealError):
        found.append(vault.require())
    journal = _journal(vault)
    if journal is not None:
        found.append(journal.state)
    return found


def _journal(vault: Vault) -> Journal | Sealing | None:
    data = vault.files.read(JOURNAL_FILE)
    with suppress(VaultError):
        return None if data is None else parse_journal(data)
    return None


# --- the TPM ---


def _session(vault: Vault, states: Sequence[VaultState]) -> AbstractContextManager[Any]:
    """Run a session salted to our storage key, where the TPM has it.

    Else an unsalted one: it keeps the values that authorise off the bus as well, and
    nothing secret goes to the TPM.
    """
    for state in states:
        with suppress(TpmChangedError):
            return vault.tpm.session(vault.storage.pinned(state.storage))
    return vault.tpm.session()


def _free_the_tpm(
    vault: Vault,
    states: Sequence[VaultState],
    session: Any,
    foreign_owner: bytes | None,
) -> list[str]:
    """Take counters and keys out, then give the authorisations back."""
    left: list[str] = []
    authorise = partial(_authorise, vault, session, foreign_owner)
    for counter in sorted(_counters(vault, states)):
        try:
            authorise()
            _count_past(vault, states, counter, session)
            vault.tpm.undefine_counter(counter, session)
        except AemsealError as error:
            left.append(f"the TPM's counter at 0x{counter:08x}: {error.message}")
    if not left:
        left += counters_of_nobody(vault, session)
    for key in _storage_keys(vault, states):
        what = f"the storage key at 0x{key.handle:08x}"
        if key.handle == SRK_HANDLE:
            left.append(f"{what}: that place is everybody's, and others may use it")
            continue
        try:
            authorise()
            vault.storage.evict(key, session)
        except AemsealError as error:
            left.append(f"{what}: {error.message}")
    return left + owner.give_back(vault, session, foreign_owner)


def _count_past(
    vault: Vault, states: Sequence[VaultState], counter: int, session: Any
) -> None:
    """Count past every number that was signed for: no later counter comes to one.

    A TPM starts a counter past all that it ever had, and this Name may be a counter's
    again. A move that was cut short has signed for more than was counted: where its
    counter is gone, or another one, ours is made once more for it. A TPM without our
    storage key loads nothing of ours.
    """
    last = max(
        (
            state.count
            for state in states
            if state.counter == counter
            and vault.storage.holds(state.storage.serialized)
        ),
        default=0,
    )
    if last == 0:
        return
    try:
        count = vault.tpm.count(counter, session)
    except TpmChangedError:
        vault.tpm.undefine_counter(counter, session)
        vault.tpm.define_counter(counter, session)
        count = 0
    while count < last:
        vault.tpm.increment(counter, session)
        count = vault.tpm.count(counter, session)


def _authorise(vault: Vault, session: Any, foreign_owner: bytes | None) -> None:
    """Tell the TSS the owner's value; VaultError where it is not known."""
    if not vault.tpm.permanent().owner_auth_set:
        vault.tpm.set_auth(Hierarchy.OWNER, b"")
        return
    owner.authorise(vault, session, foreign_owner)


def _counters(vault: Vault, states: Sequence[VaultState]) -> set[int]:
    """Return the counters of every generation that anything on the disk knows."""
    found = {state.counter for state in states}
    journal = _journal(vault)
    if isinstance(journal, Sealing) and journal.before is not None:
        found.add(journal.before.counter)
    for name in vault.files.names(STATE_FOLDER):
        if name.startswith(KEPT_PREFIX):
            with suppress(AemsealError):
                data = vault.files.read(f"{STATE_FOLDER}/{name}") or b""
                found.add(VaultFile.parse(data).counter)
    return {each for each in found if each in NV_RANGE}


def _storage_keys(vault: Vault, states: Sequence[VaultState]) -> list[StorageKey]:
    """Return the keys that were pinned, as far as the TPM has them."""
    pins = {state.storage.serialized for state in states}
    with suppress(AemsealError):
        pins.add(vault.files.read(f"{HOOK_FOLDER}/srk.tr") or b"")
    found = (vault.storage.pinned_by(each) for each in sorted(pins))
    return [each for each in found if each is not None]


# --- the disk ---


def _clear_media(
    vault: Vault, states: Sequence[VaultState], configured: Sequence[Medium]
) -> list[str]:
    """Remove our files from every medium; name those that could not be cleared."""
    known = [medium for state in states for medium in state.media] or configured
    left = []
    for medium in dict.fromkeys(known):
        what = f"the medium {medium.label}"
        if not vault.files.exists(medium.path):
            left.append(f"{what}: {medium.path} is not at hand")
            continue
        try:
            remove_everything(vault.files, medium)
        except AemsealError as error:
            left.append(f"{what}: {error.message}")
    return left


def _clear_hook(vault: Vault) -> list[str]:
    """Remove what the next initramfs would carry; the one in /boot has it still."""
    names = vault.files.names(HOOK_FOLDER)
    for name in names:
        vault.files.remove(f"{HOOK_FOLDER}/{name}")
    return [_IN_THE_INITRAMFS] if names else []
