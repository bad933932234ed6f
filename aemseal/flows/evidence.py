# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine says of this boot: its log, its PCRs, the hook's record.

Read and held against each other here; what it means is for the survey.
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.hook_files import HookRecord
from aemseal.measure.hash_start import LAUNCH_PCR
from aemseal.measure.luks import LUKS_PCR, require_luks
from aemseal.measure.replay import require_launch, verify
from aemseal.words.digest import HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    EvidenceError,
    FormatError,
    ReplayError,
    SelectionError,
)
from aemseal.words.events import EventLog
from aemseal.world.host import HOOK_RECORD, Host

LAUNCH_PCRS = range(17, 20)
"""What the launch alone extends: 20 to 22 are open to the launched system, too."""

_WHOLE_LOG = "each boot writes its log anew: reboot, and look again"


@dataclass(frozen=True, slots=True)
class _Tried:
    """A log that was tried: what could be read of it, and what speaks against it."""

    where: str
    log: EventLog | None
    error: EvidenceError | None


def read_log(host: Host) -> tuple[str, EventLog]:
    """Find and parse the launch's event log; returns where it was found, too.

    The first that parses, held against no PCR. Where none does, the first one's error.
    """
    tried: list[_Tried] = []
    for where, data in host.event_logs():
        one = _try(where, data, None)
        if one.log is not None:
            return where, one.log
        tried.append(one)
    raise _error_of(tried)


def _try(where: str, data: bytes, live: PcrBank | None) -> _Tried:
    """Parse a log and hold it against the launch's live PCRs, where these are given."""
    log = None
    try:
        log = parse_named_log(where, data)
        if live is not None:
            verify(log, live, _extended(live))
    except EvidenceError as error:
        return _Tried(where, log, error)
    return _Tried(where, log, None)


def _extended(live: PcrBank) -> PcrSelection:
    """Select those of the launch's PCRs that something was extended into."""
    values = {pcr: live.values.get(pcr) for pcr in LAUNCH_PCRS}
    pcrs = {pcr for pcr, value in values.items() if value and not value.is_blank}
    return PcrSelection.of(live.algorithm, pcrs)


def _error_of(tried: list[_Tried]) -> EvidenceError:
    """Return the first one's error; its hint names the others that were tried."""
    error = tried[0].error
    assert error is not None
    others = [f"{each.where} ({each.error})" for each in tried[1:]]
    if others:
        hint = "" if error.hint is None else f"{error.hint}; "
        error.hint = f"{hint}tried, too: {', '.join(others)}"
    return error


def parse_named_log(where: str, data: bytes) -> EventLog:
    """Parse an event log; the FormatError of a bad one names the file."""
    try:
        return parse_event_log(data)
    except FormatError as error:
        raise FormatError(
            f"{where}: {error.what}", error.offset, error.hint or _WHOLE_LOG
        ) from None


def read_launch(host: Host, algorithm: HashAlgorithm) -> tuple[str, EventLog, PcrBank]:
    """Read the launch's log, where it was found, and the live PCRs.

    Of several logs it is the first that gives the live PCR 17 to 19, else the first
    that gives PCR 17; whether it is evidence is still for `verify` to say. Where none
    does, the first one's error names the others; a log that is the only one is
    returned as long as it parses. UnmeasuredError where there was no launch: then no
    log is missed.
    """
    live = host.pcrs(algorithm)
    require_launch(live)
    tried: list[_Tried] = []
    for where, data in host.event_logs():
        one = _try(where, data, live)
        if one.log is not None and one.error is None:
            return where, one.log, live
        tried.append(one)
    where, log = _nearest(tried, live)
    return where, log, live


def _nearest(tried: list[_Tried], live: PcrBank) -> tuple[str, EventLog]:
    """Choose among logs of which none gives all of the launch's PCRs."""
    launch = PcrSelection(live.algorithm, (LAUNCH_PCR,))
    for each in tried:
        if each.log is None:
            continue
        if len(tried) == 1 or _gives(each.log, live, launch):
            return each.where, each.log
    raise _error_of(tried)


def _gives(log: EventLog, live: PcrBank, selection: PcrSelection) -> bool:
    try:
        verify(log, live, selection)
    except EvidenceError:
        return False
    return True


def read_hook_record(host: Host) -> HookRecord | None:
    """Read what the hook left in this boot, None where it did not run."""
    data = host.hook_record()
    if data is None:
        return None
    try:
        return HookRecord.parse(data, HOOK_RECORD)
    except FormatError as error:
        hint = "the hook writes it at each boot: reboot, and look again"
        raise FormatError(error.what, error.offset, hint) from None


def require_hook(hook: HookRecord | None, live: PcrBank) -> None:
    """Hold the hook's record against PCR 13; ReplayError when it is of another boot."""
    if hook is None:
        return
    if hook.algorithm is not live.algorithm:
        raise ReplayError(
            f"{HOOK_RECORD} tells of the {hook.algorithm} bank, not of "
            f"{live.algorithm}",
            "reboot with the initramfs that enrol built",
        )
    require_luks(hook.luks, live, hook.cap)


def no_hook(live: PcrBank) -> SelectionError:
    """Return the error where PCR 13 is needed and no record of the hook tells it."""
    hint = "reboot with the initramfs that has the hook"
    if live.value(LUKS_PCR).is_blank:
        return SelectionError(
            f"aemseal's hook did not run in this boot: nothing is in PCR {LUKS_PCR}",
            hint,
        )
    return SelectionError(
        f"{HOOK_RECORD} is missing: it says what is in PCR {LUKS_PCR}", hint
    )
