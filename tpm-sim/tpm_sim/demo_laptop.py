# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo's stories share: a laptop, commands given on it, verdicts counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from tpm_sim.boot_directory import BootDirectory
from tpm_sim.cache import PROJECT
from tpm_sim.initramfs import HookRun, build_command, run_hook
from tpm_sim.machine import Machine

SECRET = "the heron stands in the ford at dusk"
_TIMEOUT = 120.0
_NO_MEDIUM = 15
_NOT_ACCEPTED = 10
_TPM_CHANGED = 13
_STALE = 16
_WRONG_PIN = 22
"""The hook's exit codes (docs/slot-format.md)."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: its exit code, its result and what it told besides."""

    code: int
    out: str
    told: str

    def show_end(self, lines: int) -> None:
        """Show the last lines of what it told, and that others stand before them."""
        told = self.told.strip().splitlines()
        if len(told) > lines:
            print("    ...")
        show("\n".join(told[-lines:]))


class Story:
    """Tells the steps and counts those that held."""

    def __init__(self) -> None:
        self.told = 0
        self.held = 0

    def step(self, title: str, *, held: bool) -> None:
        """Print a step and its verdict."""
        self.told += 1
        self.held += held
        print(f"  {'held  ' if held else 'FAILED'}  {title}", flush=True)


_CARRIED = "media: [{label: stick, path: /boot/aemseal, carried: true}]\n"
"""The demo's /boot is on a stick that its owner takes along."""


class Laptop:
    """The demo's machine and the commands given on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.boot_directory: BootDirectory = machine.install()
        self.configure(_CARRIED)

    def configure(self, media: str) -> None:
        """Write /etc/aemseal.yaml: how the initramfs is built, and these media."""
        config = self.machine.root / "etc/aemseal.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        command = json.dumps(build_command(self.machine.root))
        config.write_text(f"initramfs_command: {command}\n{media}", encoding="utf-8")

    def aemseal(self, *arguments: str, stdin: str = "", quiet: bool = False) -> Ran:
        """Run the tool on this machine and show the command and what it said."""
        print(f"    # aemseal {' '.join(arguments)}")
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "aemseal.face.cli"),
                *arguments,
                *("--root", str(self.machine.root)),
            ],
            cwd=PROJECT,
            env={**os.environ, "TPM2TOOLS_TCTI": self.machine.tcti},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if not quiet:
            show(done.stderr)
            show(done.stdout)
        return Ran(done.returncode, done.stdout, done.stderr)

    def report(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Run the tool for its JSON, without showing it."""
        done = self.aemseal(*arguments, "--json", quiet=True)
        found: dict[str, object] = json.loads(done.out)
        return done.code, found

    def reboot(self, *, pin: str = "") -> HookRun | None:
        """Switch off, switch on, launch, and let the initramfs run its hook.

        `pin` is what the person types whenever the hook asks for one.
        """
        if self.machine.tpm.is_on:
            self.machine.power_off()
        word = "reboot" if self.machine.boots else "switched on"
        print(f"    ({word}; the PIN that is typed: {pin})" if pin else f"    ({word})")
        result = self.machine.boot(partial(run_hook, pin=pin)).hook_result
        if isinstance(result, HookRun):
            show(result.shown)
            show(result.told)
            return result
        print("    (no aemseal hook in this initramfs)")
        return None


def boot_and_confirm(laptop: Laptop, story: Story) -> None:
    """Reboot into what was staged, hold it against the prediction, and confirm it."""
    _, prediction = laptop.report("predict")
    shown = laptop.reboot()
    story.step("the first boot after the update shows it", held=is_shown(shown))
    _, now = laptop.report("predict")
    story.step("the TPM holds exactly what was predicted", held=_same(prediction, now))
    confirmed = laptop.aemseal("confirm")
    story.step(
        "confirm retires the old boot",
        held=confirmed.code == 0 and "retired:" in confirmed.out,
    )


def _same(prediction: dict[str, object], now: dict[str, object]) -> bool:
    """Whether the launch PCRs that were predicted are the live ones now."""
    following, live = prediction["next"], now["now"]
    assert isinstance(following, dict)
    assert isinstance(live, dict)
    wanted = {
        pcr: value for pcr, value in following["sha256"].items() if int(pcr) >= 17
    }
    for pcr, value in sorted(wanted.items()):
        found = live["sha256"][pcr]
        print(f"    PCR {pcr}: predicted {value[:16]}, measured {found[:16]}")
    return bool(wanted) and all(live["sha256"][p] == v for p, v in wanted.items())


def rebuilt(kernel: bytes) -> bytes:
    """Return a kernel of the same length whose version says "#2 SMP", not "#1 SMP"."""
    at = kernel.index(b" SMP")
    return kernel[: at - 1] + bytes([kernel[at - 1] ^ 3]) + kernel[at:]


def is_shown(shown: HookRun | None, secret: str = SECRET) -> bool:
    """Whether the hook showed the secret."""
    return shown is not None and shown.exit_code == 0 and secret in shown.shown


def is_refused(shown: HookRun | None) -> bool:
    """Whether the TPM gave the hook nothing, since the boot is no accepted one."""
    return _is_kept_in(shown, _NOT_ACCEPTED)


def is_not_sealed_yet(shown: HookRun | None) -> bool:
    """Whether the hook found nothing that it could have asked the TPM for."""
    return _is_kept_in(shown, _NO_MEDIUM)


def is_shut_by_pin(shown: HookRun | None) -> bool:
    """Whether the boot was an accepted one, and the PIN that was typed wrong."""
    return _is_kept_in(shown, _WRONG_PIN)


def is_dead_copy(shown: HookRun | None) -> bool:
    """Whether a copied medium was too old for the TPM's counter, or refused."""
    return _is_kept_in(shown, _STALE, _TPM_CHANGED, _NOT_ACCEPTED)


def _is_kept_in(shown: HookRun | None, *exit_codes: int) -> bool:
    return (
        shown is not None
        and shown.exit_code in exit_codes
        and SECRET not in shown.shown + shown.told
    )


def show(text: str) -> None:
    """Print what a command said, below it."""
    for line in text.rstrip().splitlines():
        print(f"    {line}".rstrip())
