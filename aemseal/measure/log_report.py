# SPDX-License-Identifier: GPL-2.0-or-later
"""The "aemseal.log/1" JSON object: a log and its replay as plain values."""

from __future__ import annotations

from aemseal.measure.replay import Replay
from aemseal.words.events import Event, EventLog

SCHEMA = "aemseal.log/1"


def log_report(log: EventLog, replay: Replay) -> dict[str, object]:
    """Return the object that `aemseal log --json` prints.

    Digests and data are lower-case hex, a type is "0x402", PCRs are decimal strings.
    `pcrs` is the replay and no statement about any TPM. `unknown_algorithms` (TCG
    identifiers) is there only when the log names banks this program does not know,
    `rebuilt` only when events were made from tables because no log has them.
    """
    report: dict[str, object] = {
        "schema": SCHEMA,
        "format": log.format,
        "algorithms": [str(algorithm) for algorithm in log.algorithms],
        "events": [_event(event) for event in log.events],
        "pcrs": {
            str(algorithm): {str(pcr): value.hex for pcr, value in bank.values.items()}
            for algorithm, bank in replay.banks.items()
        },
        "quirks": [
            {"event": quirk.event, "name": quirk.name, "effect": quirk.effect}
            for quirk in replay.quirks
        ],
        "coverage": {
            str(algorithm): {
                str(pcr): {"complete": not numbers, "missing": list(numbers)}
                for pcr, numbers in missing.items()
            }
            for algorithm, missing in replay.missing.items()
        },
    }
    if log.rebuilt:
        report["rebuilt"] = True
    if log.unknown_algorithms:
        report["unknown_algorithms"] = [f"{each:#x}" for each in log.unknown_algorithms]
    return report


def _event(event: Event) -> dict[str, object]:
    return {
        "number": event.number,
        "pcr": event.pcr,
        "type": event.type_hex,
        "name": event.name,
        "digests": {str(each): digest.hex for each, digest in event.digests.items()},
        "data": event.untrusted_data.hex(),
    }
