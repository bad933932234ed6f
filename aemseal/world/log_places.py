# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a dynamic launch's event log is looked for on a running machine.

Never in the firmware's log (tpm0/binary_bios_measurements): it knows nothing of PCR
17 to 19. What is found is handed on unread; only whether it begins like a log at all
is looked at where an address was taken on trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from aemseal.words.errors import AemsealError, LogError
from aemseal.world.physical_memory import (
    MEMORY_FILE,
    PAGE_SIZE,
    AbsentError,
    PhysicalMemory,
)
from aemseal.world.rooted import Rooted, shown
from aemseal.world.tboot_memory import (
    MEMORY_LOG_ADDRESS,
    MEMORY_LOG_SIZE,
    memory_log_text,
)
from aemseal.world.xen_console import Run, find_reserved

LOG_LIMIT = 16 << 20

LOG_PLACES = (
    # The txt module of OpenXT's kernel: the launch's log in TCG form (TPM 2.0).
    "/sys/kernel/security/txt/tpm20_binary_evtlog_tcg",
    # The same log under the name that older ones of these kernels gave it.
    "/sys/kernel/security/txt/tpm20_binary_evtlog",
    # The same module where tboot or SINIT keeps a log for each bank (TPM 2.0).
    "/sys/kernel/security/txt/tpm20_binary_evtlog_legacy",
    # The same module on a TPM 1.2: the TXT event container.
    "/sys/kernel/security/txt/tpm12_binary_evtlog",
    # Linux, where it was itself launched by TrenchBoot (Secure Launch).
    "/sys/kernel/security/slaunch/eventlog",
)
"""The files in which a kernel hands the log on, in order."""

TXT_HEAP_REGISTERS = 0xFED30300
"""HEAP.BASE and HEAP.SIZE, 8 bytes each, in TXT's public space (Intel TXT Software
Development Guide, appendix B.1)."""

TXT_HEAP_LIMIT = 16 << 20
TXT_SPACE_END = 1 << 32
TXT_STAT = ("txt-stat",)
TXT_STAT_FILE = "/var/log/txt-stat"
"""What stands for txt-stat's output below a root that is not this machine's."""

_LOG_SIGNATURES = ((0, b"TXT Event Container\0"), (32, b"Spec ID Event0"))
"""Where a log has which bytes (TXT SDG appendix F; TCG PC Client PFP 10.4.5)."""

_TEXT_SIGNATURE = b"TBOOT log:"
"""What txt-stat prints before tboot's text (tboot utils/txt-stat.c)."""

_ELSEWHERE = "name the file in /etc/aemseal.yaml (event_log), if it is elsewhere"

FoundLog = tuple[str, bytes]
"""The place, for a person, and what is there."""


@dataclass(frozen=True, slots=True)
class LogPlaces:
    """All places of one machine. `named` is the configured one: the only one then.

    `run` runs a program; None below a root that is not this machine's.
    """

    files: Rooted
    run: Run | None
    named: str | None = None

    def logs(self) -> Iterator[FoundLog]:
        """Yield every log there is, the likeliest first; each is looked for in turn.

        LogError at the end, saying of each place why it gave none, when there is none.
        """
        absent: list[str] = []
        reasons: list[str] = []
        hints: list[str] = []
        is_found = False
        for look in self._looks():
            try:
                found = look()
            except AbsentError as error:
                absent.append(error.message)
            except AemsealError as error:
                reasons.append(error.message)
                hints += [error.hint] if error.hint else []
            else:
                is_found = True
                yield found
        if not is_found:
            raise _nowhere(absent, reasons, hints)

    def _looks(self) -> Iterator[Callable[[], FoundLog]]:
        places = LOG_PLACES if self.named is None else (self.named,)
        for place in places:
            yield partial(self._file, place)
        if self.named is None:
            yield self._reserved_by_xen
            yield self._txt_heap
            yield self._memory_log
            yield self._txt_stat

    def _file(self, place: str) -> FoundLog:
        data = self.files.read(place, LOG_LIMIT, LogError)
        if data is None:
            raise AbsentError(shown(place))
        return place, data

    @property
    def _memory(self) -> PhysicalMemory:
        return PhysicalMemory(self.files)

    def _reserved_by_xen(self) -> FoundLog:
        address, size = find_reserved(self.files, self.run)
        data = self._memory.read(address, size)
        if not any(data.startswith(sign, at) for at, sign in _LOG_SIGNATURES):
            raise LogError(
                f"no event log is at {address:#x}, which Xen's console names"
            )
        return f"the event log at {address:#x} that Xen reserved ({MEMORY_FILE})", data

    def _txt_heap(self) -> FoundLog:
        registers = self._memory.read(TXT_HEAP_REGISTERS, 16)
        base = int.from_bytes(registers[:8], "little")
        size = int.from_bytes(registers[8:], "little")
        _require_heap(base, size)
        data = self._memory.read(base, size)
        return f"the TXT heap at {base:#x} ({MEMORY_FILE})", data

    def _memory_log(self) -> FoundLog:
        data = self._memory.read(MEMORY_LOG_ADDRESS, MEMORY_LOG_SIZE)
        where = f"tboot's memory log at {MEMORY_LOG_ADDRESS:#x} ({MEMORY_FILE})"
        return where, memory_log_text(data)

    def _txt_stat(self) -> FoundLog:
        if self.run is None:
            return self._file(TXT_STAT_FILE)
        text = self.run(TXT_STAT)
        if _TEXT_SIGNATURE not in text:
            raise LogError("txt-stat finds no log of tboot's")
        return "the output of txt-stat", text


def _require_heap(base: int, size: int) -> None:
    """Refuse what cannot be a heap: the firmware puts it below 4 GiB, in whole pages.

    All FF is what the bus answers for a machine without TXT, zero for one whose
    firmware left it off.
    """
    if base == (1 << 64) - 1 or not base or not size:
        raise LogError("the TXT registers name no heap: there is no TXT, or it is off")
    is_sound = base % PAGE_SIZE == 0 and size <= TXT_HEAP_LIMIT
    if not is_sound or base + size > TXT_SPACE_END:
        raise LogError(
            f"the TXT registers name no sound heap: {size:#x} bytes at {base:#x}"
        )


def _nowhere(
    absent: Iterable[str], reasons: Iterable[str], hints: Iterable[str]
) -> LogError:
    """Return the one error that says of every place why it gave no log."""
    at = ", ".join(dict.fromkeys(absent))
    told = "; ".join(dict.fromkeys(reasons))
    message = "there is no event log of the launch" + (f" at {at}" if at else "")
    if told:
        message += f"{';' if at else ':'} {told}"
    return LogError(message, next(iter(hints), _ELSEWHERE))
