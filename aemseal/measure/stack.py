# SPDX-License-Identifier: GPL-2.0-or-later
"""Which launcher made a log, told from the log alone."""

from __future__ import annotations

from aemseal.measure.launch import UNTOLD, Launch, RunningSystem
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.tboot import read_launch
from aemseal.words.digest import DYNAMIC_PCRS
from aemseal.words.errors import PredictionError
from aemseal.words.events import TBOOT_MEASUREMENT, TXT_HASH_START

_TRENCHBOOT_TYPES = range(0x502, 0x600)
"""TXT_EVTYPE_SLAUNCH and after. Source: slaunch.h of TrenchBoot's Linux and Xen."""

_NOT_YET = "of the launchers only tboot is supported yet"


def identify(
    verified: VerifiedLog, system: RunningSystem = UNTOLD
) -> tuple[Launch, ...]:
    """Return the launch that a log tells of, read by its launcher's rules.

    More than one reading means that versions of the launcher differ in a rule which
    the log does not tell; the files decide (calibrate).

    PredictionError for a launcher that is not supported, and for a tboot whose log
    is not that of its default policy: the message names the event.
    """
    launched = [event for event, _ in verified.extends if event.pcr in DYNAMIC_PCRS]
    types = {event.untrusted_type for event in launched}
    for event in launched:
        if event.untrusted_type in _TRENCHBOOT_TYPES:
            raise PredictionError(
                f"event {event.number} ({event.type_hex}) is TrenchBoot's", _NOT_YET
            )
    if TBOOT_MEASUREMENT not in types:
        how = "on Intel TXT" if TXT_HASH_START in types else "without Intel TXT"
        raise PredictionError(
            f"the log tells of a launch {how} without tboot's measurements (0x501)",
            _NOT_YET,
        )
    return (read_launch(verified),)
