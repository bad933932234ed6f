# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies on the media, held against what should: anyone may have been there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aemseal.flows.state import VaultState
from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile, acceptance_file
from aemseal.formats.tpm_policy import policy_ref
from aemseal.words.errors import AemsealError
from aemseal.world.config import Medium
from aemseal.world.store import Files


@dataclass(frozen=True, slots=True)
class MediumProblem:
    """Why the next boot will find no secret on a medium.

    `can_refresh` says that publishing again puts it right; a vault file that is gone
    or another one holds the sealed secret, which nobody can write anew.
    """

    label: str
    message: str
    can_refresh: bool


def medium_problems(files: Files, state: VaultState) -> tuple[MediumProblem, ...]:
    """Look at every medium that is at hand; those absent are told as stale."""
    at_hand = [each for each in state.media if files.exists(each.path)]
    return tuple(
        problem for medium in at_hand for problem in _problems(files, state, medium)
    )


def _problems(
    files: Files, state: VaultState, medium: Medium
) -> Iterator[MediumProblem]:
    path = f"{medium.path}/{VAULT_FILE}"
    try:
        data = files.read(path)
        vault = None if data is None else VaultFile.parse(data, path)
    except AemsealError as error:
        yield MediumProblem(medium.label, error.message, can_refresh=False)
        return
    if vault is None or not _is_ours(vault, state, medium):
        what = "is missing" if vault is None else "is not the one made at enrol"
        yield MediumProblem(medium.label, f"{path} {what}", can_refresh=False)
    elif not _is_in_force(files, state, medium):
        path = f"{medium.path}/{acceptance_file(state.count)}"
        message = f"{path} is not what was published"
        yield MediumProblem(medium.label, message, can_refresh=True)


def _is_ours(vault: VaultFile, state: VaultState, medium: Medium) -> bool:
    return (
        (vault.generation, vault.medium, vault.counter)
        == (state.generation, medium.label, state.counter)
        and vault.policy_ref == policy_ref(state.generation, medium.label)
        and tuple(secret.name for secret in vault.secrets) == state.secrets
    )


def _is_in_force(files: Files, state: VaultState, medium: Medium) -> bool:
    """Whether the acceptance for the counter's value is there, for these boots."""
    try:
        data = files.read(f"{medium.path}/{acceptance_file(state.count)}")
        found = None if data is None else Acceptance.parse(data)
    except AemsealError:
        return False
    boots = (*state.accepted, *state.staged)
    return found is not None and (
        found.count == state.count
        and {branch.policy for branch in found.branches}
        == {boot.policy for boot in boots}
    )
