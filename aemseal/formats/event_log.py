# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way in for binary event logs: tells the formats apart by their content."""

from __future__ import annotations

from aemseal.formats import tcg_log, txt_log
from aemseal.words.events import EventLog


def parse_event_log(data: bytes) -> EventLog:
    """Read an event log of any format known: "txt-container", "tcg-agile", "tcg-sha1".

    A crypto-agile log's Spec ID record is event 0. Zeros or FF after the last record
    are the rest of a fixed-size buffer. At most `tcg_log.MAXIMAL_EVENTS` events, and
    no more memory than in proportion to `data`, whatever its size fields claim.

    Raises FormatError, naming the offset, when the bytes are foreign, damaged or cut
    off, LogError when they are a log of a kind that is known but not read.
    """
    if data.startswith(txt_log.SIGNATURE):
        return txt_log.parse_txt_container(data)
    return tcg_log.parse_tcg_log(data)
