# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs around the hook, below a folder: nothing here is to be powered off.

The programs are the shipped ones with their paths changed. The hook itself, blkid,
cryptsetup and what powers off are scripts of a few lines; the console is a terminal.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOOKS = Path(__file__).parents[2] / "boot-hooks"
KNOWN = "boot it blindly"
UUID = "3f2a7c61-9c0e-4a55-8f0d-5d1f6f1c2b30"
OTHER = "77777777-9c0e-4a55-8f0d-5d1f6f1c2b30"
PATIENCE = 60.0
_BLKID = """\
for each; do spec=$each; done
grep -- "^$spec " {folder}/devices | cut -d' ' -f2 | grep . || exit 2
"""
_CRYPTSETUP = """\
echo "$*" >>{folder}/cryptsetup.said
case $1 in
    luksDump) cat {folder}/dump.${{2##*/}} 2>/dev/null ;;
    luksUUID) echo none ;;
esac
"""


@dataclass(frozen=True)
class Ended:
    """How it ended: the exit code, and whether the machine was switched off."""

    code: int
    screen: str
    powered_off: bool


class Initramfs:
    """Its programs, in a folder; `systemd` is whether there is one."""

    def __init__(self, folder: Path, *, systemd: bool = False) -> None:
        self.folder = folder
        self.run_folder = folder / "run"
        self.keys = folder / "keys.d"
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in ("systemctl", "modprobe", "umount", "mount", "sync"):
            self.write_tool(name, "exit 1")
        self.write_tool("blkid", _BLKID.format(folder=folder))
        self.write_tool("cryptsetup", _CRYPTSETUP.format(folder=folder))
        # No splash is there to answer; with one it is test_boot_hook_front.py's.
        self.write_tool("plymouth", f"echo \"$*\" >>'{folder}/plymouth.said'; exit 1")
        self.write_core("exit 10")
        (folder / "systemd").mkdir(exist_ok=systemd)
        if not systemd:
            (folder / "systemd").rmdir()
        self.write_tool("systemd-ask-password", f"cat {folder}/answer")
        (folder / "answer").write_text("\n")
        (folder / "boot.conf").write_text("")
        (folder / "devices").write_text("")
        self.cmdline = f"root=/dev/mapper/x rd.luks.uuid=luks-{UUID}"
        self.mapper = folder / "mapper"
        self.crypttab = folder / "crypttab"
        self._install()

    def write_tool(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def write_vault(self, *kinds: str) -> None:
        """What the medium says is sealed."""
        medium = self.folder / "medium"
        medium.mkdir(exist_ok=True)
        lines = [f"secret {kind} {kind} 0 1" for kind in kinds]
        (medium / "vault").write_text("\n".join(["aemseal-vault 1", *lines, ""]))

    def write_core(self, script: str) -> None:
        """Have the hook be this; it knows `run`."""
        self.write_tool("core", f"run={self.run_folder}\n{script}")

    def _install(self) -> None:
        shutil.copytree(HOOKS / "lib", self.folder / "lib")
        changes = {
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin": f"PATH={self.tools}:/usr/bin:/bin",
            "core=/usr/lib/aemseal/aemseal-unseal": f"core={self.tools / 'core'}",
            "run=/run/aemseal\n": f"run={self.run_folder}\n",
            "place=/run/aemseal-medium": f"place={self.folder / 'medium'}",
            "etc=/etc/aemseal": f"etc={self.folder}",
            "=/proc/cmdline": f"={self.folder / 'cmdline'}",
            "=/dev/disk/by-uuid": f"={self.folder / 'by-uuid'}",
            "=/dev/mapper": f"={self.folder / 'mapper'}",
            "=/etc/crypttab": f"={self.folder / 'crypttab'}",
            "=/run/cryptsetup-keys.d": f"={self.folder / 'keys.d'}",
            "=/dev/console": f"={self.folder / 'console'}",
            "=/run/systemd/system": f"={self.folder / 'systemd'}",
            "tpm_seconds=15": "tpm_seconds=0",
            "disk_seconds=30": "disk_seconds=0",
            "medium_seconds=30": "medium_seconds=0",
            "/proc/sysrq-trigger": str(self.folder / "powered-off"),
            "sleep 30": ":",
        }
        text = (HOOKS / "aemseal-boot").read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "aemseal-boot").write_text(text)
        self._install_root()

    def _install_root(self) -> None:
        text = (HOOKS / "aemseal-root").read_text()
        for old, new in {
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin": f"PATH={self.tools}:/usr/bin:/bin",
            "=/dev/console": f"={self.folder / 'console'}",
            "/sys/dev/block": str(self.folder / "sys"),
            '"/dev/$name"': f'"{self.folder}/dev/$name"',
            "/dev/${": f"{self.folder}/dev/${{",
            '[ -b "$device" ]': '[ -f "$device" ]',
            "        /dev/*)": f"        {self.folder}/dev/*)",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "aemseal-root").write_text(text)

    def alter(self, old: str, new: str) -> None:
        """Change one place of aemseal-boot."""
        path = self.folder / "aemseal-boot"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    @contextmanager
    def boot(self, shell: tuple[str, ...] = ("/bin/sh",)) -> Iterator[Booting]:
        """Start aemseal-boot with a terminal as its console and its screen."""
        (self.folder / "cmdline").write_text(f"{self.cmdline}\n")
        master, slave = pty.openpty()
        console = self.folder / "console"
        console.unlink(missing_ok=True)
        console.symlink_to(os.ttyname(slave))
        process = subprocess.Popen(
            [*shell, str(self.folder / "aemseal-boot")],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        try:
            yield Booting(self, process, master, slave)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(slave)
            os.close(master)

    def ended(self, shell: tuple[str, ...] = ("/bin/sh",)) -> Ended:
        """Boot to the end; nobody types."""
        with self.boot(shell) as booting:
            return booting.end()

    def check_root(
        self, shell: tuple[str, ...] = ("/bin/sh",)
    ) -> subprocess.CompletedProcess[str]:
        """Run aemseal-root; what its screen shows in the end is the result's stdout."""
        (self.folder / "cmdline").write_text(f"{self.cmdline}\n")
        console = self.folder / "console"
        console.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(*shell, str(self.folder / "aemseal-root")),
                *("-r", str(self.run_folder), "-c", str(self.folder / "cmdline")),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if console.exists():
            done.stdout += console.read_text().rpartition("\033[3J")[2]
        return done

    def write_record(self, *secrets: str, outcome: str = "unsealed") -> str:
        """Lines of sh that write a record as the hook does."""
        lines = [
            *("aemseal-record 2", "bank sha256", f"outcome {outcome}"),
            *(f"secret {kind} {kind}" for kind in secrets),
        ]
        words = " ".join(f"'{line}'" for line in lines)
        return f"printf '%s\\n' {words} >$run/beside\nmv $run/beside $run/record\n"

    def left(self) -> Mapping[str, bytes]:
        """The files that are left in /run/aemseal."""
        return {each.name: each.read_bytes() for each in self.run_folder.iterdir()}


@dataclass
class Booting:
    """A boot that goes on; `screen` is what was on the console so far."""

    machine: Initramfs
    process: subprocess.Popen[bytes]
    master: int
    slave: int
    screen: str = ""

    def _look(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.screen += os.read(self.master, 4096).decode(errors="replace")

    def see(self, words: str) -> None:
        """Wait for words on the screen."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.screen:
            assert time.monotonic() < deadline, self.screen
            self._look(0.1)

    def type(self, line: str) -> None:
        os.write(self.master, line.encode() + b"\n")

    def end(self) -> Ended:
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen
            self._look(0.1)
        while select.select([self.master], [], [], 0.2)[0]:
            self._look(0)
        off = (self.machine.folder / "powered-off").exists()
        return Ended(self.process.returncode, self.screen, off)
