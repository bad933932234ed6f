# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `remove`: the vault taken down, on the disk and in the TPM."""

from __future__ import annotations

from aemseal.flows.initramfs import LISTS_FILE
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.publishing import kept_vault_file, key_file, remove_everything
from aemseal.flows.state import STATE_FILE
from aemseal.flows.vault import Vault
from aemseal.words.errors import TpmChangedError, VaultError
from aemseal.world.store import STATE_FOLDER


def remove(vault: Vault) -> list[str]:
    """Take the vault down: the counter, the media's files, the key, the state.

    The sealed secrets are lost. The owner's and lockout's values and the storage key
    stay: other tools may use them by now. Returns what was left, in words.
    """
    state = vault.require()
    left = ["the TPM's owner and lockout authorisation, kept in " + STATE_FOLDER]
    try:
        vault.undefine_counter(state, state.counter)
    except (TpmChangedError, VaultError) as error:
        left.append(f"nothing could be removed from the TPM: {error.message}")
    for medium in state.media:
        remove_everything(vault.files, medium)
    copies = [kept_vault_file(medium.label) for medium in state.media]
    for path in (
        *(key_file(state.generation), LISTS_FILE, *copies, STATE_FILE, JOURNAL_FILE),
    ):
        vault.files.remove(path)
    return left
