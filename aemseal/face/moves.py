# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that move the vault: reseal, cancel, confirm.

Each holds the vault, calls one use case, shows what was done and returns the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aemseal.face import render
from aemseal.face.attended import attended
from aemseal.face.looks import predict_next
from aemseal.face.plans import plan_words, planned_report
from aemseal.face.run import Run
from aemseal.flows.initramfs import ImageLists
from aemseal.flows.moves import (
    ACCEPTED,
    STAGED,
    Confirmation,
    cancel,
    require_accepted,
)
from aemseal.flows.reseal import (
    NextBoot,
    confirm_running,
    foresee,
    require_predicted,
    reseal,
)
from aemseal.flows.state import VaultState
from aemseal.flows.status import (
    explain_running,
    read_running,
)
from aemseal.flows.survey import Survey
from aemseal.measure.consent import Consent, require_known
from aemseal.words.errors import (
    EXIT_DONE,
    NotAcceptedError,
    PredictionError,
)

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault


def _keep_lists(run: Run, vault: Vault, state: VaultState) -> None:
    """Keep the files of each initramfs that the vault knows by now."""
    _say_trouble(run, ImageLists.kept(run.host).keep(vault.files, state))


def _say_trouble(run: Run, trouble: str | None) -> None:
    if trouble is not None:
        run.terminal.say(f"aemseal: {trouble}")


def verb_reseal(run: Run) -> int:
    """Stage the predicted boot beside the accepted one, and the fallback entries'."""
    consents = [Consent.parse(text) for text in run.arguments.accept]
    with run.vault() as vault:
        vault.require_open(run.require_state())
        following = predict_next(run)
        require_accepted(run.require_state(), following.look.running_policy)
        if following.problem is not None:
            if not run.arguments.dry_run:
                foresee(vault, run.require_state(), following)
            raise following.problem
        require_predicted(following)
        state = run.require_state()
        plans = [following.plan, *following.plans(new_only=run.arguments.new_only)]
        require_known(plans, consents, state.selection.algorithm)
        for line in _plan_words(following):
            run.terminal.say(line)
        if run.arguments.dry_run:
            return _show_reseal(run, following, done=False)
        after = reseal(
            vault, state, following, consents, new_only=run.arguments.new_only
        )
        _keep_lists(run, vault, after)
        if after.stale:
            run.terminal.say(f"aemseal: not refreshed: {', '.join(after.stale)}")
        moved = after.count != state.count
        is_new = following.needs_reseal or run.arguments.new_only
        if moved and not is_new:
            run.terminal.say("aemseal: wrote anew what was missing on a medium")
        return _show_reseal(run, following, done=moved and is_new)


def _show_reseal(run: Run, following: NextBoot, *, done: bool) -> int:
    if following.boot is None:
        raise following.problem or PredictionError("the next boot is not known")
    name = following.boot.name
    new = [each.boot.name for each in following.new_fallbacks if each.boot is not None]
    nothing = "" if new else "nothing to do: "
    is_staged = done and (
        run.arguments.new_only or following.standing not in (ACCEPTED, STAGED)
    )
    if is_staged:
        line = f"staged: {name}; next step: reboot, then: aemseal confirm"
    elif following.standing == ACCEPTED:
        line = f"{nothing}the next boot is the accepted one, {name}"
    elif following.standing == STAGED:
        line = f"{nothing}{name} is staged; next step: reboot"
    else:
        line = f"would stage: {name}; nothing was written"
    word = "staged" if done else "would stage"
    report = {
        "schema": "aemseal.reseal/1",
        "staged": name if is_staged else None,
        "next_boot": STAGED if is_staged else following.standing,
        "plan": planned_report(following, done=done),
    }
    lines = [line, *(f"{word} as a fallback: {each}" for each in new)]
    run.terminal.result(report, lines)
    return EXIT_DONE


def _plan_words(following: NextBoot) -> list[str]:
    look: Survey = following.look
    return [
        *plan_words(following),
        *render.pcr_lines(
            following.prediction,
            look.selection,
            look.running_bank,
            look.changes(following.prediction),
        ),
        *(f"caution: {each}" for each in following.prediction.cautions),
    ]


def verb_cancel(run: Run) -> int:
    """Take a staged boot back."""
    with run.vault() as vault:
        state = run.require_state()
        vault.require_open(state)
        if not state.staged:
            run.terminal.result(
                {"schema": "aemseal.cancel/1", "cancelled": []},
                ["nothing to do: nothing is staged"],
            )
            return EXIT_DONE
        policy = read_running(run.host, state).policy(state)
        if policy is None:
            raise NotAcceptedError("this boot did not run aemseal's hook")
        after = cancel(vault, state, policy)
        _keep_lists(run, vault, after)
    names = [boot.name for boot in state.staged if boot not in after.staged]
    run.terminal.result(
        {"schema": "aemseal.cancel/1", "cancelled": names},
        [f"taken back: {name}" for name in names],
    )
    return EXIT_DONE


def verb_confirm(run: Run) -> int:
    """Hold this boot against the prediction; commit it, retire the one before."""
    with run.vault() as vault:
        state = run.require_state()
        vault.require_open(state)
        try:
            done = confirm_running(
                *(vault, state, run.host, run.config.fallback_entries),
                rotate=run.config.rotate,
                all_media=run.arguments.all_media,
            )
        except NotAcceptedError as error:
            why = explain_running(run.host, state, None)
            raise NotAcceptedError(error.message, why.advice) from None
        _keep_lists(run, vault, done.state)
        attending = attended(vault, done.state, run.host, is_new=done.was_staged)
    report = {
        "schema": "aemseal.confirm/1",
        "accepted_as": done.accepted_as,
        "retired": list(done.retired),
        "stale_media": list(done.state.stale),
        "fallbacks": [boot.name for boot in done.state.accepted if boot.fallback],
        "rotated": done.rotated,
        "not_rotated": done.not_rotated,
        **attending.report,
    }
    if done.not_rotated is not None:
        run.terminal.say(f"aemseal: not rotated: {done.not_rotated}: {_COPIES_LIVE}")
    run.terminal.result(report, [*_confirm_lines(done), *attending.lines])
    return EXIT_DONE


_COPIES_LIVE = "a copy of a medium that somebody made opens as before"


def _confirm_lines(done: Confirmation) -> list[str]:
    """Say what was accepted, what was retired, and what waits."""
    if done.was_staged:
        lines = [f"confirmed: {done.accepted_as}"]
    else:
        lines = [f"{done.accepted_as} is accepted already"]
        if not (done.rotated or done.retired or done.fallbacks):
            lines = [f"nothing to do: {lines[0]}"]
        lines += [f"still staged: {boot.name}" for boot in done.state.staged]
        if done.rotated:
            lines.append("rotated: copies of a medium made before open no more")
    lines += [f"accepted as a fallback: {name}" for name in done.fallbacks]
    lines += [f"retired: {name}" for name in done.retired]
    return lines + [f"not refreshed: {label}" for label in done.state.stale]
