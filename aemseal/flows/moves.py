# SPDX-License-Identifier: GPL-2.0-or-later
"""stage, confirm, cancel: which boots the next publish accepts, and when.

None of them asks for a secret or touches a sealed object. Each keeps the running
boot accepted, whatever came before it (stage, reboot, stage; stage, reboot, cancel).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows.state import RETIRED_KEPT, NextBootCheck, SealedBoot, VaultState
from aemseal.words.errors import NotAcceptedError, VaultError

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault

ACCEPTED, STAGED, RETIRED, UNKNOWN = "accepted", "staged", "retired", "unknown"


def standing(state: VaultState, policy: bytes) -> str:
    """Say what the boot with this PolicyPCR digest is to the vault."""
    groups = ((ACCEPTED, state.accepted), (STAGED, state.staged))
    for word, boots in (*groups, (RETIRED, state.retired)):
        if any(boot.policy == policy for boot in boots):
            return word
    return UNKNOWN


def require_accepted(state: VaultState, running: bytes) -> None:
    """Raise NotAcceptedError unless the running boot may unseal now."""
    if standing(state, running) not in (ACCEPTED, STAGED):
        raise NotAcceptedError(
            "this boot is not an accepted one: nothing is sealed from it",
            "see: aemseal explain",
        )


def stage(
    vault: Vault,
    state: VaultState,
    running: bytes,
    predicted: SealedBoot,
    *,
    new_only: bool = False,
) -> VaultState:
    """Accept the predicted boot beside those accepted (or, `new_only`, alone).

    An earlier staged boot gives way, unless it is the one that runs now.
    """
    require_accepted(state, running)
    if standing(state, predicted.policy) == ACCEPTED:
        return state
    running_staged = tuple(boot for boot in state.staged if boot.policy == running)
    keep = tuple(boot for boot in running_staged if boot.policy != predicted.policy)
    accepted = () if new_only else state.accepted
    if new_only:
        keep = ()
    return vault.publish(
        replace(
            state,
            accepted=accepted,
            staged=(*keep, predicted),
            checked=NextBootCheck(STAGED, predicted.since),
        ),
        "stage",
    )


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What `confirm` did: the state, this boot's name, and who was retired."""

    state: VaultState
    accepted_as: str
    retired: tuple[str, ...]
    was_staged: bool


def confirm(vault: Vault, state: VaultState, running: SealedBoot) -> Confirmation:
    """Accept the running staged boot alone and retire those before it.

    A boot staged since this one started stays staged. NotAcceptedError when the
    running boot is neither accepted nor staged.
    """
    require_accepted(state, running.policy)
    if standing(state, running.policy) == ACCEPTED:
        name = next(b.name for b in state.accepted if b.policy == running.policy)
        return Confirmation(state, name, (), was_staged=False)
    staged = next(boot for boot in state.staged if boot.policy == running.policy)
    confirmed = replace(staged, since=running.since, boot=running.boot)
    retired = state.accepted
    gone = {boot.policy for boot in (*retired, *state.retired)}
    waiting = tuple(
        boot
        for boot in state.staged
        if boot.policy != running.policy and boot.policy not in gone
    )
    state = vault.publish(
        replace(
            state,
            baseline=running.boot,
            accepted=(confirmed,),
            staged=waiting,
            retired=(*state.retired, *retired)[-RETIRED_KEPT:],
            checked=NextBootCheck(STAGED if waiting else ACCEPTED, running.since),
        ),
        "confirm",
    )
    return Confirmation(
        state, confirmed.name, tuple(boot.name for boot in retired), was_staged=True
    )


def cancel(vault: Vault, state: VaultState, running: bytes) -> VaultState:
    """Take the staged boots back; publish those accepted.

    VaultError while the staged boot is the one that runs: taking that one back would
    leave the running boot refused.
    """
    require_accepted(state, running)
    if standing(state, running) == STAGED:
        raise VaultError(
            "the staged boot is the one running now: it is not taken back",
            "keep it with: aemseal confirm; or boot the entry before it, and cancel",
        )
    return vault.publish(replace(state, staged=(), checked=None), "cancel")
