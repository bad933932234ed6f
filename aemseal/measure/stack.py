# SPDX-License-Identifier: GPL-2.0-or-later
"""Which launcher made a log, told from the log alone."""

from __future__ import annotations

from aemseal.measure.launch import UNTOLD, Launch, RunningSystem
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.tboot import has_default_policy, read_launch
from aemseal.measure.trenchboot import read_launches
from aemseal.words.digest import DYNAMIC_PCRS
from aemseal.words.errors import PredictionError
from aemseal.words.events import TBOOT_MEASUREMENT, TXT_HASH_START

_TRENCHBOOT_TYPES = range(0x502, 0x700)
"""DLE_EVTYPE_SLAUNCH and after; 0x600 to 0x602 are Anti Evil Maid v0.2's.

Source: slaunch.h of TrenchBoot's Linux and Xen."""


def identify(
    verified: VerifiedLog, system: RunningSystem = UNTOLD
) -> tuple[Launch, ...]:
    """Return the launch that a log tells of, read by its launcher's rules.

    More than one reading means that versions of the launcher differ in a rule which
    the log does not tell; the files decide (calibrate).

    PredictionError for a launcher that is not known, and for a log that is not what
    its launcher writes: the message names the event.
    """
    types = {
        event.untrusted_type
        for event, _ in verified.extends
        if event.pcr in DYNAMIC_PCRS
    }
    if TBOOT_MEASUREMENT in types:
        return (read_launch(verified, system.policies, system.stored_policies),)
    if any(each in _TRENCHBOOT_TYPES for each in types):
        return read_launches(verified, system)
    how = "on Intel TXT" if TXT_HASH_START in types else "without Intel TXT"
    raise PredictionError(
        f"the log tells of a launch {how} by neither tboot (0x501) nor TrenchBoot "
        "(0x502)",
        "other launchers are not known",
    )


def wants_policies(verified: VerifiedLog) -> bool:
    """Whether a custom policy has to be known (RunningSystem.policies) to read a log.

    That is a log of tboot's which none of its default policies explains.
    """
    types = {event.untrusted_type for event, _ in verified.extends}
    return TBOOT_MEASUREMENT in types and not has_default_policy(verified)
