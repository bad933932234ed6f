# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb that looks at everything and changes nothing: doctor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aemseal.face.run import Run
from aemseal.flows.doctor_patient import Patient, Result
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.words.errors import AemsealError
from aemseal.world.config import Config
from aemseal.world.disks import Disks
from aemseal.world.file_status import find_program
from aemseal.world.host import Host
from aemseal.world.rooted import Rooted

if TYPE_CHECKING:
    from aemseal.flows.doctor import Checked


def verb_doctor(run: Run) -> int:
    """Make every check; 0 where none fails, 4 where one does, 5 without a TPM."""
    from aemseal.flows.doctor import examine, exit_code  # loads the TPM's library

    found = examine(_patient(run))
    run.terminal.result(doctor_report(found), doctor_lines(found))
    return exit_code(found)


def _patient(run: Run) -> Patient:
    config = _config(run)
    if run.is_recorded:
        host: Host = run.host
        files = disks = open_tpm = has_program = None
    else:
        host = run.live_host(config if isinstance(config, Config) else Config())
        files, disks = run.files, Disks(Rooted(run.root))
        open_tpm, has_program = (lambda: run.tpm), find_program
    return Patient(
        host=host,
        state=_state(host),
        config=config,
        files=files,
        disks=disks,
        open_tpm=open_tpm,
        has_program=has_program,
    )


def _config(run: Run) -> Config | AemsealError:
    try:
        return run.config
    except AemsealError as error:
        return error


def _state(host: Host) -> VaultState | AemsealError | None:
    try:
        data = host.saved(Path(STATE_FILE).name)
        return None if data is None else VaultState.parse(data)
    except AemsealError as error:
        return error


def doctor_report(found: Sequence[Checked]) -> dict[str, Any]:
    """Return the `aemseal.doctor/1` object."""
    return {
        "schema": "aemseal.doctor/1",
        "checks": [
            {
                "name": each.name,
                "result": each.finding.result.value,
                "message": each.finding.message,
                "hint": each.finding.hint,
            }
            for each in found
        ],
    }


def doctor_lines(found: Sequence[Checked]) -> list[str]:
    """Show a line each, what failed first, and what to do below it."""
    order = list(Result)
    lines = []
    for each in sorted(found, key=lambda one: order.index(one.finding.result)):
        finding = each.finding
        lines.append(f"{finding.result.value:7}  {each.name}: {finding.message}")
        if finding.hint is not None:
            lines.append(f"{'':7}  hint: {finding.hint}")
    counts = [
        f"{sum(one.finding.result is result for one in found)} {result.value}"
        for result in order
    ]
    return [*lines, f"{len(found)} checks: {', '.join(counts)}"]
