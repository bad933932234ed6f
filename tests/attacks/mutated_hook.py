# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook as shipped, on a machine of the tests' vault."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mutated_machine import Mutant, MutatedMachine
from vault_world import INTERNAL, World

from aemseal.flows.provision import HOOK_FOLDER
from aemseal.world.config import Medium

HOOK = Path(__file__).parents[2] / "boot-hooks" / "aemseal-unseal"


def hook_on(
    world: World, *options: str, medium: Medium = INTERNAL, tcti: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run it on what was booted.

    The command line names no disk: the LUKS headers are in PCR 13 already.
    """
    cmdline = world.folder / "cmdline"
    cmdline.write_text("root=/dev/x quiet\n")
    return subprocess.run(
        [
            *("dash", str(HOOK), "-e", str(world.root / HOOK_FOLDER.lstrip("/"))),
            *("-r", str(world.folder / "run"), "-m", str(world.file("", medium))),
            *("-c", str(cmdline), "-d", str(world.folder), *options),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        env={
            "TPM2TOOLS_TCTI": tcti or world.chip.tcti,
            "PATH": os.environ["PATH"],
        },
        check=False,
    )


def run_hook(machine: MutatedMachine, mutant: Mutant) -> tuple[int, bytes]:
    """Run it on a mutated machine; its exit code and what it showed on stdout."""
    done = hook_on(machine.world, medium=mutant.found)
    return done.returncode, done.stdout
