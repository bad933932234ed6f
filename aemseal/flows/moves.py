# SPDX-License-Identifier: GPL-2.0-or-later
"""stage, confirm, cancel: which boots the next publish accepts, and when.

None of them asks for a secret or touches a sealed object. Each keeps the running
boot accepted, whatever came before it (stage, reboot, stage; stage, reboot, cancel).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows.state import RETIRED_KEPT, NextBootCheck, SealedBoot, VaultState
from aemseal.measure.boot_entry import Role
from aemseal.words.errors import NotAcceptedError, VaultError

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault

ACCEPTED, STAGED, RETIRED, UNKNOWN = "accepted", "staged", "retired", "unknown"
NOT_ACCEPTED = "not-accepted"

_FILE_ROLES = frozenset({Role.MLE, Role.XEN, Role.KERNEL, Role.INITRAMFS, Role.MODULE})


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
    is_next: bool = True,
) -> VaultState:
    """Accept the predicted boot beside those accepted (or, `new_only`, alone).

    An earlier staged boot gives way, unless it is the one that runs now. `new_only`
    retires the boots that were accepted until now, the running one among them.
    `is_next` says that GRUB boots it next, which is then on record as checked.
    """
    require_accepted(state, running)
    if not new_only and standing(state, predicted.policy) == ACCEPTED:
        return state
    same, others = _apart(state.accepted, predicted.policy)
    _, waiting = _apart(
        tuple(boot for boot in state.staged if boot.policy == running), predicted.policy
    )
    if new_only:
        state = _retiring(replace(state, accepted=same), (*others, *waiting))
        waiting = ()
    staged = waiting if same else (*waiting, predicted)
    word = STAGED if staged else ACCEPTED
    checked = NextBootCheck(word, predicted.since) if is_next else None
    return vault.publish(replace(state, staged=staged, checked=checked), "stage")


def _apart(
    boots: tuple[SealedBoot, ...], policy: bytes
) -> tuple[tuple[SealedBoot, ...], tuple[SealedBoot, ...]]:
    """Tell the boots with this policy from the others."""
    same = tuple(boot for boot in boots if boot.policy == policy)
    return same, tuple(boot for boot in boots if boot.policy != policy)


def _retiring(state: VaultState, boots: tuple[SealedBoot, ...]) -> VaultState:
    """Remember these boots as retired."""
    return replace(state, retired=(*state.retired, *boots)[-RETIRED_KEPT:])


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What `confirm` did: the state, this boot's name, and who was retired."""

    state: VaultState
    accepted_as: str
    retired: tuple[str, ...]
    was_staged: bool


def confirm(
    vault: Vault,
    state: VaultState,
    running: SealedBoot,
    next_policy: bytes | None = None,
) -> Confirmation:
    """Accept the running staged boot alone and retire those before it.

    A boot staged since this one started stays staged, unless it holds a component
    that is retired now. `next_policy` is the PolicyPCR digest of GRUB's next boot, as
    just predicted, None where it is not known. NotAcceptedError when the running boot
    is neither accepted nor staged.
    """
    require_accepted(state, running.policy)
    if standing(state, running.policy) == ACCEPTED:
        name = next(b.name for b in state.accepted if b.policy == running.policy)
        return Confirmation(state, name, (), was_staged=False)
    staged = next(boot for boot in state.staged if boot.policy == running.policy)
    confirmed = replace(staged, since=running.since, boot=running.boot)
    retired = state.accepted
    gone = {boot.policy for boot in (running, *retired, *state.retired)}
    gone_parts = _parts(retired) - _parts((running,))
    waiting = tuple(
        boot
        for boot in state.staged
        if boot.policy not in gone and not _parts((boot,)) & gone_parts
    )
    state = vault.publish(
        replace(
            _retiring(state, retired),
            baseline=running.boot,
            accepted=(confirmed,),
            staged=waiting,
            checked=_checked(next_policy, running, waiting),
        ),
        "confirm",
    )
    return Confirmation(
        state, confirmed.name, tuple(boot.name for boot in retired), was_staged=True
    )


def _parts(boots: tuple[SealedBoot, ...]) -> set[tuple[Role, str]]:
    """Return what these boots are made of: each file's role and digests."""
    return {
        (each.role, str(sorted(map(str, each.digests.values()))))
        for boot in boots
        for each in boot.boot.measurements
        if each.role in _FILE_ROLES
    }


def _checked(
    policy: bytes | None, running: SealedBoot, waiting: tuple[SealedBoot, ...]
) -> NextBootCheck | None:
    """Say what the next boot is once the running one alone is accepted."""
    if policy is None:
        return None
    if policy == running.policy:
        word = ACCEPTED
    else:
        is_waiting = any(boot.policy == policy for boot in waiting)
        word = STAGED if is_waiting else NOT_ACCEPTED
    return NextBootCheck(word, running.since)


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
