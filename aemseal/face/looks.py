# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that only look: log, hash, predict, plan, explain, status, record.

Each calls one use case, shows what it found and returns the exit code.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from aemseal.face import render
from aemseal.face.named_file import open_named, read_named
from aemseal.face.plans import plan_words, planned_report
from aemseal.face.run import Run
from aemseal.flows import steps
from aemseal.flows.boot_menu import touch_everything
from aemseal.flows.evidence import parse_named_log, read_launch
from aemseal.flows.explain_files import explain_files
from aemseal.flows.hash_file import FileHash, hash_acm, hash_luks, hash_mle, hash_module
from aemseal.flows.initramfs import ImageLists
from aemseal.flows.media import medium_problems
from aemseal.flows.moves import ACCEPTED, NOT_ACCEPTED, RETIRED
from aemseal.flows.record import record
from aemseal.flows.reseal import NextBoot, next_boot
from aemseal.flows.state import FORESEEN_FILE, STATE_FILE, VaultState
from aemseal.flows.status import (
    CountNow,
    counted,
    explain_running,
    nothing_enrolled,
    status,
)
from aemseal.flows.survey import refuse_unpredicted, survey
from aemseal.measure.explain import Verdict
from aemseal.measure.log_report import log_report
from aemseal.measure.replay import replay, verify
from aemseal.measure.reports import explain_report, predict_report
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import (
    EXIT_DONE,
    EXIT_RESEAL_NEEDED,
    EvidenceError,
    NotAcceptedError,
    PredictionError,
    TpmChangedError,
)
from aemseal.words.events import EventLog
from aemseal.world.recording import RecordedHost


def predict_next(run: Run) -> NextBoot:
    """Predict the next boot, or that of --entry, against what is sealed."""
    state = run.require_state()
    found = next_boot(
        run.host,
        state,
        entry=run.arguments.entry,
        asked=run.asked,
        fallbacks=run.config.fallback_entries,
    )
    lists = ImageLists.kept(run.host)
    fallbacks = (replace(each, plan=lists.told(each.plan)) for each in found.fallbacks)
    return replace(found, plan=lists.told(found.plan), fallbacks=tuple(fallbacks))


def verb_log(run: Run) -> int:
    """Show the event log; without a FILE, held against the TPM."""
    if run.arguments.file is not None:
        data = read_named(run.arguments.file)
        log = parse_named_log(run.arguments.file, data)
        _show_log(run, log, run.arguments.file, "replayed, held against no TPM", {})
        return EXIT_DONE
    asked = run.asked or PcrSelection(HashAlgorithm.SHA256, (17,))
    where, log, live = read_launch(run.host, asked.algorithm)
    verified = verify(log, live, asked)
    pcrs = ", ".join(map(str, sorted(verified.bank.values)))
    told = f"replays to the TPM's {asked.algorithm} PCR {pcrs}"
    _show_log(run, log, where, told, _files_behind(run))
    return EXIT_DONE


def _files_behind(run: Run) -> dict[int, str]:
    """Name the file behind each event, as far as the boot files tell."""
    try:
        look = survey(run.host, run.asked, run.state)
    except EvidenceError as error:
        run.terminal.say(f"aemseal: the files behind the events: {error.message}")
        return {}
    # the LUKS headers follow in `measured`: they are in no log
    pairs = zip(
        look.calibration.launch.extends, look.calibration.measured, strict=False
    )
    return {
        extend.event.number: each.source.path
        for extend, each in pairs
        if each.source.path is not None
    }


def _show_log(
    run: Run, log: EventLog, where: str, verdict: str, files: dict[int, str]
) -> None:
    report: dict[str, Any] = dict(log_report(log, replay(log)))
    for event in report["events"]:
        if event["number"] in files:
            event["file"] = files[event["number"]]
    names = [algorithm.label for algorithm in log.algorithms]
    bank = "sha256" if "sha256" in names else next(iter(names), "digest")
    run.terminal.result(report, render.log_lines(report, where, bank, verdict))


def verb_hash(run: Run) -> int:
    """Hash one file as a launch would measure it."""
    arguments = run.arguments
    cmdline = os.fsencode(arguments.cmdline) if "cmdline" in arguments else b""
    path = str(Path(arguments.file).absolute())
    with open_named(arguments.file) as stream:
        found: FileHash
        if arguments.kind == "mle":
            found = hash_mle(stream, path, cmdline)
        elif arguments.kind == "module":
            found = hash_module(
                stream, path, cmdline, decompress=not arguments.no_decompress
            )
        elif arguments.kind == "acm":
            found = hash_acm(stream, path)
        else:
            found = hash_luks(stream, path)
    report = found.as_json()
    run.terminal.result(report, render.hash_lines(report))
    return EXIT_DONE


