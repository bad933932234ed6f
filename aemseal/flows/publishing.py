# SPDX-License-Identifier: GPL-2.0-or-later
"""What is put on a medium, and with which key it is signed: parts of every move."""

from __future__ import annotations

from contextlib import suppress

from aemseal.flows.known_boots import pcr_values
from aemseal.flows.state import VaultState
from aemseal.formats.slot import (
    MARK,
    VAULT_FILE,
    Acceptance,
    AcceptedBranch,
    acceptance_file,
    approved_policy,
)
from aemseal.formats.text_lines import slug
from aemseal.formats.tpm_policy import (
    MAX_BRANCHES,
    approval_digest,
    counter_name,
    policy_ref,
)
from aemseal.words.errors import AemsealError, VaultError
from aemseal.world.config import Medium
from aemseal.world.signing import SigningKey
from aemseal.world.store import STATE_FOLDER, Files

ACCEPTANCE_PREFIX = "acceptance."
KEPT_PREFIX = "vault-"
FROM_BACKUP = (
    "take it from a backup of the encrypted root; or begin anew with: aemseal recover"
)


def key_file(generation: int) -> str:
    """Return where the signing key of a generation lies."""
    return f"{STATE_FOLDER}/key-{generation}.pem"


def kept_vault_file(label: str) -> str:
    """Return where our copy of a medium's vault file lies."""
    return f"{STATE_FOLDER}/{KEPT_PREFIX}{label}"


def can_be_sealed_to(files: Files, medium: Medium) -> bool:
    """Whether a medium is at hand, or may be: one that is new has no folder yet.

    The folder of one that was sealed to is on it. Where that is missing, a folder
    that leads to it is the empty place where the medium is mounted.
    """
    if files.exists(medium.path):
        return True
    is_new = files.read(kept_vault_file(medium.label)) is None
    return is_new and files.has_place_for(medium.path)


def load_key(files: Files, generation: int) -> SigningKey:
    """Return the key of a generation; VaultError when it is missing or damaged."""
    data = files.read(key_file(generation))
    if data is None:
        raise VaultError(
            f"{key_file(generation)} is missing: nothing can be signed", FROM_BACKUP
        )
    try:
        return SigningKey.load(data)
    except VaultError as error:
        raise VaultError(
            f"{key_file(generation)}: {error.message}", FROM_BACKUP
        ) from None


def branches_of(state: VaultState) -> tuple[AcceptedBranch, ...]:
    """Return what a publish of this state signs, in order: accepted, MARK, staged.

    MARK is there where both are, and it is no ninth branch; a fallback entry that is
    staged alone is no update. VaultError when there is no boot, one too many or a
    retired one.
    """
    boots, selection = (*state.accepted, *state.staged), state.selection
    if not 1 <= len(boots) <= MAX_BRANCHES:
        raise VaultError(f"{len(boots)} boots cannot be accepted: 1 to {MAX_BRANCHES}")
    for boot in boots:
        if any(boot.policy == old.policy for old in state.retired):
            raise VaultError(
                f"{boot.name} is retired",
                "a retired boot is accepted again by your own word alone: start it, "
                "then: aemseal recover",
            )
    accepted, staged = (
        tuple(
            AcceptedBranch(each.policy, slug(each.name), pcr_values(each, selection))
            for each in group
        )
        for group in (state.accepted, state.staged)
    )
    is_update = any(not each.fallback for each in state.staged)
    has_mark = accepted and is_update and len(boots) < MAX_BRANCHES
    return (*accepted, *((MARK,) if has_mark else ()), *staged)


def sign(
    state: VaultState,
    medium: Medium,
    branches: tuple[AcceptedBranch, ...],
    count: int,
    key: SigningKey,
) -> Acceptance:
    """Sign which boots one medium opens for while the counter stands at `count`."""
    policy = approved_policy(branches, counter_name(state.counter), count)
    reference = policy_ref(state.generation, medium.label)
    return Acceptance(
        generation=state.generation,
        medium=medium.label,
        count=count,
        branches=branches,
        policy=policy,
        signature=key.sign(approval_digest(policy, reference)),
    )


def write_acceptance(files: Files, medium: Medium, acceptance: Acceptance) -> None:
    """Put an acceptance on a medium, beside those that are there."""
    path = f"{medium.path}/{acceptance_file(acceptance.count)}"
    files.write(path, acceptance.to_bytes(), mode=0o644)


def write_vault(files: Files, medium: Medium, vault: bytes) -> None:
    """Put a vault file on a medium, unless it is there already."""
    path = f"{medium.path}/{VAULT_FILE}"
    with suppress(AemsealError):  # whatever else lies there is replaced
        if files.read(path) == vault:
            return
    files.write(path, vault, mode=0o644)


def remove_void(files: Files, medium: Medium, count: int) -> None:
    """Remove the acceptances that the counter has made void.

    Whoever puts there what cannot be removed shall not keep a move from ending.
    """
    kept = acceptance_file(count)
    with suppress(AemsealError):
        for name in files.names(medium.path):
            if name.startswith(ACCEPTANCE_PREFIX) and name != kept:
                files.remove(f"{medium.path}/{name}")


def remove_everything(files: Files, medium: Medium) -> None:
    """Remove the vault and every acceptance from a medium, if it is at hand."""
    for name in files.names(medium.path):
        if name == VAULT_FILE or name.startswith(ACCEPTANCE_PREFIX):
            files.remove(f"{medium.path}/{name}")
