# SPDX-License-Identifier: GPL-2.0-or-later
"""The use cases `status` and `explain`: what this boot is, what the next will be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows import steps
from aemseal.flows.attendance import SwitchedOn, counted_now, switched_on
from aemseal.flows.evidence import no_hook, read_hook_record, read_launch, require_hook
from aemseal.flows.explain_search import recognise
from aemseal.flows.fallback_entries import FallbackBoot
from aemseal.flows.hook_word import hook_word, was_overridden
from aemseal.flows.known_boots import known_boots
from aemseal.flows.luks_boots import lost_key
from aemseal.flows.media import MediumProblem
from aemseal.flows.moves import (
    ACCEPTED,
    NOT_ACCEPTED,
    RETIRED,
    STAGED,
    UNKNOWN,
    standing,
)
from aemseal.flows.reseal import BlindBootError, next_boot
from aemseal.flows.state import KeptSecret, NextBootCheck, SealedBoot, VaultState
from aemseal.formats.hook_files import HookRecord
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.differences import Seen, seen_in
from aemseal.measure.explain import (
    Explanation,
    Verdict,
    after_hook,
    explain,
    held_against,
    not_shown,
    shut,
    tpm_changed,
    unmeasured,
)
from aemseal.measure.luks import LUKS_PCR, LuksExtends
from aemseal.measure.replay import VerifiedLog, verify
from aemseal.words.digest import Digest, PcrBank
from aemseal.words.errors import (
    AemsealError,
    TpmChangedError,
    TpmError,
    UnmeasuredError,
    VaultError,
)
from aemseal.world.host import Host

if TYPE_CHECKING:
    from aemseal.flows.tries import Tries
    from aemseal.world.tpm import Tpm

UNMEASURED = "unmeasured"
SHOWN = "unsealed"
"""The hook's word for a secret that it showed (docs/slot-format.md)."""

CountNow = Callable[[VaultState], int]
"""Reads the TPM's counter; TpmChangedError when key or counter are not ours."""


@dataclass(frozen=True)
class RunningBoot:
    """The running boot as measured: verified log, live PCRs, the hook's record."""

    verified: VerifiedLog
    live: PcrBank
    hook: HookRecord | None

    def policy(self, state: VaultState) -> bytes | None:
        """Return its PolicyPCR digest, None where no hook measured PCR 13."""
        if self.hook is None:
            return None
        values: dict[int, Digest] = {
            pcr: self.hook.measured if pcr == LUKS_PCR else self.live.value(pcr)
            for pcr in state.selection.pcrs
        }
        return policy_pcr(state.selection, values)


def read_running(host: Host, state: VaultState) -> RunningBoot:
    """Verify what was measured, without a look at any boot file.

    UnmeasuredError when there was no dynamic launch, SelectionError when PCR 13 holds
    what no record of the hook tells.
    """
    _, log, live = read_launch(host, state.selection.algorithm)
    verified = verify(log, live, state.selection)
    hook = read_hook_record(host)
    require_hook(hook, live)
    if hook is None and not live.value(LUKS_PCR).is_blank:
        raise no_hook(live)
    return RunningBoot(verified, live, hook)


def explain_running(
    host: Host,
    state: VaultState,
    count_now: CountNow | None,
    *,
    is_settled: bool = True,
) -> Explanation:
    """Say why the running boot is accepted or not.

    The launch is looked at first: without one nothing else matters. Then the TPM: a
    counter that is gone says nothing of the boot files, and one that went on without
    us (`is_settled`: no move was cut short) means an older disk, whose word on what is
    accepted counts for nothing. What the hook said is added. Other EvidenceErrors are
    raised: what cannot be verified is not explained away.
    """
    explanation = _explain_running(host, state, count_now, is_settled=is_settled)
    word = hook_word(host)
    return after_hook(explanation, word.outcome, overridden=word.overridden)


def _explain_running(
    host: Host, state: VaultState, count_now: CountNow | None, *, is_settled: bool
) -> Explanation:
    if _is_unmeasured(host, state):
        return unmeasured()
    if count_now is not None:
        try:
            if count_now(state) != state.count and is_settled:
                return shut()
        except TpmChangedError:
            return tpm_changed()
    return _explain_measured(host, read_running(host, state), state)


def _explain_measured(
    host: Host, running: RunningBoot, state: VaultState
) -> Explanation:
    luks = () if running.hook is None else running.hook.luks
    seen = [each for each in seen_in(running.verified) if each[0] in state.selection]
    explanation = explain(seen, known_boots(state), luks)
    if explanation.verdict is Verdict.CHANGED:
        titles = [each.boot.title for each in (*state.accepted, *state.staged)]
        explanation = recognise(host, running.verified, explanation, titles)
        return _held_against_prediction(explanation, seen, luks, state)
    if explanation.verdict is not Verdict.ACCEPTED or running.hook is None:
        return explanation
    if running.hook.outcome == SHOWN:
        return explanation
    return not_shown(explanation, running.hook.outcome)


