# SPDX-License-Identifier: GPL-2.0-or-later
"""stage, confirm, cancel: which boots the next publish accepts, and when.

None of them asks for a secret or touches a sealed object. Each keeps the running
boot accepted, whatever came before it (stage, reboot, stage; stage, reboot, cancel).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows.fallback import (
    distinct,
    is_named,
    kept_beside,
    marked,
    promoted_with,
    replaced_by,
    require_room,
    still_waiting,
    unnamed,
)
from aemseal.flows.luks_boots import differ_in_header_alone, may_come
from aemseal.flows.state import (
    RETIRED_KEPT,
    STATE_FILE,
    NextBootCheck,
    SealedBoot,
    SeenFiles,
    VaultState,
)
from aemseal.measure.baseline import Baseline
from aemseal.words.errors import NotAcceptedError, VaultError

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault

ACCEPTED, STAGED, RETIRED, UNKNOWN = "accepted", "staged", "retired", "unknown"
NOT_ACCEPTED = "not-accepted"


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
    fallbacks: Collection[SealedBoot] = (),
    *,
    new_only: bool = False,
    is_next: bool = True,
) -> VaultState:
    """Accept the predicted boot beside those accepted (or, `new_only`, alone).

    `fallbacks` are what the configured entries boot, marked as such: they are accepted
    in the same publish, and one that is accepted already, or the predicted boot
    itself, costs nothing. An earlier staged boot gives way, unless it is the one that
    runs now, or an accepted one with the LUKS header that is on the disk by now.
    `new_only` retires the boots that were accepted until now, the running one among
    them. `is_next` says that GRUB boots it next, which is then on record as checked.
    VaultError, naming them, for more boots than fit.
    """
    require_accepted(state, running)
    before, state = state, marked(state, predicted if is_next else None, fallbacks)
    coming = distinct((predicted, *fallbacks))
    if not is_next:  # it was asked for by its title, and may be a fallback
        coming = distinct((*fallbacks, predicted))
    new = tuple(each for each in coming if standing(state, each.policy) != ACCEPTED)
    if not new_only and all(standing(state, e.policy) == STAGED for e in new):
        return keep(vault, before, state)
    same, others = _apart(state.accepted, coming)
    running_ones = tuple(boot for boot in state.staged if boot.policy == running)
    _, waiting = _apart(
        distinct((*running_ones, *_with_new_header(vault, state))), coming
    )
    if new_only:
        state = _retiring(replace(state, accepted=same), (*others, *waiting))
        waiting = ()
    word = STAGED if predicted.policy in {each.policy for each in new} else ACCEPTED
    checked = NextBootCheck(word, predicted.since) if is_next else None
    state = replace(state, staged=(*waiting, *new), checked=checked)
    require_room(state)
    return vault.publish(state, "stage")


def keep(vault: Vault, before: VaultState, after: VaultState) -> VaultState:
    """Write down what is known now of the boots that are accepted: nobody else is.

    The TPM is not asked, since neither counter nor media change.
    """
    if after != before:
        vault.files.write(STATE_FILE, after.to_bytes())
    return after


def _with_new_header(vault: Vault, state: VaultState) -> tuple[SealedBoot, ...]:
    """Return the staged boots that are accepted ones but for a LUKS header.

    That header is on the disk, and only they are left of the boots before it.
    """
    return tuple(
        boot
        for boot in state.staged
        if any(differ_in_header_alone(boot, each) for each in state.accepted)
        and may_come(boot, vault.headers)
    )


def _apart(
    boots: tuple[SealedBoot, ...], these: Collection[SealedBoot]
) -> tuple[tuple[SealedBoot, ...], tuple[SealedBoot, ...]]:
    """Tell the boots that are among these from the others."""
    policies = {each.policy for each in these}
    same = tuple(boot for boot in boots if boot.policy in policies)
    return same, tuple(boot for boot in boots if boot.policy not in policies)


def _retiring(state: VaultState, boots: tuple[SealedBoot, ...]) -> VaultState:
    """Remember these boots as retired."""
    return replace(state, retired=(*state.retired, *boots)[-RETIRED_KEPT:])


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What `confirm` did: the state, this boot's name, and who was retired.

    `was_staged` says that this boot was accepted just now, `fallbacks` names the boots
    that are accepted as fallbacks since. `rotated` says that all was signed for anew:
    a copied medium is dead; `not_rotated` why not, where that was asked for.
    """

    state: VaultState
    accepted_as: str
    retired: tuple[str, ...]
    was_staged: bool
    fallbacks: tuple[str, ...] = ()
    rotated: bool = False
    not_rotated: str | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What `confirm` goes by, besides the running boot.

    `next_policy` is the PolicyPCR digest of GRUB's next boot, as just predicted, None
    where it is not known. `titles` are those of the configured fallback entries
    (fallback.titles_of). `rotate` has a boot that is accepted already signed for anew,
    so that a copied medium is dead. `again` is what is known of such a boot now, to be
    kept instead of what was; `seen` are the files beside it. With `all_media` nothing
    is signed for while a medium is away that is not stale yet: it would show nothing.
    """

    next_policy: bytes | None = None
    titles: frozenset[str] = frozenset()
    rotate: bool = False
    again: Baseline | None = None
    seen: SeenFiles | None = None
    all_media: bool = False


NOTHING_KNOWN = Circumstances()


def confirm(
    vault: Vault,
    state: VaultState,
    running: SealedBoot,
    known: Circumstances = NOTHING_KNOWN,
) -> Confirmation:
    """Accept the running staged boot and retire those before it, but the fallbacks.

    A boot staged since this one started stays staged, unless it holds a component that
    is retired now. NotAcceptedError when the running boot is neither accepted nor
    staged, VaultError when `known.all_media` forbids it.
    """
    require_accepted(state, running.policy)
    if standing(state, running.policy) == ACCEPTED:
        return _confirm_again(vault, state, running, known)
    why_not = _would_be_stale(vault, state, known)
    if why_not is not None:
        raise VaultError(why_not, "mount it, then: aemseal confirm")
    staged = next(boot for boot in state.staged if boot.policy == running.policy)
    if not is_named(staged, known.titles):
        staged = replace(staged, fallback=False)
    title = staged.boot.title  # another entry may boot the same
    boot = replace(running.boot, title=title)
    confirmed = replace(staged, since=running.since, boot=boot)
    promoted = promoted_with(state, staged, known.titles)
    kept = kept_beside(state, staged, promoted, known.titles)
    accepted = (confirmed, *kept, *promoted)
    _, retired = _apart(state.accepted, accepted)
    waiting = still_waiting(state, staged, (accepted, retired), known.titles)
    state = replace(
        _retiring(state, retired),
        baseline=running.boot,
        accepted=accepted,
        staged=waiting,
    )
    checked = _checked(known, running, state)
    state = replace(state, checked=checked, seen=known.seen or state.seen)
    state = vault.publish(state, "confirm")
    return Confirmation(
        state,
        confirmed.name,
        _names(retired),
        was_staged=True,
        fallbacks=_names(promoted),
        rotated=True,
    )


def _confirm_again(
    vault: Vault, state: VaultState, running: SealedBoot, known: Circumstances
) -> Confirmation:
    """Confirm a boot that is accepted already: nothing new is let in by it.

    Staged fallbacks of its launcher and Xen become accepted ones. What their entries
    booted before goes, and a fallback whose entry is configured no more, unless the
    running boot is a fallback, which never retires anything.
    """
    here = next(boot for boot in state.accepted if boot.policy == running.policy)
    before = state
    if here.fallback and not is_named(here, known.titles):
        here = replace(here, fallback=False)
        state = _with(state, here)
    why_not = _would_be_stale(vault, state, known)
    after, retired, promoted = _tidied(state, here, running, known)
    if why_not is not None and _count(after) < _count(state):
        after, retired, promoted = state, (), ()
    if known.again is not None:
        boot = replace(known.again, title=here.boot.title)
        after = _with(after, replace(here, boot=boot))
        after = replace(after, baseline=known.again)
    if retired or promoted:
        after = replace(after, checked=_checked(known, running, after))
    after = replace(after, seen=known.seen or state.seen)
    has_fewer = _count(after) < _count(state)
    if known.rotate and not has_fewer:
        why_not = why_not or _no_medium(vault, state)
    is_published = has_fewer or (known.rotate and why_not is None)
    if is_published:
        after = vault.publish(after, "confirm")
    else:
        after = keep(vault, before, after)
    return Confirmation(
        after,
        here.name,
        _names(retired),
        was_staged=False,
        fallbacks=_names(promoted),
        rotated=is_published,
        not_rotated=why_not if known.rotate else None,
    )


def _with(state: VaultState, boot: SealedBoot) -> VaultState:
    """Put what is known of an accepted boot now in the place of what was."""
    accepted = tuple(
        boot if each.policy == boot.policy else each for each in state.accepted
    )
    return replace(state, accepted=accepted)


def _tidied(
    state: VaultState, here: SealedBoot, running: SealedBoot, known: Circumstances
) -> tuple[VaultState, tuple[SealedBoot, ...], tuple[SealedBoot, ...]]:
    """Put each fallback where it belongs; also returns who goes and who comes in."""
    promoted = promoted_with(state, replace(here, since=running.since), known.titles)
    gone = (
        *unnamed(state.accepted, here, known.titles),
        *replaced_by(promoted, state.accepted, here),
    )
    retired = () if here.fallback else gone
    dropped = unnamed(state.staged, here, known.titles)
    _, accepted = _apart(state.accepted, retired)
    _, staged = _apart(state.staged, (*promoted, *dropped))
    accepted = (*accepted, *promoted)
    after = replace(_retiring(state, retired), accepted=accepted, staged=staged)
    return after, retired, promoted


def _would_be_stale(
    vault: Vault, state: VaultState, known: Circumstances
) -> str | None:
    """Name a medium that `all_media` is about: away, and not stale yet."""
    if not known.all_media:
        return None
    fresh = [each for each in state.media if each.label not in state.stale]
    away = [each.label for each in fresh if not vault.files.exists(each.path)]
    return f"medium {', '.join(away)} is not at hand" if away else None


def _no_medium(vault: Vault, state: VaultState) -> str | None:
    """Say so where no medium is at hand to be written."""
    if any(vault.files.exists(each.path) for each in state.media):
        return None
    return f"no medium is at hand ({', '.join(each.label for each in state.media)})"


def _count(state: VaultState) -> int:
    """Return how many boots a publish accepts."""
    return len(state.accepted) + len(state.staged)


def _names(boots: Iterable[SealedBoot]) -> tuple[str, ...]:
    return tuple(boot.name for boot in boots)


def _checked(
    known: Circumstances, running: SealedBoot, state: VaultState
) -> NextBootCheck | None:
    """Say what the next boot is once the running one is accepted."""
    if known.next_policy is None:
        return None
    word = standing(state, known.next_policy)
    is_open = word in (ACCEPTED, STAGED)
    return NextBootCheck(word if is_open else NOT_ACCEPTED, running.since)


def cancel(vault: Vault, state: VaultState, running: bytes) -> VaultState:
    """Take the staged boots back; publish those accepted.

    An accepted boot with the LUKS header that is on the disk by now stays. VaultError
    where nothing else is staged, and while the staged boot is the one that runs: taking
    that one back would leave the running boot refused.
    """
    require_accepted(state, running)
    if standing(state, running) == STAGED:
        raise VaultError(
            "the staged boot is the one running now: it is not taken back",
            "keep it with: aemseal confirm; or boot the entry before it, and cancel",
        )
    kept = _with_new_header(vault, state)
    if kept and len(kept) == len(state.staged):
        raise VaultError(
            "what is staged are the accepted boots with the LUKS header that is on the "
            "disk now: nothing is taken back",
            "reboot, and keep it with: aemseal confirm",
        )
    return vault.publish(replace(state, staged=kept, checked=None), "cancel")
