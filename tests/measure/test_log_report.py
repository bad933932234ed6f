# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON object of a log."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from replayed_logs import (
    DATA,
    SHA1,
    SHA256,
    START,
    event,
    fold,
    log_of,
    sha256,
    tboot_log,
)

from aemseal.measure.log_report import log_report
from aemseal.measure.replay import replay


class TestReport:
    def test_it_is_the_contract_of_the_command_line(self) -> None:
        log = log_of(
            event(0, 17, START, DATA, form="set"),
            event(0, 255, 0x401, b"\1"),
            event(0, 17, 0x501, b"xen", banks=(SHA256,)),
        )
        result = replay(log)
        report = log_report(log, result)
        assert json.loads(json.dumps(report)) == {
            "schema": "aemseal.log/1",
            "format": "tcg-agile",
            "algorithms": ["sha1", "sha256"],
            "events": [
                {
                    "number": each.number,
                    "pcr": each.pcr,
                    "type": kind,
                    "name": name,
                    "digests": {str(a): d.hex for a, d in each.digests.items()},
                    "data": data,
                }
                for each, kind, name, data in zip(
                    log.events,
                    ["0x402", "0x401", "0x501"],
                    ["HASH_START", "PCR_MAPPING", "TBOOT"],
                    [DATA.hex(), "01", b"xen".hex()],
                    strict=True,
                )
            ],
            "pcrs": {
                "sha1": {
                    "17": hashlib.sha1(bytes(20) + SHA1.hash(DATA).value).hexdigest()
                },
                "sha256": {"17": fold(sha256(DATA), sha256(b"xen")).hex()},
            },
            "quirks": [
                {
                    "event": 0,
                    "name": "hash-start-logs-pcr-value",
                    "effect": result.quirks[0].effect,
                }
            ],
            "coverage": {
                "sha1": {"17": {"complete": False, "missing": [2]}},
                "sha256": {"17": {"complete": True, "missing": []}},
            },
        }

    def test_unknown_algorithms_are_named(self) -> None:
        log = dataclasses.replace(tboot_log(), unknown_algorithms=(0x27,))
        assert log_report(log, replay(log))["unknown_algorithms"] == ["0x27"]