def _held_against_prediction(
    explanation: Explanation,
    launch: Sequence[Seen],
    luks: LuksExtends,
    state: VaultState,
) -> Explanation:
    """Tell a blind boot that a reseal had foreseen in part, where one is on record."""
    if state.foreseen is None:
        return explanation
    seen = [*launch, *((LUKS_PCR, digest) for _, digest in luks)]
    held = state.foreseen.held_against(seen, state.selection, with_luks=True)
    return held_against(explanation, held) if held.known_words else explanation


def _is_unmeasured(host: Host, state: VaultState) -> bool:
    """Whether PCR 17 was never reset and extended; asked without a log."""
    return host.pcrs(state.selection.algorithm).value(17).is_blank


@dataclass(frozen=True)
class Status:
    """What is sealed, what this boot is and what the next will be.

    `resets` are switch-ons without a confirmed boot, `tries` those of a PIN: None
    where there were none, where no secret has a PIN, and where no TPM can be asked.
    `lost_key` is of a keyfile that opens no disk. `absent` are the labels of the media
    that are not at hand now. `overridden` says that the boot hook refused this boot.
    """

    accepted: tuple[SealedBoot, ...]
    staged: tuple[SealedBoot, ...]
    this_boot: str
    next_boot: str
    checked: str | None
    next_step: str
    shut: bool = False
    problem: AemsealError | None = None
    stale: tuple[str, ...] = ()
    secrets: tuple[KeptSecret, ...] = ()
    resets: SwitchedOn | None = None
    tries: Tries | None = None
    fallbacks: tuple[FallbackBoot, ...] = ()
    lost_key: VaultError | None = None
    absent: tuple[str, ...] = ()
    overridden: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the person should know, though it is no problem yet."""
        told = (
            self.resets and self.resets.sentence,
            self.tries and self.tries.warning,
            self.lost_key and f"{self.lost_key.message}; {self.lost_key.hint}",
            self.overridden and _OVERRIDDEN,
        )
        return tuple(each for each in told if each)


_OVERRIDDEN = (
    "the boot hook refused this boot, and somebody typed the words to start it all the "
    "same; see: aemseal explain"
)


class CutShortError(VaultError):
    """A move was cut short and is not settled yet; the hint says how to settle it."""


def cut_short(move: str) -> CutShortError:
    """Return the problem of a move ("stage", "confirm", ...) that was cut short."""
    return CutShortError(
        f"{move} was cut short before its end",
        f"finish it with: {_SETTLED_BY.get(move, f'aemseal {move}')}",
    )


_SETTLED_BY = {
    "enrol": "aemseal enrol text",
    "stage": "aemseal reseal",
    "confirm": "aemseal confirm",
    "cancel": "aemseal cancel",
    "undo": "aemseal reseal",
    "refresh": "aemseal reseal",
    "recover": "aemseal confirm",
    "pin": "aemseal confirm",
    "revoke": "aemseal confirm",
}
"""The verb itself where it does nothing once all is settled; else one that asks for
nothing."""


def nothing_enrolled(
    trouble: AemsealError | None = None, *, is_halfway: bool = False
) -> Status:
    """Return the status of a machine without a vault.

    `is_halfway` says that an enrolment waits for a reboot.
    """
    step = (trouble and trouble.hint) or (steps.HALFWAY if is_halfway else steps.ENROL)
    return Status((), (), UNKNOWN, UNKNOWN, None, step, problem=trouble)


def status(
    host: Host,
    state: VaultState,
    count_now: CountNow | None,
    *,
    check: bool = False,
    entry: str | None = None,
    trouble: AemsealError | None = None,
    media: Sequence[MediumProblem] = (),
    fallbacks: Sequence[str] = (),
) -> tuple[Status, VaultState]:
    """Return the status, and the state with what a check found.

    Without `check` the next boot is as last recorded; a check that could not be made
    leaves that record alone, but one that found a blind boot does not. `count_now` is
    None for a recording, where no TPM can be asked. `trouble` is a move that was cut
    short: it comes first, since until it is settled the counter and the state need not
    agree. `media` is what is wrong with the media at hand. A check of an `entry` that
    GRUB does not boot next is not kept. The entries that `fallbacks` name are checked
    with it, and that is not kept either.
    """
    this_boot, problem = _this_boot(host, state)
    problem = trouble or problem or _medium_error(media)
    shut, following = False, state.checked
    if count_now is not None:
        try:
            shut = count_now(state) != state.count and trouble is None
        except TpmChangedError as error:
            shut, problem = True, error
        except TpmError as error:
            problem = error
    beside: tuple[FallbackBoot, ...] = ()
    if check:
        found, why, beside = _check(host, state, entry, fallbacks)
        problem = problem or why
        following = NextBootCheck(found, host.now())
        if entry is None and (problem is None or isinstance(problem, BlindBootError)):
            state = replace(state, checked=following)
    result = Status(
        accepted=state.accepted,
        staged=state.staged,
        this_boot=UNKNOWN if shut else this_boot,
        next_boot=_next_word(shut, trouble, following),
        checked=following.time if following else None,
        next_step="",
        shut=shut,
        problem=problem,
        stale=state.stale,
        secrets=state.secrets,
        fallbacks=beside,
        lost_key=lost_key(state),
        overridden=was_overridden(host),
    )
    return replace(result, next_step=_next_step(result)), state


def counted(found: Status, tpm: Tpm, host: Host, state: VaultState) -> Status:
    """Add what the TPM has counted: switch-ons, and the tries of a PIN."""
    from aemseal.flows.tries import read_tries  # loads the TPM's library

    has_pin = any(each.pin for each in state.secrets)
    return replace(
        found,
        resets=switched_on(state.attendance, counted_now(tpm, host)),
        tries=read_tries(tpm) if has_pin else None,
    )


class MediumError(VaultError):
    """What lies on a medium is not what should: the next boot finds no secret."""


def _medium_error(media: Sequence[MediumProblem]) -> MediumError | None:
    """Tell the first problem, one that no refresh puts right before any other."""
    for problem in sorted(media, key=lambda each: each.can_refresh):
        hint = (
            "write it anew with: aemseal reseal"
            if problem.can_refresh
            else "put it back from a copy; or seal anew: aemseal pin, and on a boot "
            "that is not accepted: aemseal recover"
        )
        return MediumError(f"medium {problem.label}: {problem.message}", hint)
    return None


def _next_word(
    shut: bool, trouble: AemsealError | None, following: NextBootCheck | None
) -> str:
    if shut:
        return NOT_ACCEPTED
    return UNKNOWN if trouble or following is None else following.result


def _this_boot(host: Host, state: VaultState) -> tuple[str, AemsealError | None]:
    try:
        if _is_unmeasured(host, state):
            return UNMEASURED, None
        policy = read_running(host, state).policy(state)
    except UnmeasuredError:
        return UNMEASURED, None
    except AemsealError as error:
        return UNKNOWN, error
    return (UNKNOWN if policy is None else standing(state, policy)), None


def _check(
    host: Host, state: VaultState, entry: str | None, fallbacks: Sequence[str]
) -> tuple[str, AemsealError | None, tuple[FallbackBoot, ...]]:
    try:
        following = next_boot(host, state, entry=entry, fallbacks=fallbacks)
    except AemsealError as error:
        return UNKNOWN, error, ()
    if following.boot is None:
        return UNKNOWN, following.problem, following.fallbacks
    word = following.standing
    found = NOT_ACCEPTED if word == UNKNOWN else word
    return found, None, following.fallbacks


def _next_step(status: Status) -> str:
    """Choose the one thing to do next."""
    if isinstance(status.problem, TpmChangedError):
        return steps.TPM
    if isinstance(status.problem, CutShortError):
        return status.problem.hint or steps.PROBLEM
    if status.this_boot in (UNMEASURED, RETIRED):
        return steps.EXPLAIN
    if status.shut:
        return steps.SHUT
    if isinstance(status.problem, MediumError):
        return status.problem.hint or steps.PROBLEM
    if isinstance(status.problem, BlindBootError):
        return steps.BLIND
    if status.problem is not None:
        return steps.PROBLEM
    if status.this_boot == UNKNOWN:
        return steps.FIRST_BOOT if not status.accepted else steps.EXPLAIN
    if status.this_boot == STAGED:
        return steps.CONFIRM
    return _step_for_the_next_boot(status)


def _step_for_the_next_boot(status: Status) -> str:
    is_shown = status.next_boot in (ACCEPTED, STAGED)
    if is_shown and any(each.is_blind for each in status.fallbacks):
        return steps.FALLBACK
    return {
        ACCEPTED: steps.NOTHING,
        STAGED: steps.REBOOT,
        NOT_ACCEPTED: steps.RESEAL,
        RETIRED: steps.RETIRED,
    }.get(status.next_boot, steps.CHECK if status.checked is None else steps.BLIND)
