# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of machines, and what the tool says of each: tests/recorded/NAME.

A folder there is what `aemseal record NAME` wrote, and `expected.json` besides, which
no recording reads. That file is written by

    .venv/bin/python tests/recorded_machines.py tests/recorded/NAME [--pcrs SELECTION]

for a new folder, and again where a change of what the tool says is meant; then the
difference is read before it is committed. With --pcrs every verb is asked with that
selection, from then on: it is for a machine whose TPM has no sha256 bank and whose
configuration named no PCRs. tests/test_recorded_machines.py compares, and writes
nothing.

`expected.json` holds facts, not words: {"options": ["--pcrs", "sha1:17,18"], "verbs":
{"predict": {"exit": 0, "facts": {...}}}}. A sentence can be bettered and a field added
without a change of it. Of an error only the kind is a fact.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from aemseal.face.cli import main as aemseal
from aemseal.words.errors import AemsealError, UsageError
from aemseal.world.recording import RecordedHost

RECORDED = Path(__file__).parent / "recorded"
EXPECTED = "expected.json"
VERBS = ("log", "predict", "plan", "explain", "status", "status --check")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """One verb: its exit code, stdout and stderr."""

    code: int
    out: str
    told: str


def run(*arguments: str, tcti: str | None = None, stdin: bytes = b"") -> Ran:
    """Run the command line in this process; without `tcti` there is no TPM."""
    environment = {} if tcti is None else {"TPM2TOOLS_TCTI": tcti}
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    # Files, since a program that is run writes to what is behind stderr.
    with TemporaryFile("w+") as out, TemporaryFile("w+") as told:
        try:
            with redirect_stdout(out), redirect_stderr(told):
                code = aemseal(arguments, environment)
        finally:
            sys.stdin = before
        out.seek(0)
        told.seek(0)
        return Ran(code, out.read(), told.read())


def recordings() -> list[Path]:
    """Return the folders of tests/recorded, by name."""
    return sorted(each for each in RECORDED.iterdir() if each.is_dir())


def told_of(folder: Path, options: Sequence[str]) -> Json:
    """Run every verb on a recording and return the facts, as expected.json has them.

    ValueError where a verb prints no JSON, or exits otherwise when it prints text.
    """
    verbs = {verb: _told_by(verb, folder, options) for verb in VERBS}
    return {"options": list(options), "verbs": verbs}


def _told_by(verb: str, folder: Path, options: Sequence[str]) -> Json:
    asked = ("--host", str(folder), *options, *verb.split())
    as_json, as_text = run(*asked, "--json"), run(*asked)
    if as_json.code != as_text.code:
        raise ValueError(f"{verb}: exit code {as_text.code}, but with --json another")
    report: Json = json.loads(as_json.out)
    return {"exit": as_json.code, "facts": _FACTS[report["schema"]](report)}


def _log_facts(report: Json) -> Json:
    events = report["events"]
    return {
        "format": report["format"],
        "rebuilt": report.get("rebuilt", False),
        "algorithms": report["algorithms"],
        "events": [_event(each) for each in events],
        "quirks": [[each["event"], each["name"]] for each in report["quirks"]],
        "pcrs": report["pcrs"],
    }


def _event(event: Json) -> str:
    words = (event["number"], event["pcr"], event["name"], event.get("file", "-"))
    return " ".join(map(str, words))


def _predict_facts(report: Json) -> Json:
    plain = ("stack", "map", "entry", "selection", "complete", "calibrated")
    return {
        **{name: report[name] for name in plain},
        "measurements": [_measurement(each) for each in report["measurements"]],
        "now": report["now"],
        "next": report["next"],
        "refusals": [[each["pcr"], each["event"]] for each in report["refusals"]],
        "cautions": len(report["cautions"]),
    }


def _measurement(measurement: Json) -> str:
    source = measurement["source"]
    of = source.get("path") or source["kind"]
    return (
        f"{measurement['pcr']} {measurement['role']} {of} {measurement['calibrated']}"
    )


def _plan_facts(report: Json) -> Json:
    return {"changes": [_change(each) for each in report["changes"]]}


def _change(change: Json) -> Json:
    plain = {name: change[name] for name in ("name", "path", "pcrs", "files")}
    return {**plain, "origin": change["origin"]["kind"]}


def _explain_facts(report: Json) -> Json:
    return {name: report[name] for name in ("verdict", "pcr", "role", "path")}


def _status_facts(report: Json) -> Json:
    return {
        "accepted": [each["name"] for each in report["accepted"]],
        "staged": [each["name"] for each in report["staged"]],
        "this_boot": report["this_boot"],
        "next_boot": report["next_boot"],
        "has_problem": report["problem"] is not None,
    }


_FACTS: Mapping[str, Callable[[Json], Json]] = {
    "aemseal.log/1": _log_facts,
    "aemseal.predict/1": _predict_facts,
    "aemseal.plan/1": _plan_facts,
    "aemseal.explain/1": _explain_facts,
    "aemseal.status/1": _status_facts,
    "aemseal.error/1": lambda report: {"error": report["kind"]},
}


def expected(folder: Path) -> Json:
    """Read a folder's expected.json; FileNotFoundError where it has none yet."""
    found: Json = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))
    return found


def write_expected(folder: Path, options: Sequence[str]) -> None:
    """Run every verb and write what was told; without `options` those of before.

    AemsealError when the folder holds no recording.
    """
    RecordedHost(folder)
    if not options and (folder / EXPECTED).exists():
        options = expected(folder)["options"]
    text = json.dumps(told_of(folder, options), indent=1) + "\n"
    (folder / EXPECTED).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write expected.json into the folders named; return the exit code."""
    at = arguments.index("--pcrs") if "--pcrs" in arguments else len(arguments)
    folders, options = arguments[:at], arguments[at:]
    try:
        if not folders or len(options) not in (0, 2):
            raise UsageError("name a folder of tests/recorded, then --pcrs, if any")
        for folder in folders:
            write_expected(Path(folder), options)
            print(f"wrote {folder}/{EXPECTED}: read what git diff says of it")
    except AemsealError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
