# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen says on its console of the event log that it set aside.

Xen started by TrenchBoot reserves the log's memory and tells where it lies, but hands
it to nobody. Sources: Xen's TrenchBoot series, arch/x86/slaunch.c
(slaunch_reserve_mem_regions): "(0xA - 0xB)" up to v4, "[0xA, 0xB)" later, B being the
first address after the log in both; drivers/char/console.c (console_init_preirq) for
the line that each boot begins with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from aemseal.words.errors import AemsealError, LogError
from aemseal.world.physical_memory import ADDRESS_LIMIT, AbsentError
from aemseal.world.rooted import Rooted, unreadable

CONSOLE_PROGRAM = ("xl", "dmesg")
CONSOLE_FILE = "/var/log/xen/console/hypervisor.log"
"""Where xenconsoled keeps the console, boot after boot, if it is told to (--log)."""

CONSOLE_LIMIT = 4 << 20
"""Bytes from the end of the console that are looked at: many boots of it."""

XEN_LOG_LIMIT = 1 << 20
"""Bytes of a log that Xen reserves; TrenchBoot's GRUB takes 32 KiB."""

Run = Callable[[Sequence[str]], bytes]
"""Runs a program and returns its output; AemsealError when that fails."""

_BOOT = re.compile(rb"^(?:\(XEN\)|\[[^\]\n]{0,40}\]| )*Xen version \d", re.MULTILINE)
"""With or without the time that Xen and xenconsoled put before a line."""

_CMDLINE = re.compile(
    rb"^(?:\(XEN\)|\[[^\]\n]{0,40}\]| )*Command line: ?([^\n]{0,4096})\n", re.MULTILINE
)
"""Source: Xen arch/x86/setup.c (__start_xen)."""

_RANGE = re.compile(
    rb"reserving event log "
    rb"(?:\((?P<from>0x[0-9a-f]{1,16}) - (?P<to>0x[0-9a-f]{1,16})\)"
    rb"|\[(?P<first>0x[0-9a-f]{1,16}), ?(?P<end>0x[0-9a-f]{1,16})\))"
)


def reserved_range(console: bytes) -> tuple[int, int] | None:
    """Return address and size of the log that the last boot on a console reserved.

    A boot begins with the line "Xen version"; what stands before the last one is of
    earlier boots. A console that lost its beginning (a ring buffer that went round)
    is of one boot. None where no whole line tells a range; LogError for a range that
    is empty, larger than XEN_LOG_LIMIT, or beyond what a machine can address.
    """
    boots = list(_BOOT.finditer(console))
    begin = boots[-1].start() if boots else 0
    found = list(_RANGE.finditer(console, begin))
    if not found:
        return None
    start, end = (int(each, 16) for each in found[-1].groups() if each is not None)
    if not 0 < end - start <= XEN_LOG_LIMIT or not 0 < start < end <= ADDRESS_LIMIT:
        raise LogError(f"Xen reserved no sound range for it: {start:#x} to {end:#x}")
    return start, end - start


def boot_cmdline(console: bytes) -> bytes | None:
    """Return the command line that the last boot on a console was given.

    None where the line is not there, or is cut off. A console shows what it cannot
    print otherwise: a line with such bytes tells nothing.
    """
    boots = list(_BOOT.finditer(console))
    if not boots:
        return None
    found = _CMDLINE.search(console, boots[-1].start())
    if found is None or not all(0x20 <= byte < 0x7F for byte in found[1]):
        return None
    return found[1]


def find_cmdline(files: Rooted, run: Run | None) -> bytes | None:
    """Return the running Xen's command line as it prints it, None where it does not.

    The hypervisor's own buffer is asked first; the console's file is only for where
    that buffer went round.
    """
    if run is not None:
        try:
            found = boot_cmdline(run(CONSOLE_PROGRAM)[-CONSOLE_LIMIT:])
        except AemsealError:
            found = None
        if found is not None:
            return found
    try:
        return boot_cmdline(_console_file(files))
    except (AbsentError, LogError):
        return None


def find_reserved(files: Rooted, run: Run | None) -> tuple[int, int]:
    """Return address and size of the event log that Xen reserved in this boot.

    `xl dmesg` is the running hypervisor's own word. Where its ring went round, the
    file of the console still has the line. The last boot in that file may be an
    earlier one, if nobody wrote it since: then the range holds something else, and
    whoever reads it must hold it against the TPM, as every log. Without `run` (below
    another root) the file stands for the program.

    AbsentError, LogError when neither tells, or what they tell makes no sense.
    """
    silent = []
    if run is not None:
        try:
            found = reserved_range(run(CONSOLE_PROGRAM)[-CONSOLE_LIMIT:])
        except LogError:
            raise
        except AemsealError as error:
            silent.append(error.message)
        else:
            if found is not None:
                return found
            silent.append(f"`{' '.join(CONSOLE_PROGRAM)}` names no event log")
    try:
        found = reserved_range(_console_file(files))
    except AbsentError as error:
        if run is None:
            raise
        raise LogError(", ".join([*silent, f"{error.message} is absent"])) from None
    if found is not None:
        return found
    raise LogError(", ".join([*silent, f"{CONSOLE_FILE} names no event log"]))


def _console_file(files: Rooted) -> bytes:
    """Return the end of the console's file."""
    file = files.open(CONSOLE_FILE, LogError)
    if file is None:
        raise AbsentError(CONSOLE_FILE)
    with file:
        try:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CONSOLE_LIMIT))
            return file.read(CONSOLE_LIMIT)
        except OSError as error:
            raise unreadable(CONSOLE_FILE, error, LogError) from None
