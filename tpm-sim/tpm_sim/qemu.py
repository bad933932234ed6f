# SPDX-License-Identifier: GPL-2.0-or-later
"""A PC in QEMU, without KVM: disks, a serial console to read and type on, a power cut.

What works without KVM was measured: an Intel-like CPU without SMAP (Xen's dom0 dies of
it under TCG), and a small translation cache, which makes the way from GRUB to Xen twice
as fast.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tpm_sim.errors import SimulationError
from tpm_sim.qemu_tpm import QemuTpm

_POLL = 0.1
_KEYS = {" ": "spc", ".": "dot", "-": "minus"}
_KEY_SECONDS = 0.1
"""Between two keys: what the keyboard keeps until the guest reads it is 16 bytes."""


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """A kernel that QEMU itself loads, with its initramfs and command line."""

    kernel: Path
    initramfs: Path
    cmdline: str


@dataclass
class Pc:
    """A PC that is on for as long as the context lasts.

    `disks` are raw images, the first one boots; what is written to them is dropped
    unless `keeps`. `screen` gives it a VGA card for `picture`.
    """

    tpm: QemuTpm
    disks: Sequence[Path]
    folder: Path
    direct: DirectBoot | None = None
    keeps: bool = False
    screen: bool = False
    memory: int = 1280
    _read: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        self._log = self.folder / "console"
        self._monitor = self.tpm.path.with_name("qmp")
        self._monitor.unlink(missing_ok=True)
        self.started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._words(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()

    def _words(self) -> list[str]:
        snapshot = "off" if self.keeps else "on"
        words = [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=64"),
            *("-machine", "q35", "-cpu", "max,-smap", "-m", str(self.memory)),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-chardev", f"socket,id=chip,path={self.tpm.path}"),
            *(
                "-tpmdev",
                "emulator,id=tpm,chardev=chip",
                "-device",
                "tpm-tis,tpmdev=tpm",
            ),
            *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
        ]
        for disk in self.disks:
            words += ["-drive", f"file={disk},format=raw,if=ide,snapshot={snapshot}"]
        if self.screen:
            words += ["-device", "VGA"]
        if self.direct is not None:
            words += ["-kernel", str(self.direct.kernel)]
            words += ["-initrd", str(self.direct.initramfs)]
            words += ["-append", self.direct.cmdline]
        return words

    # --- the console ---

    @property
    def output(self) -> bytes:
        """Every byte on the console so far."""
        return self._log.read_bytes()

    @property
    def console(self) -> str:
        """Everything on the console so far, without escapes and carriage returns."""
        text = self.output.decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\x1b[=>c]", "", text)

    def wait_for(self, pattern: str, seconds: float) -> str:
        """Wait until something new on the console matches, and return the match.

        SimulationError, with the console's end, when it does not come in time or the
        machine goes off before.
        """
        deadline = time.monotonic() + seconds
        while True:
            is_off = self._process.poll() is not None
            found = re.compile(pattern, re.MULTILINE).search(self.console, self._read)
            if found is not None:
                self._read = found.end()
                return found[0]
            if is_off or time.monotonic() > deadline:
                why = "the machine went off" if is_off else f"not within {seconds:g} s"
                end = self.console[-2000:]
                raise SimulationError(f"no {pattern!r} on the console: {why}\n{end}")
            time.sleep(_POLL)

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait_until_off(self, seconds: float) -> None:
        """Wait until the machine has switched itself off; SimulationError if not."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            end = self.console[-2000:]
            raise SimulationError(f"still on after {seconds:g} s\n{end}") from None

    @property
    def is_off(self) -> bool:
        """Whether the machine has switched itself off."""
        return self._process.poll() is not None

    def cut(self) -> None:
        """Cut the power (kill -9)."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    # --- screen and keyboard ---

    def press(self, line: str) -> None:
        """Press the keys of a line, and Enter, on the keyboard beside the screen.

        Lower-case letters, digits, space, full stop, hyphen; KeyError for any other.
        """
        codes = [_KEYS.get(each, each) for each in line]
        if not all(each.isalnum() and each.isascii() for each in codes):
            raise KeyError(line)
        for code in (*codes, "ret"):
            keys = [{"type": "qcode", "data": code}]
            self._ask_monitor("send-key", {"keys": keys, "hold-time": 20})
            time.sleep(_KEY_SECONDS)

    def picture(self, path: Path) -> None:
        """Save what the VGA card shows as a PNG."""
        self._ask_monitor("screendump", {"filename": str(path), "format": "png"})

    def _ask_monitor(self, command: str, arguments: dict[str, object]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.settimeout(10)
            monitor.connect(str(self._monitor))
            lines = monitor.makefile("rw", encoding="utf-8")
            lines.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": command, "arguments": arguments},
            ):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    if "error" in answer:
                        raise SimulationError(f"QEMU: {answer['error']}")
