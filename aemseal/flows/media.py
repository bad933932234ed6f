# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies on the media, held against what should: anyone may have been there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aemseal.flows.publishing import branches_of, kept_vault_file
from aemseal.flows.state import VaultState
from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    VaultFile,
    acceptance_file,
    at_least_two,
)
from aemseal.formats.tpm_policy import policy_ref
from aemseal.words.errors import AemsealError
from aemseal.world.config import Medium
from aemseal.world.store import Files


@dataclass(frozen=True, slots=True)
class MediumProblem:
    """Why the next boot will find no secret on a medium.

    `can_refresh` says that publishing again puts it right. It cannot where the vault
    file is gone and our copy of it too: the sealed secret is nowhere else.
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
    kept = files.read(kept_vault_file(medium.label))
    try:
        data = files.read(path)
    except AemsealError as error:
        yield MediumProblem(medium.label, error.message, can_refresh=kept is not None)
        return
    if data is None or (data != kept if kept else not _is_ours(data, state, medium)):
        what = "is missing" if data is None else "is not the one made at enrol"
        message = f"{path} {what}"
        yield MediumProblem(medium.label, message, can_refresh=kept is not None)
    elif not _is_in_force(files, state, medium):
        path = f"{medium.path}/{acceptance_file(state.count)}"
        message = f"{path} is not what was published"
        yield MediumProblem(medium.label, message, can_refresh=True)


def _is_ours(data: bytes, state: VaultState, medium: Medium) -> bool:
    """Whether a vault file, of which no copy was kept, may be the one made here."""
    try:
        vault = VaultFile.parse(data)
    except AemsealError:
        return False
    return (
        (vault.generation, vault.medium, vault.counter)
        == (state.generation, medium.label, state.counter)
        and vault.policy_ref == policy_ref(state.generation, medium.label)
        and [each.name for each in vault.secrets]
        == [each.name for each in state.secrets]
    )


def _is_in_force(files: Files, state: VaultState, medium: Medium) -> bool:
    """Whether the acceptance for the counter's value is there, for these boots.

    A fallback may lie on either side of the mark: a confirm that signs nothing anew
    takes it in.
    """
    try:
        data = files.read(f"{medium.path}/{acceptance_file(state.count)}")
        found = None if data is None else Acceptance.parse(data)
        branches = at_least_two(branches_of(state))
    except AemsealError:
        return False
    if found is None or found.count != state.count:
        return False
    boots = (*state.accepted, *state.staged)
    fallbacks = {boot.policy for boot in boots if boot.fallback}
    there = [branch.policy for branch in found.branches]
    wanted = [branch.policy for branch in branches]
    return set(there) == set(wanted) and (
        [each for each in there if each not in fallbacks]
        == [each for each in wanted if each not in fallbacks]
    )
