# SPDX-License-Identifier: GPL-2.0-or-later
r"""Every error a person can meet, with its kind and its exit code.

The tree (the number is the exit code of the command line)::

    AemsealError                1  io             the machine failed us
    +- UsageError               2  usage          wrong words on the command line
    +- EvidenceError            4  evidence       absent, unreadable or does not hold
    |  +- FormatError           4  format         bytes that are not what they claim
    |  +- LogError              4  log            no event log, or a foreign one
    |  +- ReplayError           4  replay         the log is not what was measured
    |  +- UnmeasuredError       4  unmeasured     no dynamic launch (17 is FF or 00)
    |  +- BankError             4  bank           a bank the launch did not cover
    |  +- SelectionError        4  selection      a PCR that must not be sealed to
    |  +- BootFileError         4  boot-file      a boot file missing or unreadable
    |  +- GrubError             4  grub           grub.cfg leads to no measured boot
    |  +- OriginError           4  origin         changed bytes nobody answers for
    |  +- PredictionError       4  prediction     what comes next cannot be known
    |  +- VaultError            4  vault          no vault, or it refuses this move
    |  +- TpmChangedError       4  tpm-changed    TPM cleared, or our key is gone
    +- TpmError                 5  tpm            the TPM is absent or does not answer
    |  +- LockoutError          5  lockout        dictionary attack lockout
    +- NotAcceptedError         6  not-accepted   this boot is not an accepted one

Exit codes 0 (done), 3 (a reseal is needed) and 130 (interrupted) are no errors.
Messages are lower case, name the file, PCR or event, and end without a full stop;
the hint says what to do. No secret ever enters either.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_RESEAL_NEEDED = 3
EXIT_INTERRUPTED = 130


class AemsealError(Exception):
    """A failure told to the person: `message`, and a `hint` what to do about it."""

    kind: ClassVar[str] = "io"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AemsealError):
    """The command line makes no sense, or a FILE named on it does not exist."""

    kind = "usage"
    exit_code = 2


class EvidenceError(AemsealError):
    """Evidence that is absent, unreadable, malformed or does not hold."""

    kind = "evidence"
    exit_code = 4


class FormatError(EvidenceError):
    """Bytes that are not what they claim to be; `offset` is where (bytes, from 0)."""

    kind = "format"

    def __init__(self, what: str, offset: int, hint: str | None = None) -> None:
        super().__init__(f"{what} at offset {offset}", hint)
        self.offset = offset

    @property
    def what(self) -> str:
        """The message without its offset."""
        return self.message.removesuffix(f" at offset {self.offset}")


class LogError(EvidenceError):
    """There is no event log, or it belongs to another kind of machine."""

    kind = "log"


class ReplayError(EvidenceError):
    """The log, replayed, does not give the PCR values that the TPM holds."""

    kind = "replay"


class UnmeasuredError(EvidenceError):
    """No dynamic launch took place: PCR 17 is all FF or all 00."""

    kind = "unmeasured"


class BankError(EvidenceError):
    """The PCR bank is absent, or the launch did not extend it with every event."""

    kind = "bank"


class SelectionError(EvidenceError):
    """A PCR selection that must not be sealed to."""

    kind = "selection"


class BootFileError(EvidenceError):
    """A file of the boot entry is missing, unreadable or not what it should be."""

    kind = "boot-file"


class GrubError(EvidenceError):
    """grub.cfg leads to no measured boot, or uses what cannot be evaluated."""

    kind = "grub"


class OriginError(EvidenceError):
    """Changed bytes that nobody answers for and the user has not accepted."""

    kind = "origin"


class PredictionError(EvidenceError):
    """The next boot's measurements cannot be known; the message says which."""

    kind = "prediction"


class VaultError(EvidenceError):
    """There is no vault here, it is damaged, or it does not allow this move now."""

    kind = "vault"


class TpmChangedError(EvidenceError):
    """The TPM was cleared, or a key or index of ours is gone: not a changed boot."""

    kind = "tpm-changed"


class TpmError(AemsealError):
    """The TPM is absent, does not answer, or refused a command we need."""

    kind = "tpm"
    exit_code = 5


class LockoutError(TpmError):
    """The TPM is in dictionary attack lockout."""

    kind = "lockout"


class NotAcceptedError(AemsealError):
    """What booted is not a boot that was accepted."""

    kind = "not-accepted"
    exit_code = 6
