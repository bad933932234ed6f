# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `remove`: the vault taken down, on the disk and in the TPM."""

from __future__ import annotations

from aemseal.flows.initramfs import LISTS_FILE
from aemseal.flows.state import STATE_FILE
from aemseal.flows.vault import JOURNAL_FILE, Vault, key_file
from aemseal.words.errors import TpmChangedError, VaultError
from aemseal.world.store import STATE_FOLDER


def remove(vault: Vault) -> list[str]:
    """Take the vault down: the counter, the media's files, the key, the state.

    The sealed secret is lost. The owner's and lockout's values and the storage key
    stay: other tools may use them by now. Returns what was left, in words.
    """
    state = vault.require()
    left = ["the TPM's owner and lockout authorisation, kept in " + STATE_FOLDER]
    try:
        vault.undefine_counter(state)
    except (TpmChangedError, VaultError) as error:
        left.append(f"nothing could be removed from the TPM: {error.message}")
    vault.remove_media_files(state)
    ours = (key_file(state.generation), LISTS_FILE, STATE_FILE, JOURNAL_FILE)
    for path in ours:
        vault.files.remove(path)
    return left
