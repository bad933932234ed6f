# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated laptop with the command line on it, run in this very process.

`Laptop.aemseal` is what a person types; `Laptop.kept` is all that a command could
have written, on the disk and in the TPM, so that a refusal can be held to its word.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tpm_sim.initramfs import HookRun, build_command, run_hook
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, MachineModel

from aemseal.face.cli import main

READING = ("log", "predict", "status", "plan", "explain")
KERNEL = "/boot/vmlinuz"
SECRET = "the heron stands in the ford at dusk"
_TPM_STATE = "tpm2-00.permall"
"""What swtpm keeps while it is off."""

_LARGE = 1 << 20
_NV, _PERSISTENT = 0x01000000, 0x81000000
_LOCK = "var/lib/aemseal/lock"


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: its exit code, its stdout and its stderr."""

    code: int
    out: str
    told: str

    @property
    def report(self) -> dict[str, Any]:
        """stdout as the one JSON object that it must be; ValueError for two."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        """The line after `aemseal: error:`."""
        return self._after("aemseal: error: ")

    @property
    def hint(self) -> str:
        """The line after `aemseal: hint:`, empty where there is none."""
        return self._after("aemseal: hint: ")

    def _after(self, mark: str) -> str:
        lines = [each for each in self.told.splitlines() if each.startswith(mark)]
        assert len(lines) <= 1, self.told
        return lines[0].removeprefix(mark) if lines else ""


def run(
    *arguments: str,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run the command line in this process, its streams being files.

    The environment is the one given alone: no TPM, unless it names one.
    """
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as told,
        _streams(io.BytesIO(stdin), out, told),
    ):
        code = main(arguments, {} if environment is None else environment)
        sys.stdout.flush()
        sys.stderr.flush()
        return Ran(code, _text(out), _text(told))


def _text(file: Any) -> str:
    file.seek(0)
    found: bytes = file.read()
    return found.decode()


@contextmanager
def _streams(stdin: Any, stdout: Any, stderr: Any) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    made = [
        io.TextIOWrapper(each, encoding="utf-8") for each in (stdin, stdout, stderr)
    ]
    sys.stdin, sys.stdout, sys.stderr = made
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for each in made:
            each.detach()


CARRIED = "media: [{label: stick, path: /boot/aemseal, carried: true}]\n"
"""A /boot on a stick that its owner takes along: no PIN has to be asked for."""


class Laptop:
    """A machine, its /boot, and the commands given on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        command = json.dumps(build_command(machine.root))
        self.write("/etc/aemseal.yaml", f"initramfs_command: {command}\n{CARRIED}")

    @property
    def root(self) -> Path:
        return self.machine.root

    def path(self, inside: str) -> Path:
        """Return where a path of the machine lies."""
        return self.root / inside.lstrip("/")

    def write(self, inside: str, content: str | bytes) -> Path:
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def aemseal(self, *arguments: str, stdin: str | bytes = b"") -> Ran:
        """Give a command on this machine."""
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        return run(
            *arguments,
            *("--root", str(self.root)),
            stdin=data,
            environment={"TPM2TOOLS_TCTI": self.machine.tcti},
        )

    def enrol(self, *arguments: str) -> Ran:
        return self.aemseal("enrol", "text", *arguments, stdin=SECRET)

    def reboot(self, *, unmeasured: bool = False) -> HookRun | None:
        """Switch off and on; the hook of the booted initramfs runs, if it has one."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        hook = None if unmeasured else run_hook
        found = self.machine.boot(hook, unmeasured=unmeasured).hook_result
        assert found is None or isinstance(found, HookRun)
        return found

    def shows_the_secret(self) -> bool:
        """Reboot, and say whether the hook showed the secret."""
        found = self.reboot()
        if found is not None:  # pytest shows it where a test fails
            print(f"the hook: exit code {found.exit_code}, {found.told}")
        return found is not None and found.exit_code == 0 and SECRET in found.shown

    # --- what must not change ---

    def kept(self) -> tuple[dict[str, str], tuple[int, ...], dict[int, bytes]]:
        """Return every file, every persistent and NV handle, and what the NV holds.

        Without the lock, which holds nothing, and the folder made for it.
        """
        handles = (*self._handles(_NV), *self._handles(_PERSISTENT))
        values = {each: self._nv_value(each) for each in self._handles(_NV)}
        return self._files(), handles, values

    def _files(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            name = path.relative_to(self.root).as_posix()
            if name in (_LOCK, str(Path(_LOCK).parent), "var", "var/lib"):
                continue
            told = f"{status.st_mode:o} {status.st_size}"
            if stat.S_ISREG(status.st_mode):
                # The large ones are never written by the tool: the time tells.
                told += (
                    f" {status.st_mtime_ns} {status.st_ino}"
                    if status.st_size > _LARGE
                    else " " + hashlib.sha256(path.read_bytes()).hexdigest()
                )
            elif stat.S_ISDIR(status.st_mode):
                told = f"{status.st_mode:o}"
            found[name] = told
        return found

    def _handles(self, first: int) -> tuple[int, ...]:
        command = struct.pack(">HIIIII", 0x8001, 22, 0x17A, 1, first, 254)
        data = self.machine.tpm.send(command)[19:]
        handles = (data[at : at + 4] for at in range(0, len(data), 4))
        return tuple(int.from_bytes(each, "big") for each in handles)

    def _nv_value(self, index: int) -> bytes:
        """TPM2_NV_Read of 8 bytes with the index's own, empty, authorisation."""
        session = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
        size = 10 + 8 + len(session) + 4
        head = struct.pack(">HIIII", 0x8002, size, 0x14E, index, index)
        return self.machine.tpm.send(head + session + struct.pack(">HH", 8, 0))[16:24]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A laptop that is switched off, to be copied: its disk and its TPM's memory."""

    model: MachineModel
    root: Path
    tpm_state: bytes

    @classmethod
    def of(cls, laptop: Laptop, folder: Path) -> Self:
        """Switch the laptop off and keep what it holds in a folder."""
        laptop.machine.power_off()
        state = (laptop.machine.tpm.socket_path.parent / _TPM_STATE).read_bytes()
        _copy_tree(laptop.root, folder)
        return cls(laptop.machine.model, folder, state)

    def copy(self, folder: Path) -> Laptop:
        """Return a laptop that is off, with its root in this folder."""
        _copy_tree(self.root, folder)
        machine = Machine(self.model, folder)
        (machine.tpm.socket_path.parent / _TPM_STATE).write_bytes(self.tpm_state)
        machine.tpm._banks_allocated = True  # the copied memory says which
        return Laptop(machine)


@contextmanager
def changed(laptop: Laptop, inside: str, content: bytes | None) -> Iterator[Path]:
    """Give a file other content for a while, None for none; then it is as it was."""
    path = laptop.path(inside)
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    try:
        if content is not None:
            path.write_bytes(content)
        yield path
    finally:
        aside.replace(path)


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    words = ["cp", "--archive", "--sparse=always", f"{source}/.", str(target)]
    subprocess.run(words, check=True, timeout=60)


MODELS = {each.name: each for each in (TBOOT_DA, TBOOT_LEGACY)}

MakeLaptop = Callable[..., Laptop]
"""What the fixtures `own`, `lent` and the like hand out."""