def verb_predict(run: Run) -> int:
    """Predict the next boot; a refusal is shown and exits 4."""
    look = survey(run.host, run.asked, run.state)
    now, selection = look.running_bank, look.selection
    prediction = refuse_unpredicted(
        look.predict(run.arguments.entry, hook=look.hook is not None), selection
    )
    report = predict_report(prediction, selection, {selection.algorithm: now})
    lines = render.prediction_lines(
        prediction, selection, now, look.changes(prediction)
    )
    run.terminal.result(report, lines)
    refused = [each for each in prediction.refusals if each.pcr in look.selection]
    return PredictionError.exit_code if refused else EXIT_DONE


def verb_plan(run: Run) -> int:
    """Show what changed and who answers for it; 3 where a reseal is needed."""
    following = predict_next(run)
    if following.problem is not None:
        raise following.problem
    run.terminal.result(planned_report(following), plan_words(following))
    return EXIT_RESEAL_NEEDED if following.needs_reseal else EXIT_DONE


def verb_explain(run: Run) -> int:
    """Say why this boot was not accepted; 6 unless it was."""
    state = run.require_state()
    explanation = explain_running(
        run.host,
        state,
        _telling(run, run.count_now),
        is_settled=run.unsettled is None,
    )
    files = explain_files(run.host, state, explanation)
    run.terminal.result(
        dict(explain_report(explanation, files)),
        render.explanation_lines(explanation, files),
    )
    if explanation.verdict is Verdict.ACCEPTED:
        return EXIT_DONE
    return NotAcceptedError.exit_code


def _telling(run: Run, count_now: CountNow | None) -> CountNow | None:
    """Have a changed TPM told by name, besides the advice."""
    if count_now is None:
        return None

    def count(state: VaultState) -> int:
        try:
            return count_now(state)
        except TpmChangedError as error:
            run.terminal.say(f"aemseal: {error.message}")
            raise

    return count


def verb_status(run: Run) -> int:
    """Say what is sealed, what this boot is, and what to do next."""
    trouble = run.unsettled
    if run.state is None:
        halfway = not run.is_recorded and run.files.read(FORESEEN_FILE) is not None
        found = nothing_enrolled(trouble or run.too_old_tpm, is_halfway=halfway)
    else:
        found, state = status(
            run.host,
            run.state,
            run.count_now,
            check=run.arguments.check,
            entry=run.arguments.entry,
            trouble=trouble,
            media=() if run.is_recorded else medium_problems(run.files, run.state),
            fallbacks=run.config.fallback_entries,
        )
        if state is not run.state and not run.is_recorded:
            _keep_check(run, state)
        if not run.is_recorded:
            found = replace(found, absent=_absent(run))
        if run.count_now is not None:
            found = counted(found, run.tpm, run.host, run.state)
        if found.problem is None and run.lockout is not None:
            step = steps.LOCKOUT if found.this_boot == ACCEPTED else found.next_step
            found = replace(found, problem=run.lockout, next_step=step)
        elif not run.is_recorded:
            found = replace(found, next_step=_with_a_medium(run, found.next_step))
    run.terminal.result(render.status_report(found), render.status_lines(found))
    if found.problem is not None:
        return found.problem.exit_code
    blind = any(each.is_blind for each in found.fallbacks)
    is_needed = blind or found.next_boot in (NOT_ACCEPTED, RETIRED)
    return EXIT_RESEAL_NEEDED if is_needed else EXIT_DONE


def _with_a_medium(run: Run, step: str) -> str:
    """Say of a boot that will show the secret what it needs, where none is at hand."""
    if step not in (steps.NOTHING, steps.REBOOT):
        return step
    absent = _absent(run)
    if len(absent) < len(run.require_state().media):
        return step
    return steps.NEEDS_MEDIUM.format(step, ", ".join(absent))


def _absent(run: Run) -> tuple[str, ...]:
    """Name the media that are not at hand."""
    media = run.require_state().media
    return tuple(each.label for each in media if not run.files.exists(each.path))


def _keep_check(run: Run, looked: VaultState) -> None:
    """Keep what a check found, unless a move was made meanwhile."""
    with run.files.lock():
        data = run.files.read(STATE_FILE)
        if data is not None and VaultState.parse(data) == run.state:
            run.files.write(STATE_FILE, looked.to_bytes())


def verb_record(run: Run) -> int:
    """Write a secret-free recording of everything the tool reads."""
    folder = Path(run.arguments.directory)
    names = record(run.host, folder, touch_everything)
    warnings = list(RecordedHost(folder).warnings)
    for warning in warnings:
        run.terminal.say(f"aemseal: look before you pass this on: {warning}")
    run.terminal.say(f"aemseal: {_WHAT_A_RECORDING_TELLS}")
    run.terminal.result(
        {"schema": "aemseal.record/1", "files": names, "warnings": warnings},
        [f"wrote {folder / name}" for name in names],
    )
    return EXIT_DONE


_WHAT_A_RECORDING_TELLS = (
    "no key, passphrase or sealed text of yours is in it, and of boot files their "
    "digests alone; it tells how this machine boots, and what it is recognised by"
)
