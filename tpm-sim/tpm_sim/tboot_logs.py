# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a launch by tboot leaves its log, and what of it each version of tboot writes.

tboot 1.9.6 did not append its own records to the crypto-agile log; 1.9.7 to 1.10.0
appended them at a wrong address, so that the log goes on with zeros; before 1.9.6
SINIT was never asked for such a log and kept one for each bank. What tboot printed is
right in all of them. Source: tboot common/tpm_20.c and txt/heap.c, changeset 1cea5ca.
"""

from __future__ import annotations

from pathlib import Path

from aemseal.words.digest import HashAlgorithm
from tpm_sim.eventlog import LogFormat, bank_log, binary_log
from tpm_sim.heap import HeapLog, heap_bytes, leave_heap
from tpm_sim.memory import write_memory
from tpm_sim.models import TbootModel
from tpm_sim.tboot_text import MEMORY_LOG_ADDRESS, ToldLaunch

FIRST_AGILE = (1, 9, 6)
FIRST_APPENDING = (1, 9, 7)
FIRST_RIGHT = (1, 10, 1)

_IN_MEMORY = (LogFormat.TXT_HEAP, LogFormat.TBOOT_MEMORY)


def leave_logs(root: Path, model: TbootModel, told: ToldLaunch) -> bytes:
    """Write the log in every form this machine keeps; return the first one's bytes."""
    log = _leave(root, model.log_format, told)
    for form in model.more_logs:
        _leave(root, form, told)
    return log


def forget_logs(root: Path) -> None:
    """Remove what an earlier boot left in files."""
    for form in LogFormat:
        if form not in _IN_MEMORY:
            (root / form.path).unlink(missing_ok=True)


def _leave(root: Path, form: LogFormat, told: ToldLaunch) -> bytes:
    if form is LogFormat.TXT_HEAP:
        log = heap_bytes(
            _heap_log(told), told.table, told.capabilities, told.bios_sinit_size
        )
        leave_heap(root, log)
        return log
    if form is LogFormat.TBOOT_MEMORY:
        log = told.memory_log()
        write_memory(root, MEMORY_LOG_ADDRESS, log)
        return log
    log = told.text() if form is LogFormat.TBOOT_TEXT else _binary(form, told)
    if form is LogFormat.TCG_AGILE and told.tboot.number < FIRST_AGILE:
        form = LogFormat.PER_BANK
        log = _binary(form, told)
    path = root / form.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)
    return log


def _binary(form: LogFormat, told: ToldLaunch) -> bytes:
    """Return the log as this tboot leaves it in one of the binary forms."""
    whole = binary_log(form, (*told.sinit, *told.own), told.banks)
    if form is not LogFormat.TCG_AGILE or told.tboot.number >= FIRST_RIGHT:
        return whole
    good = binary_log(form, told.sinit, told.banks)
    if told.tboot.number < FIRST_APPENDING:
        return good
    return good.ljust(len(whole), b"\0")


def _heap_log(told: ToldLaunch) -> HeapLog:
    form = told.log_format
    assert form is not None, "there is no log to be kept in the heap"
    if form is LogFormat.TXT_CONTAINER:
        return HeapLog.container(_binary(form, told))
    if form is LogFormat.TCG_AGILE and told.tboot.number >= FIRST_AGILE:
        return HeapLog.agile(_binary(form, told))
    records = (*told.sinit, *told.own)
    logs: list[tuple[HashAlgorithm, bytes]] = [
        (bank, bank_log(records, bank)) for bank in told.banks
    ]
    return HeapLog.banks(logs)
