# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a GRUB script in grub-emu and return what it showed on its screen.

The screen is a pseudo terminal, because grub-emu breaks lines at the terminal's width
and takes 80 columns for anything else.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import tempfile
import termios
import time
import tty
from collections.abc import Sequence
from pathlib import Path

from tpm_sim.errors import SimulationError

DEADLINE = 20.0
"""Seconds for one run; it takes about 0.05."""

_COLUMNS = 32000
_KEYS = b"\n" * 256
"""Keys for "Press any key to continue", which GRUB says after an error."""


def run_script(program: Path, script: str, *ends: str) -> str:
    """Run a script as grub.cfg until GRUB exits, or has shown one of the texts.

    Lines of the result end with a line feed. SimulationError after the deadline.
    """
    with tempfile.TemporaryDirectory(prefix="grub-") as name:
        folder = Path(name)
        (folder / "grub.cfg").write_text(script, encoding="utf-8")
        (folder / "keys").write_bytes(_KEYS)
        output = _screen_of(program, folder, [end.encode() for end in ends])
    return output.decode("utf-8", "replace").replace("\n\r", "\n")


def _screen_of(program: Path, folder: Path, ends: Sequence[bytes]) -> bytes:
    screen, terminal = pty.openpty()
    try:
        process = _start(program, folder, terminal)
        try:
            return _read_until(screen, process, ends)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(screen)


def _start(program: Path, folder: Path, terminal: int) -> subprocess.Popen[bytes]:
    """Start grub-emu on a wide terminal, which is closed on this side."""
    try:
        tty.setraw(terminal)
        size = struct.pack("HHHH", 24, _COLUMNS, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        with open(folder / "keys", "rb") as keys:
            return subprocess.Popen(
                [program, "-m", "/dev/null", "-d", folder],
                stdin=keys,
                stdout=terminal,
                stderr=terminal,
                env={"TERM": "dumb"},
            )
    finally:
        os.close(terminal)


def _read_until(
    screen: int, process: subprocess.Popen[bytes], ends: Sequence[bytes]
) -> bytes:
    output = b""
    deadline = time.monotonic() + DEADLINE
    while not any(end in output for end in ends):
        ready, _, _ = select.select([screen], [], [], deadline - time.monotonic())
        if not ready or time.monotonic() > deadline:
            raise SimulationError(f"GRUB did not come to an end: {output[-200:]!r}")
        try:
            part = os.read(screen, 65536)
        except OSError:  # EIO: grub-emu ended by itself
            if process.wait(DEADLINE) < 0:
                raise SimulationError("GRUB was killed") from None
            break
        output += part
    return output
