# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that move the vault: reseal, cancel, confirm, remove.

Each holds the vault, calls one use case, shows what was done and returns the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aemseal.face import render
from aemseal.face.attended import attended
from aemseal.face.looks import predict_next
from aemseal.face.run import Run
from aemseal.flows.initramfs import ImageLists
from aemseal.flows.moves import (
    ACCEPTED,
    STAGED,
    cancel,
    require_accepted,
)
from aemseal.flows.reseal import NextBoot, confirm_running, foresee, reseal
from aemseal.flows.state import VaultState
from aemseal.flows.status import (
    explain_running,
    read_running,
)
from aemseal.flows.survey import Survey
from aemseal.measure.plan import Plan
from aemseal.measure.reports import plan_report
from aemseal.words.errors import (
    EXIT_DONE,
    NotAcceptedError,
    PredictionError,
    UsageError,
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
    """Stage the predicted boot beside the accepted one."""
    with run.vault() as vault:
        vault.require_open(run.require_state())
        following = predict_next(run)
        require_accepted(run.require_state(), following.look.running_policy)
        if following.problem is not None:
            if not run.arguments.dry_run:
                foresee(vault, run.require_state(), following)
            raise following.problem
        _require_known_names(following.plan, run.arguments.accept)
        for line in _plan_words(following):
            run.terminal.say(line)
        if run.arguments.dry_run:
            return _show_reseal(run, following, done=False)
        state = run.require_state()
        after = reseal(
            vault,
            state,
            following,
            run.arguments.accept,
            new_only=run.arguments.new_only,
        )
        _keep_lists(run, vault, after)
        if after.stale:
            run.terminal.say(f"aemseal: not refreshed: {', '.join(after.stale)}")
        moved = after.count != state.count
        known = following.standing in (ACCEPTED, STAGED)
        refreshed = moved and known and not run.arguments.new_only
        if refreshed:
            run.terminal.say("aemseal: wrote anew what was missing on a medium")
        return _show_reseal(run, following, done=moved and not refreshed)


def _show_reseal(run: Run, following: NextBoot, *, done: bool) -> int:
    if following.boot is None:
        raise following.problem or PredictionError("the next boot is not known")
    name = following.boot.name
    if done:
        line = f"staged: {name}; next step: reboot, then: aemseal confirm"
    elif following.standing == ACCEPTED:
        line = f"nothing to do: the next boot is the accepted one, {name}"
    elif following.standing == STAGED:
        line = f"nothing to do: {name} is staged; next step: reboot"
    else:
        line = f"would stage: {name}; nothing was written"
    report = {
        "schema": "aemseal.reseal/1",
        "staged": name if done else None,
        "next_boot": STAGED if done else following.standing,
        "plan": plan_report(following.plan),
    }
    run.terminal.result(report, [line])
    return EXIT_DONE


def _plan_words(following: NextBoot) -> list[str]:
    look: Survey = following.look
    return [
        *render.plan_lines(following.plan),
        *render.pcr_lines(
            following.prediction,
            look.selection,
            look.running_bank,
            look.changes(following.prediction),
        ),
        *(f"caution: {each}" for each in following.prediction.cautions),
    ]


def _require_known_names(plan: Plan, accepted: list[str]) -> None:
    names = [change.name for change in plan.changes]
    for name in accepted:
        if name not in names:
            known = ", ".join(names) or "nothing"
            raise UsageError(f"--accept {name}: no such change", f"changed: {known}")


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
            done = confirm_running(vault, state, run.host)
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
        **attending.report,
    }
    if done.was_staged:
        lines = [f"confirmed: {done.accepted_as}"]
        lines += [f"retired: {name}" for name in done.retired]
    else:
        lines = [f"nothing to do: {done.accepted_as} is accepted already"]
        lines += [f"still staged: {boot.name}" for boot in done.state.staged]
    lines += [f"not refreshed: {label}" for label in done.state.stale]
    run.terminal.result(report, [*lines, *attending.lines])
    return EXIT_DONE


def verb_remove(run: Run) -> int:
    """Take the vault down."""
    from aemseal.flows.remove import remove  # loads the TPM's library

    with run.vault(must_settle=False) as vault:
        left = remove(vault)
    run.terminal.result(
        {"schema": "aemseal.remove/1", "left": left},
        ["removed: the sealed secret is gone", *(f"left: {each}" for each in left)],
    )
    return EXIT_DONE
