# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory by /dev/mem: the TXT registers, the TXT heap, what Xen set aside.

Which addresses may be read is the kernel's to say. With CONFIG_STRICT_DEVMEM it gives
device space and what the memory map reserves, refuses RAM (EPERM) and shows RAM below
1 MiB as zeros; lockdown shuts all of it. Source: Linux drivers/char/mem.c (read_mem),
arch/x86/mm/init.c (devmem_is_allowed).
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from dataclasses import dataclass

from aemseal.words.errors import LogError
from aemseal.world.rooted import Rooted, unreadable, why

MEMORY_FILE = "/dev/mem"
MEMORY_DEVICE = os.makedev(1, 1)
"""Linux Documentation/admin-guide/devices.txt."""

PAGE_SIZE = 4096
ADDRESS_LIMIT = 1 << 52
"""The physical addresses that x86-64 allows for (Intel SDM 3A, 4.1.4)."""

READ_LIMIT = 16 << 20
"""Bytes of one read: more than any TXT heap or event log takes."""

_SHUT = (
    "the kernel keeps /dev/mem shut here (CONFIG_STRICT_DEVMEM or lockdown): "
    "have the log copied to a file, and name it in /etc/aemseal.yaml (event_log)"
)


class AbsentError(LogError):
    """There is nothing at a place; `message` is the place alone."""


@dataclass(frozen=True, slots=True)
class PhysicalMemory:
    """/dev/mem below a root; a sparse regular file of that name serves as well."""

    files: Rooted

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from `address` on, exactly `size` of them.

        A page at a time, so that an error is of the page it names. What `read`
        refuses as beyond RAM (EFAULT; in a dom0 with little memory that is all device
        space) is mapped instead. EINTR is Python's to deal with (PEP 475).

        AbsentError when there is no /dev/mem; LogError, naming the address, when it
        is not the memory device, may not be read, or ends before. ValueError for a
        range that no caller may ask for.
        """
        end = address + size
        if not (0 <= address < end <= ADDRESS_LIMIT and size <= READ_LIMIT):
            raise ValueError(f"{size} bytes of memory at {address:#x}")
        file = self._open()
        try:
            at, pages = address, []
            while at < end:
                page = _read_page(file, at, min(end, _next_page(at)))
                pages.append(page)
                at += len(page)
            return b"".join(pages)
        finally:
            os.close(file)

    def _open(self) -> int:
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            real = self.files.real(MEMORY_FILE)
            if not _is_memory(os.lstat(real)):
                raise LogError(f"{MEMORY_FILE} is not the memory device")
            return os.open(real, flags)
        except FileNotFoundError:
            raise AbsentError(MEMORY_FILE) from None
        except OSError as error:
            raise unreadable(MEMORY_FILE, error, LogError) from None


def _is_memory(found: os.stat_result) -> bool:
    is_device = stat.S_ISCHR(found.st_mode) and found.st_rdev == MEMORY_DEVICE
    return is_device or stat.S_ISREG(found.st_mode)


def _next_page(address: int) -> int:
    return (address // PAGE_SIZE + 1) * PAGE_SIZE


def _read_page(file: int, start: int, end: int) -> bytes:
    """Read at least one byte of a page, at most up to `end`."""
    try:
        data = os.pread(file, end - start, start)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise _refused(start, error) from None
        data = _map_page(file, start, end)
    if not data:
        raise LogError(f"{MEMORY_FILE} ends before {start:#x}")
    return data


def _map_page(file: int, start: int, end: int) -> bytes:
    base = start // PAGE_SIZE * PAGE_SIZE
    try:
        with mmap.mmap(file, PAGE_SIZE, prot=mmap.PROT_READ, offset=base) as page:
            return page[start - base : end - base]
    except (OSError, ValueError) as error:
        raise _refused(start, error) from None


def _refused(address: int, error: OSError | ValueError) -> LogError:
    is_shut = isinstance(error, PermissionError)
    words = why(error) if isinstance(error, OSError) else "it cannot be mapped"
    return LogError(
        f"{MEMORY_FILE} cannot be read at {address:#x}: {words}",
        _SHUT if is_shut else None,
    )
