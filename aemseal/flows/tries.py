# SPDX-License-Identifier: GPL-2.0-or-later
"""The tries that a PIN has: how many are left, and forgetting those counted.

A wrong PIN counts, and so does a power cut after a right one: the TPM books the use
until an orderly shutdown (world/tpm_lockout.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aemseal.flows.owner import LOCKOUT_FILE, REFUSED_FILE, refused_mark
from aemseal.flows.vault import Vault
from aemseal.words.errors import LockoutError
from aemseal.world.tpm import Tpm, TpmRefusedError
from aemseal.world.tpm_lockout import lockout_state, reset_lockout

FEW = 8
"""Tries that are few: a bad day's mistyping and power cuts use them up."""


@dataclass(frozen=True, slots=True)
class Tries:
    """Failed tries as the TPM counts them now; at `most` it is in lockout."""

    counted: int
    most: int

    @property
    def left(self) -> int:
        """How many more there may be."""
        return max(0, self.most - self.counted)

    @property
    def warning(self) -> str | None:
        """Say that few are left, None where enough are."""
        if self.left >= min(FEW, self.most):
            return None
        return (
            f"{self.left} of {self.most} tries are left before the TPM takes no PIN "
            "for hours: wrong PINs, power cuts after a right one, or somebody "
            "guessing; start the count anew in an accepted boot: aemseal confirm"
        )


def read_tries(tpm: Tpm) -> Tries:
    """Ask the TPM."""
    found = lockout_state(tpm)
    return Tries(found.counted, found.settings.max_tries)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many tries were counted, None where that is not known.

    `trouble` says why they are counted still, None where they are not.
    """

    counted: int | None
    trouble: str | None = None


def forget_tries(vault: Vault) -> Forgotten:
    """Have the TPM count from 0 again, where anything was counted.

    It opens what is sealed to nobody: the running boot has to be an accepted one.
    """
    counted = read_tries(vault.tpm).counted
    if counted == 0:
        return Forgotten(0)
    trouble = with_lockout_value(vault, lambda it: reset_lockout(vault.tpm, it))
    return Forgotten(counted, trouble)


def with_lockout_value(vault: Vault, use: Callable[[bytes], None]) -> str | None:
    """Use the lockout authorisation that is kept; return why that failed, or None.

    No value is tried again that the TPM has refused: each wrong one has it refuse the
    right one for a day, too. A cut before that is on the disk costs one more try, which
    a TPM refuses unlooked at; a mark before the try, one that the next move believes.
    """
    value = vault.files.read(LOCKOUT_FILE)
    if value is None:
        return f"{LOCKOUT_FILE} is missing: another tool keeps the lockout value"
    mark, refused_before = refused_mark(value), vault.files.read(REFUSED_FILE)
    if refused_before == mark:
        return (
            f"the TPM has refused the value in {LOCKOUT_FILE} before, and it is not "
            f"tried again (if it is right by now, remove {REFUSED_FILE})"
        )
    if refused_before is not None:  # it was another value
        vault.files.remove(REFUSED_FILE)
    try:
        use(value)
    except LockoutError:
        return (
            "the TPM takes no lockout value for now: a wrong one was tried, which "
            "costs a day at most"
        )
    except TpmRefusedError as refused:
        if not refused.is_wrong_authorisation:
            raise
        vault.files.write(REFUSED_FILE, mark)
        return f"the TPM refuses the value in {LOCKOUT_FILE}: another tool set one"
    return None
