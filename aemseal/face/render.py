# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports as lines for people. Nothing is decided here, nothing is read."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aemseal.flows.attendance import SwitchedOn
from aemseal.flows.fallback_entries import FallbackBoot
from aemseal.flows.moves import NOT_ACCEPTED
from aemseal.flows.state import KeptSecret, SealedBoot, VaultState
from aemseal.flows.status import SHOWN, Status
from aemseal.measure import advice
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Prediction, SourceKind
from aemseal.measure.consent import asked_for
from aemseal.measure.explain import Explanation
from aemseal.measure.file_changes import FileChanges, Mark
from aemseal.measure.plan import Change, Component, OriginKind, Plan
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection

MOST_FILES = 30
"""Changed files inside an image that are shown; the JSON names them all."""

SHORT = 16
"""Hex digits shown where a whole digest would hide the rest of the line."""


_FILE_WORDS = {Mark.CHANGED: "changed", Mark.ADDED: "added", Mark.GONE: "gone"}


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns, two spaces between them; there is a row at least."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def log_lines(
    report: Mapping[str, Any], where: str, bank: str, verdict: str
) -> list[str]:
    """Show a log's events and what they replay to."""
    rows = [("nr", "pcr", "type", "name", bank, "file")]
    rows += [
        (
            str(event["number"]),
            str(event["pcr"]),
            event["type"],
            event["name"],
            event["digests"].get(bank, "-")[:SHORT],
            event.get("file", ""),
        )
        for event in report["events"]
    ]
    lines = [f"{report['format']} log {where}: {verdict}"]
    if report.get("rebuilt"):
        lines.append("not all of it was logged: rebuilt from the launch's tables")
    lines += table(rows)
    for name, values in report["pcrs"].items():
        lines += [f"{name} PCR {pcr}: {value}" for pcr, value in values.items()]
    for name, pcrs in report["coverage"].items():
        lines += [
            f"{name} PCR {pcr} is not complete: no digest in event "
            + ", ".join(map(str, covered["missing"]))
            for pcr, covered in pcrs.items()
            if not covered["complete"]
        ]
    lines += [
        f"event {quirk['event']}: {quirk['name']}: {quirk['effect']}"
        for quirk in report["quirks"]
    ]
    return lines


def hash_lines(report: Mapping[str, Any]) -> list[str]:
    """Show a file's digests."""
    return [f"{name}: {value}" for name, value in report["digests"].items()]


def prediction_lines(
    prediction: Prediction, selection: PcrSelection, now: PcrBank, changes: Plan
) -> list[str]:
    """Show each measurement with its source, then the PCRs of now and next."""
    algorithm = selection.algorithm
    rows: list[tuple[str, ...]]
    rows = [("pcr", "role", algorithm.label, "calibrated", "from")]
    refused = {(each.pcr, each.event) for each in prediction.refusals}
    rows += [
        _measurement_row(each, algorithm, refused) for each in prediction.measurements
    ]
    lines = [f"next boot: {prediction.entry}", *table(rows), ""]
    lines += pcr_lines(prediction, selection, now, changes)
    lines += [f"refused: {each.sentence}" for each in prediction.refusals]
    if any(each.pcr in selection for each in prediction.refusals):
        lines.append("nothing can be staged for it: the next boot will be blind")
    lines += [f"caution: {each}" for each in prediction.cautions]
    return lines


def _measurement_row(
    measurement: Measurement,
    algorithm: HashAlgorithm,
    refused: Collection[tuple[int, int | None]],
) -> tuple[str, ...]:
    """Show a measurement; what is refused has no digest of the running boot's."""
    source = measurement.source
    place = (str(measurement.pcr), str(measurement.role))
    is_carried = source.kind is SourceKind.CARRIED
    if is_carried and (measurement.pcr, source.event) in refused:
        return (*place, "-", "not known", f"refused, event {source.event}")
    digest = _short(measurement.digests.get(algorithm))
    return (*place, digest, measurement.calibrated.value, _source(measurement))


def pcr_lines(
    prediction: Prediction, selection: PcrSelection, now: PcrBank, changes: Plan
) -> list[str]:
    """Show old and new PCRs side by side, with what changes each of them.

    What is selected is marked; `changes` are those from now to next.
    """
    following = prediction.bank(selection.algorithm)
    rows = [("pcr", "now", "next", "")]
    for pcr in sorted({*selection.pcrs, *following.values}):
        old, new = now.values.get(pcr), following.values.get(pcr)
        rows.append(
            (
                f"{pcr}{'*' if pcr in selection else ''}",
                _short(old),
                _short(new) if new else "not known",
                "" if new is None or old == new else _behind(pcr, changes),
            )
        )
    return [*table(rows), f"(* sealed to: {selection})"]


