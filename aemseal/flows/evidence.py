# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine says of this boot: its log, its PCRs, the hook's record.

Read and held against each other here; what it means is for the survey.
"""

from __future__ import annotations

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.hook_files import HookRecord
from aemseal.measure.luks import LUKS_PCR, require_luks
from aemseal.measure.replay import require_launch
from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import FormatError, ReplayError, SelectionError
from aemseal.words.events import EventLog
from aemseal.world.host import HOOK_RECORD, Host

_WHOLE_LOG = "each boot writes its log anew: reboot, and look again"


def read_log(host: Host) -> tuple[str, EventLog]:
    """Find and parse the launch's event log; returns where it was found, too."""
    where, data = host.event_log()
    return where, parse_named_log(where, data)


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

    UnmeasuredError where there was no launch: then no log is missed.
    """
    live = host.pcrs(algorithm)
    require_launch(live)
    where, log = read_log(host)
    return where, log, live


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
