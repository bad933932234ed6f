# SPDX-License-Identifier: GPL-2.0-or-later
"""The TPM's protection against dictionary attacks: how it stands, and how it is set.

A wrong PIN counts, and so does a power cut after a right one, since the TPM books the
use until an orderly shutdown (TPM 2.0 Library part 1 section 19.8.6).
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.world.tpm import Hierarchy, Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2_CAP

_FIRST = 0x20E
"""TPM_PT_LOCKOUT_COUNTER; MAX_AUTH_FAIL, LOCKOUT_INTERVAL and LOCKOUT_RECOVERY follow
(part 2 section 6.13)."""


@dataclass(frozen=True, slots=True)
class LockoutSettings:
    """How many failures lock the TPM, and how long each is held against it (seconds).

    `recovery` takes one failure off; `lockout_recovery` is how long the lockout
    authorisation itself is refused after a wrong one.
    """

    max_tries: int
    recovery: int
    lockout_recovery: int


@dataclass(frozen=True, slots=True)
class LockoutState:
    """The settings in force, and the failures that are counted now."""

    counted: int
    settings: LockoutSettings

    @property
    def left(self) -> int:
        """How many more failures there may be before lockout."""
        return max(0, self.settings.max_tries - self.counted)


def lockout_state(tpm: Tpm) -> LockoutState:
    """Read how the TPM stands."""
    listed = tpm.capability(TPM2_CAP.TPM_PROPERTIES, _FIRST, 4)
    found = dict(zip(listed[::2], listed[1::2], strict=True))
    counted, *settings = (found.get(_FIRST + at, 0) for at in range(4))
    return LockoutState(counted, LockoutSettings(*settings))


def set_lockout(tpm: Tpm, settings: LockoutSettings, lockout: bytes) -> None:
    """Set what locks the TPM (TPM2_DictionaryAttackParameters).

    `lockout` is the lockout authorisation. TpmRefusedError when it is another; then it
    is refused for a while, so it is not to be guessed.
    """
    tpm.set_auth(Hierarchy.LOCKOUT, lockout)
    with tpm.session() as session:
        tpm.run(
            "DictionaryAttackParameters",
            tpm.esapi.dictionary_attack_parameters,
            new_max_tries=settings.max_tries,
            new_recovery_time=settings.recovery,
            lockout_recovery=settings.lockout_recovery,
            lock_handle=ESYS_TR.LOCKOUT,
            session1=session,
        )


def reset_lockout(tpm: Tpm, lockout: bytes) -> None:
    """Forget the failures counted so far (TPM2_DictionaryAttackLockReset).

    TpmRefusedError as for `set_lockout`.
    """
    tpm.set_auth(Hierarchy.LOCKOUT, lockout)
    with tpm.session() as session:
        tpm.run(
            "DictionaryAttackLockReset",
            tpm.esapi.dictionary_attack_lock_reset,
            lock_handle=ESYS_TR.LOCKOUT,
            session1=session,
        )
