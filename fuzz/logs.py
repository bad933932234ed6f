# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: event logs of every kind, and what leads to them."""

from __future__ import annotations

import json
from collections.abc import Callable

from aemseal.formats.event_log import parse_event_log
from aemseal.formats.per_bank_log import parse_per_bank_log
from aemseal.formats.reader import ByteReader
from aemseal.formats.sinit_mle import read_sinit_mle_data
from aemseal.formats.tboot_facts import read_tboot_facts
from aemseal.formats.tboot_text import parse_tboot_text
from aemseal.formats.tcg_log import MAXIMAL_EVENTS, parse_tcg_log
from aemseal.formats.txt_heap import is_txt_heap, parse_txt_heap
from aemseal.formats.txt_heap_log import read_heap_log
from aemseal.formats.txt_log import parse_skl_container, parse_txt_container
from aemseal.measure.log_report import log_report
from aemseal.measure.replay import replay
from aemseal.words.digest import Digest
from aemseal.words.errors import FormatError, LogError
from aemseal.words.events import EventLog
from aemseal.world.tboot_memory import MEMORY_LOG_SIZE, memory_log_text
from aemseal.world.xen_console import (
    XEN_LOG_LIMIT,
    boot_cmdline,
    reserved_range,
)
from fuzz import log_seeds
from fuzz.contract import KIB, MIB, Target

_LOG_ERRORS = (FormatError, LogError)


def require_sound(log: EventLog) -> None:
    """Hold a log's events against what it says of itself, and replay it."""
    assert len(log.events) <= MAXIMAL_EVENTS
    assert len(set(log.algorithms)) == len(log.algorithms)
    for number, event in enumerate(log.events):
        assert event.number == number
        assert set(event.digests) <= set(log.algorithms) or number == 0
        for algorithm, digest in event.digests.items():
            assert digest == Digest(algorithm, digest.value)
    json.dumps(log_report(log, replay(log)))


def _a_log(parse: Callable[[bytes], EventLog]) -> Callable[[bytes], None]:
    return lambda data: require_sound(parse(data))


def _heap(data: bytes) -> None:
    told = is_txt_heap(data)
    heap = parse_txt_heap(data)
    assert told, "what is parsed was not told"
    require_sound(read_heap_log(heap))


def _sinit_mle(data: bytes) -> None:
    table = read_sinit_mle_data(ByteReader(data))
    table.pcr_17_after_hash_start()
    assert len(table.combined_hash_data(0x602)) in (76, 80)


def _memory_log(data: bytes) -> None:
    text = memory_log_text(data.ljust(MEMORY_LOG_SIZE, b"\0"))
    require_sound(parse_tboot_text(text))


def _console(data: bytes) -> None:
    cmdline = boot_cmdline(data)
    assert cmdline is None or cmdline.decode("ascii").isprintable()
    found = reserved_range(data)
    assert found is None or 0 < found[1] <= XEN_LOG_LIMIT


TARGETS = (
    Target(
        "event_log",
        _a_log(parse_event_log),
        _LOG_ERRORS,
        log_seeds.every_log,
        most=16 * KIB,
    ),
    Target(
        "tcg_log",
        _a_log(parse_tcg_log),
        _LOG_ERRORS,
        log_seeds.tcg_logs,
        most=16 * KIB,
    ),
    Target(
        "txt_log",
        _a_log(parse_txt_container),
        _LOG_ERRORS,
        log_seeds.containers,
    ),
    Target(
        "skl_log",
        _a_log(parse_skl_container),
        _LOG_ERRORS,
        log_seeds.containers,
        most=16 * KIB,
    ),
    Target(
        "per_bank_log",
        _a_log(parse_per_bank_log),
        _LOG_ERRORS,
        log_seeds.bank_logs,
        most=16 * KIB,
    ),
    Target("txt_heap", _heap, _LOG_ERRORS, log_seeds.heaps, most=16 * KIB),
    Target("sinit_mle", _sinit_mle, _LOG_ERRORS, log_seeds.sinit_tables),
    Target(
        "tboot_text",
        _a_log(parse_tboot_text),
        _LOG_ERRORS,
        log_seeds.texts,
        most=64 * KIB,
    ),
    Target("tboot_facts", read_tboot_facts, (), log_seeds.texts, most=64 * KIB),
    Target(
        "tboot_memory",
        _memory_log,
        _LOG_ERRORS,
        log_seeds.memory_logs,
        # The packed parts of 32 KiB may be ten times that text.
        base=8 * MIB,
        most=MEMORY_LOG_SIZE,
        names_place=False,
    ),
    Target("xen_console", _console, (LogError,), log_seeds.consoles),
)
