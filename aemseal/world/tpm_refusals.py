# SPDX-License-Identifier: GPL-2.0-or-later
"""What a TPM's refusals mean, what a person can do, and which to ask again after."""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.words.errors import LockoutError, TpmError

RC_LOCKOUT = 0x921
_RC_HANDLE = 0x08B
_RC_AUTH_FAIL = 0x08E
_RC_BAD_AUTH = 0x0A2
_FORMAT_ONE = 0x080
_OF_FORMAT_ONE = 0x0BF
_TPM_LAYERS = (0x00000, 0xB0000, 0xC0000)
"""The TPM itself and what speaks for it, the resource managers of kernel and tabrmd
(tss2_common.h: TSS2_RESMGR_RC_LAYER, TSS2_RESMGR_TPM_RC_LAYER)."""

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between asking and asking again. The specification names none: the kernel
waits up to 2 s for a retry (drivers/char/tpm/tpm-interface.c, tpm_transmit)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response code: its name, what the TPM says by it, and what to do then.

    `passes` says that the command was not carried out and that it will be before long.
    """

    name: str
    meaning: str
    hint: str
    passes: bool = False


_WAIT = "wait a minute and try again"
_POWER_OFF = "switch the machine off and on again (a reboot may not be enough)"
_BROKEN = (
    f"{_POWER_OFF}; if it stays so the TPM is broken, and what is sealed opens on no "
    "other: the disk opens with its passphrase as before"
)
_FULL = (
    "another program fills the TPM: end it; or reach the TPM by its resource manager, "
    "--tcti device:/dev/tpmrm0; a reboot empties it"
)
_REBOOT = "reboot and try again"

REFUSALS = {
    # TPM 2.0 Library part 2 (revision 1.59) section 6.6.3, TPM_RC constants: RC_VER1
    0x100: Refusal("INITIALIZE", "the firmware did not start it", _POWER_OFF),
    0x101: Refusal("FAILURE", "it failed and takes no command", _BROKEN),
    0x120: Refusal("DISABLED", "this command is switched off", "see the firmware"),
    0x128: Refusal("PCR_CHANGED", "a PCR changed meanwhile", "try again"),
    0x12D: Refusal("UPGRADE", "its firmware is being updated", _POWER_OFF),
    0x130: Refusal("REBOOT", "it wants the machine to reboot", _REBOOT),
    0x148: Refusal("NV_LOCKED", "that part of its memory is locked", _REBOOT),
    0x14B: Refusal(
        "NV_SPACE",
        "its memory is full",
        "remove what nobody needs: tpm2_getcap handles-nv-index, tpm2_nvundefine",
    ),
    0x14C: Refusal("NV_DEFINED", "somebody took this place in its memory", "try again"),
    # The same, RC_WARN
    0x902: Refusal("OBJECT_MEMORY", "it has no room for another key", _FULL),
    0x903: Refusal("SESSION_MEMORY", "it has no room for another session", _FULL),
    0x904: Refusal("MEMORY", "it has no room left to work", _FULL),
    0x905: Refusal("SESSION_HANDLES", "it has too many sessions", _FULL),
    0x906: Refusal("OBJECT_HANDLES", "it has had too many keys loaded", _REBOOT),
    0x908: Refusal("YIELDED", "it is busy with another command", _WAIT, passes=True),
    0x909: Refusal("CANCELED", "somebody cancelled the command", "try again"),
    0x90A: Refusal("TESTING", "it is still testing itself", _WAIT, passes=True),
    0x920: Refusal(
        "NV_RATE", "it limits how often its memory is written", _WAIT, passes=True
    ),
    0x922: Refusal("RETRY", "it is too busy to begin", _WAIT, passes=True),
    0x923: Refusal(
        "NV_UNAVAILABLE",
        "it cannot write its memory now",
        f"{_WAIT}; if it stays so, {_POWER_OFF}",
    ),
}

_CHANGED = (
    "another tool has changed it since: aemseal doctor looks at everything of ours"
)

OF_AN_OPERAND = {
    # The same, RC_FMT1: besides these bits the code has the number of what is wrong
    _RC_AUTH_FAIL: Refusal("AUTH_FAIL", "an authorisation value is wrong", _CHANGED),
    _RC_BAD_AUTH: Refusal("BAD_AUTH", "an authorisation value is wrong", _CHANGED),
    _RC_HANDLE: Refusal("HANDLE", "it does not have what is asked for", _CHANGED),
}


def _known(code: int) -> Refusal | None:
    if code & _FORMAT_ONE:
        return OF_AN_OPERAND.get(code & _OF_FORMAT_ONE)
    return REFUSALS.get(code)


class TpmRefusedError(TpmError):
    """The TPM answered with an error; `code` is TPM_RC without the layer."""

    def __init__(self, command: str, code: int) -> None:
        known = _known(code)
        if known is None:
            message = f"the TPM refused {command} with 0x{code:x}"
            hint = f"what that means tells: tpm2_rc_decode 0x{code:x}"
        else:
            said = f"{known.meaning} (TPM_RC_{known.name}, 0x{code:x})"
            message, hint = f"the TPM refused {command}: {said}", known.hint
        super().__init__(message, hint)
        self.code = code

    @property
    def passes(self) -> bool:
        """Whether the TPM only wants to be asked again."""
        known = _known(self.code)
        return known is not None and known.passes

    @property
    def is_wrong_authorisation(self) -> bool:
        """Whether an authorisation value was wrong (TPM_RC_AUTH_FAIL, BAD_AUTH)."""
        return self._is_format_one(_RC_AUTH_FAIL) or self._is_format_one(_RC_BAD_AUTH)

    @property
    def is_missing_handle(self) -> bool:
        """Whether the object or index named does not exist (TPM_RC_HANDLE)."""
        return self._is_format_one(_RC_HANDLE)

    def _is_format_one(self, error: int) -> bool:
        """Compare without the number of the handle, session or parameter."""
        return bool(self.code & _FORMAT_ONE) and self.code & _OF_FORMAT_ONE == error


def in_lockout(
    command: str | None = None, *, reset_with: str = "the lockout authorisation"
) -> LockoutError:
    """Return the error of a TPM in lockout: for a command that it refused, or so."""
    refused = "" if command is None else f" ({command})"
    return LockoutError(
        f"the TPM is in dictionary attack lockout{refused}",
        "somebody guessed at it: wait until it recovers, or reset it with "
        + reset_with,
    )


def refusal(command: str, rc: int) -> TpmError:
    """Return the error for a TSS2_RC, the TPM's own or that of what leads to it."""
    layer, code = rc & 0xFFFF0000, rc & 0xFFFF
    if layer not in _TPM_LAYERS:
        return TpmError(
            f"the TPM did not answer {command} (TSS error 0x{rc:x})",
            "is another program holding the TPM?",
        )
    if code == RC_LOCKOUT:
        return in_lockout(command)
    return TpmRefusedError(command, code)
