# SPDX-License-Identifier: GPL-2.0-or-later
"""The use cases `plan`, `reseal`, `confirm`: from a change to an accepted boot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows.fallback import titles_of
from aemseal.flows.fallback_entries import FallbackBoot, FallbackReader
from aemseal.flows.hook_inside import OF_THE_HOOK
from aemseal.flows.known_boots import predicted_boot, sealed_boot
from aemseal.flows.media import medium_problems
from aemseal.flows.moves import (
    ACCEPTED,
    RETIRED,
    STAGED,
    UNKNOWN,
    Circumstances,
    Confirmation,
    confirm,
    require_accepted,
    stage,
    standing,
)
from aemseal.flows.refresh import beside_now, refreshed, seen_now
from aemseal.flows.state import STATE_FILE, NextBootCheck, SealedBoot, VaultState
from aemseal.flows.survey import Survey, survey
from aemseal.measure.boot_entry import wanted as wanted_of
from aemseal.measure.claims import Prediction
from aemseal.measure.consent import Consent, require_known, require_origins
from aemseal.measure.file_changes import Mark
from aemseal.measure.foreseen import Foreseen
from aemseal.measure.plan import Plan, plan
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import AemsealError, PredictionError, VaultError
from aemseal.world.durable import make_durable
from aemseal.world.host import Host

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault


class BlindBootError(PredictionError):
    """What the next boot measures cannot be known: nothing can be staged for it."""


_BLIND = (
    "nothing is staged, so the next boot will be blind: it shows no secret, and "
    "nothing proves it. Start it only if you expect this change, and then read: "
    "aemseal explain"
)


@dataclass(frozen=True)
class NextBoot:
    """The next boot, predicted, and what changes with it.

    `boot` is absent when the prediction cannot be sealed to: `problem` says why.
    `standing` is what that boot is to the vault; `is_next` says that it is the one
    GRUB boots next, and not one asked for by its title, `entry`. `fallbacks` are what
    the configured fallback entries boot.
    """

    look: Survey
    prediction: Prediction
    plan: Plan
    boot: SealedBoot | None
    problem: PredictionError | None
    standing: str
    is_next: bool
    fallbacks: tuple[FallbackBoot, ...] = ()
    entry: str | None = None

    @property
    def new_fallbacks(self) -> tuple[FallbackBoot, ...]:
        """Those fallbacks that would be staged: no other one boots the same."""
        known = [] if self.boot is None else [self.boot.policy]
        found = []
        for each in self.fallbacks:
            if each.boot is None or each.is_known or each.boot.policy in known:
                continue
            known.append(each.boot.policy)
            found.append(each)
        return tuple(found)

    @property
    def needs_reseal(self) -> bool:
        """Whether it, or a fallback, is neither accepted nor staged."""
        is_known = self.standing in (ACCEPTED, STAGED)
        is_blind = any(each.problem is not None for each in self.fallbacks)
        return not is_known or is_blind or bool(self.new_fallbacks)

    def plans(self, *, new_only: bool = False) -> list[Plan]:
        """Return the changes of each boot that would be staged."""
        is_new = new_only or self.standing not in (ACCEPTED, STAGED)
        own = [self.plan] if is_new else []
        return [*own, *(each.plan for each in self.new_fallbacks)]


def next_boot(
    host: Host,
    state: VaultState,
    *,
    entry: str | None = None,
    asked: PcrSelection | None = None,
    fallbacks: Sequence[str] = (),
) -> NextBoot:
    """Predict the next boot and hold it against this one, if it is accepted.

    Else against the last verified one: nothing that runs now answers for anything.
    `fallbacks` name the entries that are predicted with it; each file is read once for
    all of them.

    EvidenceError of every kind when the running boot cannot be verified or a file of
    the next one cannot be read. A fallback's is kept with it.
    """
    look = survey(host, asked, state)
    if fallbacks:
        look.read_once([entry, *fallbacks])
    prediction = look.predict(entry, hook=True)
    accepted = standing(state, look.running_policy) in (ACCEPTED, STAGED)
    here = look.calibration.measured if accepted else ()
    changes = plan(here or state.baseline.measurements, prediction, here)
    boot, problem = None, None
    known = (*state.accepted, *state.staged, *state.retired)
    try:
        boot = predicted_boot(prediction, look.selection, host.now(), known)
    except PredictionError as error:
        problem = BlindBootError(error.message, error.hint or _BLIND)
    word = standing(state, boot.policy) if boot else "unknown"
    beside = FallbackReader(look, state, here, boot).read(fallbacks)
    return NextBoot(
        look=look,
        prediction=prediction,
        plan=changes,
        boot=boot,
        problem=problem,
        standing=word,
        is_next=entry is None,
        fallbacks=beside,
        entry=entry,
    )


def reseal(
    vault: Vault,
    state: VaultState,
    following: NextBoot,
    consents: Collection[Consent] = (),
    *,
    new_only: bool = False,
) -> VaultState:
    """Stage the next boot and the fallbacks, what is not accepted or staged already.

    Their files are on the disk before anything is published. A medium that lacks what
    is in force is refreshed all the same. NotAcceptedError when the running boot is not
    an accepted one, PredictionError when the next one or a fallback cannot be known or
    has lost the hook, VaultError when it is a retired one, OriginError when nobody
    answers for a change, or for another one than there is.
    """
    require_accepted(state, following.look.running_policy)
    boot, fallbacks = require_predicted(following)
    plans = following.plans(new_only=new_only)
    algorithm = state.selection.algorithm
    require_known([following.plan, *plans], consents, algorithm)
    require_origins(plans, consents, algorithm)
    for changes in plans:
        _require_hook(changes)
    make_durable(vault.files, _files_of(following))
    after = stage(
        vault,
        state,
        following.look.running_policy,
        boot,
        fallbacks,
        new_only=new_only,
        is_next=following.is_next,
    )
    if after.count == state.count and any(
        each.can_refresh for each in medium_problems(vault.files, after)
    ):
        return vault.publish(after, "refresh")
    return after


def require_predicted(following: NextBoot) -> tuple[SealedBoot, list[SealedBoot]]:
    """Return the boots that are to be accepted: the next one, and the fallbacks.

    PredictionError when one of them cannot be known, VaultError for a retired one.
    """
    if following.boot is None:
        raise following.problem or PredictionError("the next boot is not known")
    if following.standing == RETIRED:
        raise VaultError(
            f"the next boot is the retired one, {following.boot.name}",
            "put the newer files back; to go back to it for good, start it and then: "
            "aemseal recover",
        )
    fallbacks = []
    for each in following.fallbacks:
        if each.boot is None:
            raise each.problem or PredictionError(f"{each.name!r} is not known")
        fallbacks.append(each.boot)
    return following.boot, fallbacks


def _files_of(following: NextBoot) -> list[str]:
    """Return the files that decide the boots to be staged, GRUB's own among them."""
    look = following.look
    names = [following.entry, *(each.name for each in following.fallbacks)]
    config, _ = look.host.grub_config()
    environment = f"{config.rpartition('/')[0]}/grubenv"
    hashed = [wanted.path for name in names for wanted in wanted_of(look.entry(name))]
    own = [config] if look.host.grub_env() is None else [config, environment]
    return [*hashed, *own]