def plan_lines(plan: Plan, bank: HashAlgorithm | None = None) -> list[str]:
    """Show what changed since the last verified boot, and who answers for it.

    Of what nobody answers for, what to accept; `bank` is the one that is sealed to,
    None where nothing can be accepted.
    """
    if not plan.changes:
        return ["nothing changed since the last verified boot"]
    lines = []
    for change in plan.changes:
        lines += _change_lines(change)
        if bank is not None and change.origin.kind is OriginKind.UNKNOWN:
            word = shlex.quote(str(asked_for(change, bank)))
            lines.append(f"    if it is yours: --accept {word}")
    return lines


def explanation_lines(
    explanation: Explanation, files: FileChanges | None = None
) -> list[str]:
    """Show why a boot was not accepted, the advice first.

    `files` are those inside a changed initramfs that differ, where it was looked at.
    """
    lines = [explanation.advice]
    if explanation.pcr is not None:
        role = explanation.role
        what = f"the {role} measurement" if role else "a measurement that is not known"
        what = explanation.path or what
        lines.append(f"first difference: PCR {explanation.pcr}, {what}")
        expected, measured = explanation.expected, explanation.measured
        if expected is not None:
            algorithm = measured.algorithm if measured else HashAlgorithm.SHA256
            lines.append(f"  expected {_whole(expected.digests.get(algorithm))}")
        lines.append(f"  measured {_whole(measured)}")
        lines += _files_lines("  ", files)
    if explanation.known_as is not None:
        lines.append(f"known as: {explanation.known_as}")
    if explanation.differences > 1:
        lines.append(f"also differ: {_others(explanation)}")
    if explanation.outcome not in (None, SHOWN):
        why = advice.OUTCOMES.get(explanation.outcome)
        told = f"{explanation.outcome}: {why}" if why else explanation.outcome
        lines.append(f"the boot hook said {told}")
    return lines


def _others(explanation: Explanation) -> str:
    """Name the roles that differ besides the first, and count what else there is."""
    roles = explanation.others
    rest = explanation.differences - 1 - len(roles)
    more = [f"{rest} added or moved"] if rest > 0 else []
    return ", ".join([*dict.fromkeys(map(str, roles)), *more])


def status_report(status: Status) -> dict[str, Any]:
    """Return the `aemseal.status/1` object."""
    return {
        "schema": "aemseal.status/1",
        "accepted": [_boot_report(each) for each in status.accepted],
        "staged": [_boot_report(each) for each in status.staged],
        "this_boot": status.this_boot,
        "next_boot": status.next_boot,
        "checked": status.checked,
        "next_step": status.next_step,
        "problem": status.problem.message if status.problem else None,
        "hint": status.problem.hint if status.problem else None,
        "stale_media": list(status.stale),
        "absent_media": list(status.absent),
        "overridden": status.overridden,
        "secrets": [
            {"name": each.name, "kind": each.kind, "pin": each.pin}
            for each in status.secrets
        ],
        "fallbacks": [
            {
                "title": each.name,
                "next_boot": NOT_ACCEPTED if each.is_blind else each.standing,
                "problem": each.problem and each.problem.message,
            }
            for each in status.fallbacks
        ],
        "warnings": list(status.warnings),
        "resets": resets_report(status.resets),
        "tries": status.tries
        and {
            "counted": status.tries.counted,
            "left": status.tries.left,
            "most": status.tries.most,
        },
    }


def resets_report(resets: SwitchedOn | None) -> dict[str, Any] | None:
    """Return switch-ons without a confirmed boot, None where there were none."""
    if resets is None:
        return None
    return {
        "count": resets.count,
        "since": resets.since,
        "other_tpm": resets.is_other_tpm,
    }


def _boot_report(boot: SealedBoot) -> dict[str, Any]:
    return {"name": boot.name, "since": boot.since, "fallback": boot.fallback}


