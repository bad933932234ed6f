# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: one Xen update from end to end, on both machines, with nothing faked.

The commands are run as a person would run them; every step prints what was seen and
whether it held. The last line counts them, and the exit code is 0 only if all held.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.boot_directory import BootDirectory
from tpm_sim.cache import PROJECT, Cache
from tpm_sim.initramfs import HookRun, build_command, run_hook
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, MachineModel

SECRET = "the heron stands in the ford at dusk"
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: its exit code, its result and what it told besides."""

    code: int
    out: str
    told: str


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


class Laptop:
    """The demo's machine and the commands given on it."""

    def __init__(self, machine: Machine, update: Update) -> None:
        self.machine = machine
        self.update = update
        self.boot_directory: BootDirectory = machine.install()
        config = machine.root / "etc/aemseal.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        command = json.dumps(build_command(machine.root))
        config.write_text(f"initramfs_command: {command}\n", encoding="utf-8")

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
            _show(done.stderr)
            _show(done.stdout)
        return Ran(done.returncode, done.stdout, done.stderr)

    def report(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Run the tool for its JSON, without showing it."""
        done = self.aemseal(*arguments, "--json", quiet=True)
        found: dict[str, object] = json.loads(done.out)
        return done.code, found

    def reboot(self) -> HookRun | None:
        """Switch off, switch on, launch, and let the initramfs run its hook."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        result = self.machine.boot(run_hook).hook_result
        if isinstance(result, HookRun):
            _show(result.shown)
            _show(result.told)
            return result
        print("    (no aemseal hook in this initramfs)")
        return None


@dataclass(frozen=True, slots=True)
class Update:
    """What the demo updates: a file below /boot, its old and its new content."""

    role: str
    words: str
    old: Path
    new: Path
    old_version: str


def choose_update(cache: Cache) -> Update:
    """Two real Xen packages where the archives offer two, else another kernel."""
    if cache.has_two_xens:
        old, new = cache.version("xen-old"), cache.version("xen-new")
        words = f"Xen {old} -> {new} (Debian's main and security archives)"
        return Update("xen", words, cache.xen_old, cache.xen_new, old)
    words = (
        f"kernel {cache.linux.name} -> {cache.linux_new.name}, since the archives "
        f"offer only one Xen ({cache.version('xen-new')})"
    )
    return Update("kernel", words, cache.linux, cache.linux_new, cache.linux.name)


def tell(model: MachineModel, story: Story, update: Update) -> None:
    """Tell the whole story on one machine."""
    with Machine(model) as machine:
        laptop = Laptop(machine, update)
        target = {
            "xen": laptop.boot_directory.xen,
            "kernel": laptop.boot_directory.kernel,
        }[update.role]
        shutil.copyfile(update.old, target)
        _enrol(laptop, story)
        _update(laptop, story, target)
        _confirm(laptop, story)
        _evil_maid(laptop, story)
        _rollback(laptop, story, target)
        machine.power_off()


def _enrol(laptop: Laptop, story: Story) -> None:
    print("1. A first boot without aemseal; then enrol")
    laptop.reboot()
    enrolled = laptop.aemseal("enrol", "text", stdin=SECRET)
    story.step("enrol stages the next boot, hook inside", held=enrolled.code == 0)
    shown = laptop.reboot()
    story.step("the first boot after enrol shows the secret", held=_is_shown(shown))
    confirmed = laptop.aemseal("confirm")
    story.step("confirm accepts it", held=confirmed.code == 0)


def _update(laptop: Laptop, story: Story, target: Path) -> None:
    print(f"2. The update: {laptop.update.words}")
    shutil.copyfile(laptop.update.new, target)
    status = laptop.aemseal("status", "--check")
    story.step(
        "status says that the next boot would be blind (exit 3)", held=status.code == 3
    )
    laptop.aemseal("predict")
    code, plan = laptop.report("plan")
    changes = plan["changes"]
    assert isinstance(changes, list)
    named = [(each["name"], each["path"]) for each in changes]
    print(f"    changed: {', '.join(f'{name} ({path})' for name, path in named)}")
    story.step(
        "plan names the one file behind every changed PCR",
        held=code == 3 and named == [(laptop.update.role, f"/boot/{target.name}")],
    )
    refused = laptop.aemseal("reseal", quiet=True)
    print(f"    {_last(refused.told, 2)}")
    story.step(
        "reseal stops at bytes nobody answers for (exit 4)", held=refused.code == 4
    )
    staged = laptop.aemseal("reseal", "--accept", laptop.update.role)
    story.step("accepted by name, the new boot is staged", held=staged.code == 0)


def _confirm(laptop: Laptop, story: Story) -> None:
    print("3. Reboot into the new files")
    _, prediction = laptop.report("predict")
    shown = laptop.reboot()
    story.step("the first boot after the update shows it", held=_is_shown(shown))
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


def _evil_maid(laptop: Laptop, story: Story) -> None:
    print("4. Evil maid: one byte of the initramfs is changed")
    image = laptop.boot_directory.initramfs
    genuine = image.read_bytes()
    at = genuine.index(b"a simulated laptop")
    image.write_bytes(genuine[:at] + b"A" + genuine[at + 1 :])
    shown = laptop.reboot()
    story.step("the secret stays in", held=_is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain names the file (exit 6)",
        held=explained.code == 6 and "/boot/initramfs.img" in explained.out,
    )
    refused = laptop.aemseal("reseal")
    story.step("nothing can be sealed from that boot", held=refused.code == 6)
    image.write_bytes(genuine)


def _rollback(laptop: Laptop, story: Story, target: Path) -> None:
    print(f"5. Rollback: the old {laptop.update.role} is put back")
    shutil.copyfile(laptop.update.old, target)
    shown = laptop.reboot()
    story.step("the secret stays in", held=_is_refused(shown))
    explained = laptop.aemseal("explain")
    story.step(
        "explain says it is the retired one, and its version",
        held=explained.code == 6
        and "retired" in explained.out
        and laptop.update.old_version in explained.out,
    )
    shutil.copyfile(laptop.update.new, target)
    shown = laptop.reboot()
    story.step("the accepted boot still shows the secret", held=_is_shown(shown))


def _is_shown(shown: HookRun | None) -> bool:
    return shown is not None and shown.exit_code == 0 and SECRET in shown.shown


def _is_refused(shown: HookRun | None) -> bool:
    return (
        shown is not None
        and shown.exit_code == 10
        and SECRET not in shown.shown + shown.told
    )


def _last(text: str, count: int) -> str:
    return "\n    ".join(text.strip().splitlines()[-count:])


def _show(text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"    {line}")


def main(arguments: Sequence[str]) -> int:
    """Tell the story on both machines, or on those named."""
    all_models = (TBOOT_DA, TBOOT_LEGACY)
    models = [each for each in all_models if not arguments or each.name in arguments]
    story = Story()
    update = choose_update(Cache.default())
    started = time.monotonic()
    for model in models:
        print(f"== {model.name}")
        tell(model, story, update)
    print(f"({time.monotonic() - started:.0f} s)")
    print(f"demo: {story.held} of {story.told} steps held")
    return 0 if story.held == story.told else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
