# SPDX-License-Identifier: GPL-2.0-or-later
r"""Predictions, plans and explanations as the JSON objects of the command line.

Contract: fields and values may be added, never renamed (docs: the command line's
JSON). Command lines are shown as UTF-8 text, bytes that are not as "\xhh".
"""

from __future__ import annotations

from collections.abc import Mapping

from aemseal.measure.claims import Measurement, Prediction, Source
from aemseal.measure.consent import asked_for
from aemseal.measure.explain import Explanation
from aemseal.measure.file_changes import FileChanges
from aemseal.measure.foreseen import Held
from aemseal.measure.plan import Change, Component, Plan
from aemseal.words.digest import Digests, HashAlgorithm, PcrBank, PcrSelection

Json = dict[str, object]


def predict_report(
    prediction: Prediction,
    selection: PcrSelection,
    now: Mapping[HashAlgorithm, PcrBank],
) -> Json:
    """Return the "aemseal.predict/1" object.

    `now` are the live PCRs; those selected or predicted are shown. BankError when the
    prediction does not cover the selection's bank.
    """
    following = prediction.bank(selection.algorithm)
    shown = {*selection.pcrs, *following.values}
    return {
        "schema": "aemseal.predict/1",
        "stack": prediction.stack,
        "map": prediction.map,
        "entry": prediction.entry,
        "selection": str(selection),
        "complete": prediction.is_complete,
        "calibrated": prediction.is_calibrated,
        "measurements": [_measurement(each) for each in prediction.measurements],
        "now": {str(bank): _values(values, shown) for bank, values in now.items()},
        "next": {str(selection.algorithm): _values(following, shown)},
        "refusals": [
            {"pcr": each.pcr, "reason": each.reason, "event": each.event}
            for each in prediction.refusals
        ],
        "cautions": list(prediction.cautions),
    }


def plan_report(plan: Plan, bank: HashAlgorithm | None = None) -> Json:
    """Return the "aemseal.plan/1" object; `before` or `after` is null where absent.

    `bank` is the one that is sealed to, None where nothing can be accepted.
    """
    return {
        "schema": "aemseal.plan/1",
        "changes": [_change(each, bank) for each in plan.changes],
    }


def explain_report(explanation: Explanation, files: FileChanges | None = None) -> Json:
    """Return the "aemseal.explain/1" object; null for what there is none of.

    `files` are those inside a changed initramfs that differ, where it was looked at.
    """
    expected, measured = explanation.expected, explanation.measured
    return {
        "schema": "aemseal.explain/1",
        "verdict": explanation.verdict.value,
        "pcr": explanation.pcr,
        "role": explanation.role and explanation.role.value,
        "path": explanation.path,
        "expected": expected
        and {"digests": _digests(expected.digests), **_told(expected.source)},
        "measured": measured and {"digests": {str(measured.algorithm): measured.hex}},
        "known_as": explanation.known_as,
        "advice": explanation.advice,
        "differences": explanation.differences,
        "prediction": explanation.held and _held(explanation.held),
        "hook_outcome": explanation.outcome,
        "overridden": explanation.overridden,
        **_files(files),
    }


def _held(held: Held) -> Json:
    """Return what a blind boot's prediction said, and where the boot parts from it."""
    difference = held.difference
    expected, seen = difference.expected, difference.seen
    return {
        "time": held.foreseen.time,
        "as_predicted": held.is_as_foreseen,
        "not_known": [each.sentence for each in held.foreseen.refusals],
        "pcr": expected.pcr if expected else seen and seen[0],
        "role": expected and expected.role.value,
        "path": expected and expected.source.path,
        "expected": expected and {"digests": _digests(expected.digests)},
        "measured": seen and {"digests": {str(seen[1].algorithm): seen[1].hex}},
        "differences": difference.count,
    }


def _measurement(measurement: Measurement) -> Json:
    return {
        "pcr": measurement.pcr,
        "digests": _digests(measurement.digests),
        "role": measurement.role.value,
        "source": {
            "kind": measurement.source.kind.value,
            **_told(measurement.source),
        },
        "calibrated": measurement.calibrated.value,
    }


def _change(change: Change, bank: HashAlgorithm | None) -> Json:
    asked = None if bank is None else asked_for(change, bank)
    return {
        "name": change.name,
        "role": change.role.value,
        "path": change.path,
        "before": change.before and _component(change.before),
        "after": change.after and _component(change.after),
        "pcrs": list(change.pcrs),
        "origin": {
            "kind": change.origin.kind.value,
            "detail": change.origin.detail,
        },
        "accept": asked and str(asked),
        **_files(change.files),
    }


def _files(files: FileChanges | None) -> Json:
    """Return the files inside an image that differ: "~ path", "+ path", "- path"."""
    return {
        "files": [str(each) for each in files.changes] if files else [],
        "files_note": files and files.note,
    }


def _component(component: Component) -> Json:
    _, digests = component.extends[0]
    return {
        "digests": _digests(digests),
        "pcrs": list(component.pcrs),
        **_told(component.source),
    }


def _told(source: Source) -> Json:
    """Return what a source tells of its file or event; nothing it does not."""
    fields: Json = {}
    if source.path is not None:
        fields["path"] = source.path
    if source.cmdline is not None:
        fields["cmdline"] = source.cmdline.decode("utf-8", "backslashreplace")
    if source.event is not None:
        fields["event"] = source.event
    if source.version is not None:
        fields["version"] = source.version
    if source.file_digests:
        fields["file_digests"] = _digests(source.file_digests)
    return fields


def _digests(digests: Digests) -> Json:
    return {str(algorithm): digest.hex for algorithm, digest in digests.items()}


def _values(bank: PcrBank, shown: set[int]) -> Json:
    values = sorted(bank.values.items())
    return {str(pcr): value.hex for pcr, value in values if pcr in shown}
