# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `revoke`: publish without a medium, and it is dead, wherever it is.

It is allowed on any boot. It accepts none, and whoever could misuse it could remove the
media's files as well; a lost stick should not wait for an accepted boot.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aemseal.flows.publishing import kept_vault_file, remove_everything
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.text_lines import is_name
from aemseal.words.errors import AemsealError, UsageError, VaultError
from aemseal.world.config import Medium


@dataclass(frozen=True, slots=True)
class Revocation:
    """The state without the medium, and whether its files are gone as well."""

    state: VaultState
    removed_files: bool


def revoke(
    vault: Vault, state: VaultState, label: str, configured: Sequence[Medium] = ()
) -> Revocation:
    """Publish without the medium of this label; remove its files if it is at hand.

    It comes back in a new generation alone, since the media of one are those that were
    sealed to. Revoked before, only what a power cut left of it is removed, from where
    it is `configured`. UsageError for an unknown label, VaultError for the last medium
    or while no other one is at hand.
    """
    medium = next((each for each in state.media if each.label == label), None)
    if medium is None:
        return _removed_again(vault, state, label, configured)
    others = tuple(each for each in state.media if each is not medium)
    if not others:
        raise VaultError(
            f"{label} is the last medium: nothing would be sealed any more",
            "take the vault down with: aemseal remove; then enrol on another one",
        )
    stale = tuple(each for each in state.stale if each != label)
    state = vault.publish(replace(state, media=others, stale=stale), "revoke")
    return Revocation(state, _remove_files(vault, medium))


def _removed_again(
    vault: Vault, state: VaultState, label: str, configured: Sequence[Medium]
) -> Revocation:
    if not is_name(label) or vault.files.read(kept_vault_file(label)) is None:
        known = ", ".join(each.label for each in state.media)
        raise UsageError(f"no medium {label!r} is sealed to", f"there are: {known}")
    medium = next((each for each in configured if each.label == label), None)
    if medium is None:
        vault.files.remove(kept_vault_file(label))
        return Revocation(state, removed_files=False)
    return Revocation(state, _remove_files(vault, medium))


def _remove_files(vault: Vault, medium: Medium) -> bool:
    """Remove a medium's files, then our copy; whoever keeps the first opens nothing."""
    at_hand = vault.files.exists(medium.path)
    with suppress(AemsealError):
        remove_everything(vault.files, medium)
    vault.files.remove(kept_vault_file(medium.label))
    return at_hand
