# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a program and count what it starts: `count_processes.py FILE PROGRAM ...`.

Writes two numbers to FILE: processes (the program's own among them) and programs that
were executed in them. A parent may trace its own children, so this needs no root.
Source: ptrace(2). Nothing but the standard library, and not a part of a package, so
that it starts with nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_TRACE_ME, _CONTINUE, _SET_OPTIONS = 0, 7, 0x4200
_FORK, _VFORK, _CLONE, _EXEC = 1, 2, 3, 4
_OPTIONS = 1 << _FORK | 1 << _VFORK | 1 << _CLONE | 1 << _EXEC
_ALL_CHILDREN = 0x40000000
"""__WALL: also children that were made by clone."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _trace(request: int, process: int, data: int = 0) -> None:
    if _libc.ptrace(request, process, None, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _start(command: list[str]) -> int:
    process = os.fork()
    if process == 0:
        _trace(_TRACE_ME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execvp(command[0], command)
    os.waitpid(process, _ALL_CHILDREN)
    _trace(_SET_OPTIONS, process, _OPTIONS)
    _trace(_CONTINUE, process)
    return process


def run(command: list[str]) -> tuple[int, int, int]:
    """Run it to its end; its exit code, the processes and the programs."""
    first = _start(command)
    code, processes, programs = 1, 1, 0
    while True:
        try:
            process, status = os.waitpid(-1, _ALL_CHILDREN)
        except ChildProcessError:
            return code, processes, programs
        if not os.WIFSTOPPED(status):
            if process == first:
                code = os.waitstatus_to_exitcode(status)
            continue
        event = status >> 16
        processes += event in (_FORK, _VFORK, _CLONE)
        programs += event == _EXEC
        stop = os.WSTOPSIG(status)
        ours = stop in (signal.SIGTRAP, signal.SIGSTOP)
        try:
            _trace(_CONTINUE, process, 0 if ours else stop)
        except OSError:
            continue  # it was killed while it was stopped


if __name__ == "__main__":
    exit_code, *counts = run(sys.argv[2:])
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(" ".join(map(str, counts)))
    sys.exit(exit_code)
