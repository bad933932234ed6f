# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with all three kinds of secrets: text, one-time code and the disk's key."""

from __future__ import annotations

import base64
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

from boot_world import BootWorld
from tpm_sim.luks_root import PASSPHRASE

from aemseal.formats.totp import totp

PIN = "ford-at-dusk"
_KEY = re.compile(rb"    ((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})   \(time-based")
_PATIENCE = 120.0


class GuardedWorld(BootWorld):
    """Its medium is carried along: text and code have no PIN, the disk's key has."""

    seed = b""
    """The one-time code's."""

    def seal_three(self) -> None:
        """Seal them one beside the other, and have the boot that uses all accepted."""
        self.enrol()
        self.confirm_here()
        self.seed = self._scan_code()
        words = ("--pin-file", write_pin(self.folder, PIN))
        self.did("enrol", "keyfile", *words, stdin=PASSPHRASE.decode())
        self.confirm_here(PIN)

    def codes(self, now: float) -> set[str]:
        """What the phone shows, and what it shows half a minute before and after."""
        return {totp(self.seed, now + offset) for offset in (-30, 0, 30)}

    def _scan_code(self) -> bytes:
        """Seal a one-time code: a person without PIN types what the phone says."""
        master, slave = pty.openpty()
        words = ("enrol", "totp", "--root", str(self.root))
        tool = subprocess.Popen(
            [sys.executable, "-m", "aemseal.face.cli", *words],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM": "xterm",
                "TPM2TOOLS_TCTI": self.machine.tcti,
            },
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        try:
            return _sit(master, tool)
        finally:
            tool.kill()
            tool.wait()
            os.close(master)


def _sit(terminal: int, tool: subprocess.Popen[bytes]) -> bytes:
    """Answer what is asked: no PIN, then the phone's code. Returns the seed."""
    screen, seed, answered = b"", b"", 0
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break  # the tool has ended
        if not part:
            break
        screen += part.replace(b"\r", b"")
        for found in _KEY.findall(screen):
            seed = base64.b32decode(found.replace(b" ", b""))
        if screen.endswith(b": ") and len(screen) > answered:
            answered = len(screen)
            code = totp(seed, time.time()) if seed else ""
            os.write(terminal, f"{code}\n".encode())
    assert tool.wait(_PATIENCE) == 0, screen.decode(errors="replace")
    return seed


def write_pin(folder: Path, pin: str) -> str:
    """Write a PIN where the tool is to read it; returns the file's path."""
    path = folder / "pin"
    path.write_text(f"{pin}\n", encoding="ascii")
    return str(path)