def status_lines(status: Status) -> list[str]:
    """Show what is sealed to which boots, and the one thing to do next."""
    lines = [
        f"{word:10} {boot.name} (since {boot.since}{_AS_A_FALLBACK[boot.fallback]})"
        for word, boots in (("accepted:", status.accepted), ("staged:", status.staged))
        for boot in boots
    ]
    if not lines:
        lines = ["nothing is sealed on this machine"]
    when = f" (looked at {status.checked})" if status.checked else ""
    if status.secrets:
        lines.append(f"secrets:   {', '.join(map(_secret, status.secrets))}")
    lines += [
        f"this boot: {status.this_boot}",
        f"next boot: {status.next_boot}{when}",
        *(_fallback_line(each) for each in status.fallbacks),
    ]
    if status.problem is not None:
        lines.append(f"problem:   {status.problem.message}")
        if status.problem.hint:
            lines.append(f"hint:      {status.problem.hint}")
    lines += [f"not refreshed: {label}" for label in status.stale]
    if status.tries is not None:
        tries = status.tries
        lines.append(f"PIN tries: {tries.counted} of {tries.most} counted as failed")
    lines += [f"warning:   {each}" for each in status.warnings]
    return [*lines, f"next step: {status.next_step}"]


def reboot_step(state: VaultState) -> str:
    """Say what to do after sealing: a staged boot is to be confirmed besides."""
    then = "; then: aemseal confirm" if state.staged else ""
    return f"reboot; the secret is shown before the passphrase{then}"


def _secret(secret: KeptSecret) -> str:
    return f"{secret.name} (PIN)" if secret.pin else secret.name


_AS_A_FALLBACK = {False: "", True: ", a fallback"}


def _fallback_line(fallback: FallbackBoot) -> str:
    if fallback.problem is not None:
        return f"blind:     {fallback.problem.message}"
    word = "would be blind" if fallback.is_blind else fallback.standing
    return f"fallback:  {fallback.name}: {word}"


def _behind(pcr: int, changes: Plan) -> str:
    """Name the components that change a PCR, with their files."""
    named = [
        f"{each.name} ({each.path})" if each.path else each.name
        for each in changes.changes
        if pcr in each.pcrs
    ]
    return f"changed by {', '.join(named)}"


def _change_lines(change: Change) -> list[str]:
    pcrs = ", ".join(f"PCR {pcr}" for pcr in change.pcrs)
    mark = "!" if change.origin.kind is OriginKind.UNKNOWN else " "
    lines = [f"{mark} {change.name} ({pcrs}): {change.origin.detail}"]
    before, after = _component(change.before), _component(change.after)
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, "-"), after.get(key, "-")
        if old == new:
            lines.append(f"    {key}: {new}")
        else:
            lines += [f"    {key}: {old}", f"    {'->':>{len(key) + 1}} {new}"]
    return lines + _files_lines("    ", change.files)


def _files_lines(indent: str, files: FileChanges | None) -> list[str]:
    """Show the files inside an image that differ, MOST_FILES of them."""
    if files is None:
        return []
    if files.note is not None:
        return [f"{indent}files inside: {files.note}"]
    counts = [
        f"{files.counts[it]} {_FILE_WORDS[it]}" for it in Mark if files.counts[it]
    ]
    lines = [f"{indent}files inside: {', '.join(counts)}"]
    lines += [
        f"{indent}  {each} ({each.detail})" for each in files.changes[:MOST_FILES]
    ]
    more = len(files.changes) - MOST_FILES
    return [*lines, f"{indent}  and {more} more"] if more > 0 else lines


def _component(component: Component | None) -> dict[str, str]:
    if component is None:
        return {}
    source = component.source
    told: dict[str, str | None] = {
        "file": source.path,
        "version": source.version,
        "command line": source.cmdline.decode("utf-8", "backslashreplace")
        if source.cmdline
        else None,
        **{str(name): value.hex for name, value in source.file_digests.items()},
    }
    if not source.file_digests:
        _, digests = component.extends[0]
        told |= {str(name): value.hex for name, value in digests.items()}
    return {key: value for key, value in told.items() if value is not None}


def _source(measurement: Measurement) -> str:
    source = measurement.source
    if source.kind is SourceKind.FILE:
        version = f" ({source.version})" if source.version else ""
        return f"{source.path}{version}"
    if source.kind is SourceKind.CMDLINE:
        return f"a command line in {source.path}"
    if source.kind is SourceKind.CONSTANT:
        if measurement.role is not Role.POLICY:
            return "what the launcher asks of SINIT"
        return "tboot's default policy"
    if measurement.role is Role.POLICY:
        return f"your policy for tboot, event {source.event}"
    return f"carried over, event {source.event}"


def _short(digest: Digest | None) -> str:
    return "-" if digest is None else digest.hex[:SHORT]


def _whole(digest: Digest | None) -> str:
    return "nothing" if digest is None else str(digest)
