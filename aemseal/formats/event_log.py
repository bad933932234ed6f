# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way in for event logs: tells the formats apart by their content."""

from __future__ import annotations

from aemseal.formats import (
    per_bank_log,
    tboot_text,
    tcg_log,
    txt_heap,
    txt_heap_log,
    txt_log,
)
from aemseal.words.events import EventLog


def parse_event_log(data: bytes) -> EventLog:
    """Read an event log of any format known; `EventLog.format` says which it was.

    A crypto-agile log's Spec ID record is event 0. Zeros or FF after the last record
    are the rest of a fixed-size buffer. At most `tcg_log.MAXIMAL_EVENTS` events, and
    no more memory than in proportion to `data`, whatever its size fields claim.

    The order is from what is told by a signature to what is not: a page of a per-bank
    log and a SHA-1 log begin like each other, and nothing marks a heap but that its
    tables agree.

    Raises FormatError, naming the offset, when the bytes are foreign, damaged or cut
    off, LogError when they are a log that contradicts itself, or a heap without one.
    """
    if data.startswith(txt_log.SIGNATURE):
        return txt_log.parse_txt_container(data)
    if txt_log.is_skl_container(data):
        return txt_log.parse_skl_container(data)
    if tboot_text.is_tboot_text(data):
        return tboot_text.parse_tboot_text(data)
    if tcg_log.has_agile_head(data):
        return tcg_log.parse_tcg_log(data)
    if per_bank_log.is_per_bank_log(data):
        return per_bank_log.parse_per_bank_log(data)
    if txt_heap.is_txt_heap(data):
        return txt_heap_log.read_heap_log(txt_heap.parse_txt_heap(data))
    return tcg_log.parse_tcg_log(data)