def _require_hook(changes: Plan) -> None:
    """Refuse an initramfs that was built without the hook.

    It would measure as predicted, and show nothing. That is told only where the files
    of both images were listed.
    """
    for change in changes.changes:
        files = change.files.changes if change.files else ()
        gone = {each.path for each in files if each.mark is Mark.GONE}
        if gone & OF_THE_HOOK:
            raise BlindBootError(
                f"the hook's files are no longer in {change.path}: the next boot would "
                f"show no secret ({', '.join(sorted(gone & OF_THE_HOOK))})",
                "build the initramfs anew, with the hook in it",
            )


def foresee(vault: Vault, state: VaultState, following: NextBoot) -> VaultState:
    """Keep what is known of a next boot that will be blind, for `explain` after it.

    Only an accepted boot's prediction is kept, and only one that was refused a PCR:
    the state is the same otherwise, and no file is written.
    """
    running = standing(state, following.look.running_policy)
    if following.boot is not None or running not in (ACCEPTED, STAGED):
        return state
    now = following.look.host.now()
    found = Foreseen.of(following.prediction, state.selection, now)
    if found is None:
        return state
    checked = NextBootCheck(UNKNOWN, now) if following.is_next else state.checked
    seen = state.seen
    if following.is_next:
        seen = seen_now(following.look.host, following.prediction.beside) or seen
    state = replace(state, foreseen=found, checked=checked, seen=seen)
    vault.files.write(STATE_FILE, state.to_bytes())
    return state


def running_boot(look: Survey, state: VaultState) -> SealedBoot:
    """Return the running boot as it would be kept."""
    known = (*state.accepted, *state.staged, *state.retired)
    return sealed_boot(look.running, look.running_policy, look.host.now(), known)


def confirm_running(
    vault: Vault,
    state: VaultState,
    host: Host,
    fallbacks: Sequence[str] = (),
    *,
    rotate: bool = False,
    all_media: bool = False,
) -> Confirmation:
    """Hold the running boot against what was predicted, and commit it.

    `fallbacks` name the configured fallback entries, `rotate` is the configuration's,
    `all_media` the person's (Circumstances). NotAcceptedError when it is neither the
    staged boot nor an accepted one.
    """
    look = survey(host, None, state)
    running = running_boot(look, state)
    known = Circumstances(
        next_policy=_next_policy(look),
        titles=titles_of(fallbacks, look.menu),
        rotate=rotate,
        again=refreshed(look, state.seen),
        seen=seen_now(host, beside_now(look)),
        all_media=all_media,
    )
    return confirm(vault, state, running, known)


def _next_policy(look: Survey) -> bytes | None:
    """Return the PolicyPCR digest of GRUB's next boot, None where it is not known."""
    try:
        prediction = look.predict(None, hook=True)
        boot = predicted_boot(prediction, look.selection, look.host.now())
    except AemsealError:
        return None
    return boot.policy
