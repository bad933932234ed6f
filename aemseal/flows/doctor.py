# SPDX-License-Identifier: GPL-2.0-or-later
"""The use case `doctor`: every precondition of a safe vault, and what to do.

The checks are in rooms, by what they look at. None of them writes anything, and none
tries what could count towards the TPM's lockout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aemseal.flows import (
    doctor_boot,
    doctor_disks,
    doctor_files,
    doctor_media,
    doctor_tpm,
)
from aemseal.flows.doctor_patient import (
    Check,
    Finding,
    Patient,
    Result,
    SkippedError,
    failed,
)
from aemseal.words.errors import AemsealError, EvidenceError, TpmError
from aemseal.world.recording import NotToldError

EVERY_CHECK = (
    *doctor_tpm.CHECKS,
    *doctor_files.CHECKS,
    *doctor_media.CHECKS,
    *doctor_boot.CHECKS,
    *doctor_disks.CHECKS,
)
"""All checks by name, in the order in which one stands before another."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A finding by the name of its check."""

    name: str
    finding: Finding


def examine(
    patient: Patient, checks: Iterable[tuple[str, Check]] = EVERY_CHECK
) -> list[Checked]:
    """Make every check, in order; none keeps another from being made."""
    return [Checked(name, _made(patient, check)) for name, check in checks]


def _made(patient: Patient, check: Check) -> Finding:
    try:
        return check(patient)
    except SkippedError as why:
        return Finding(Result.SKIPPED, str(why))
    except NotToldError as error:
        return Finding(Result.SKIPPED, error.message)
    except AemsealError as error:
        return failed(error.message, error.hint or _LOOK_AGAIN)


_LOOK_AGAIN = "put that right, then look again: aemseal doctor"


def exit_code(found: Iterable[Checked]) -> int:
    """Return 0 where nothing failed, else the code of a refusal, or of no TPM."""
    failed = {each.name for each in found if each.finding.result is Result.FAILED}
    if doctor_tpm.TPM_CHECK in failed:
        return TpmError.exit_code
    return EvidenceError.exit_code if failed else 0
