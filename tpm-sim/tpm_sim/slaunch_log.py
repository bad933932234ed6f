# SPDX-License-Identifier: GPL-2.0-or-later
"""A TrenchBoot launch's log in memory, and the line with which Xen tells where.

Sources: TrenchBoot/secure-kernel-loader event_log.c (AMD's header), TCG PC Client
Platform Firmware Profile 10.4, Xen arch/x86/slaunch.c (the line).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from aemseal.words.digest import HashAlgorithm
from tpm_sim.errors import SimulationError
from tpm_sim.eventlog import LogRecord, agile_records, spec_id_record
from tpm_sim.memory import write_memory
from tpm_sim.models import LogPlace, Processor, TrenchbootModel

LOG_SIZE = 0x8000
"""Bytes that GRUB keeps for the log."""

XEN_CONSOLE = "var/log/xen/console/hypervisor.log"
_VENDOR = struct.Struct("<QIII")
_UINTN_OF_8_BYTES = 2


def log_bytes(
    records: Sequence[LogRecord],
    banks: Sequence[HashAlgorithm],
    processor: Processor,
    address: int,
) -> bytes:
    """Return the log's whole buffer: header, records, zeros.

    AMD's header carries the log's address, size, first and next offset as vendor
    information; Intel's SINIT writes none.
    """
    events = agile_records(records, banks)
    vendor = b""
    if processor is Processor.AMD:
        size = len(spec_id_record(banks, _UINTN_OF_8_BYTES, bytes(_VENDOR.size)))
        vendor = _VENDOR.pack(address, LOG_SIZE, 0, size + len(events))
    log = spec_id_record(banks, _UINTN_OF_8_BYTES, vendor) + events
    if len(log) > LOG_SIZE:
        raise SimulationError("the launch's log is full")
    return log.ljust(LOG_SIZE, b"\0")


def leave_log(root: Path, model: TrenchbootModel, address: int, log: bytes) -> None:
    """Put the log where the machine keeps it."""
    if model.log_place is LogPlace.MEMORY:
        write_memory(root, address, log)
        return
    path = root / model.log_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)


def write_console(root: Path, boot: Sequence[str]) -> None:
    """Append what Xen said at this boot to the file that xenconsoled keeps.

    The file goes on over boots, each with a time of its own.
    """
    path = root / XEN_CONSOLE
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = path.read_text(encoding="utf-8") if path.exists() else ""
    number = earlier.count("Logfile Opened")
    stamp = f"[2026-11-23 {number // 60 % 24:02}:{number % 60:02}:07]"
    lines = [f"{stamp} Logfile Opened", *(f"{stamp} (XEN) {line}" for line in boot)]
    path.write_text(earlier + "\n".join(lines) + "\n", encoding="utf-8")


def console_of(
    model: TrenchbootModel, cmdline: bytes, address: int | None
) -> list[str]:
    """Return what Xen says; the log's line only after a launch that left one."""
    lines = [
        "Xen version 4.17.5 (Debian) (made@up) (gcc) debug=n Mon Nov 23 2026",
        "Latest ChangeSet: ",
        f"Bootloader: {model.loader_name}",
        f"Command line: {cmdline.decode('utf-8', 'replace')}",
        "Xen image load base address: 0",
        "Video information:",
        " VGA is text mode 80x25, font 8x16",
    ]
    if address is not None:
        line = model.reserving_line.value.format(start=address, end=address + LOG_SIZE)
        lines.append(line)
    return [*lines, "Xen-e820 RAM map:", "System RAM: 8107MB (8301656kB)"]
