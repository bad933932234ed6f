# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook as shipped, on a machine of the mutations."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mutated_machine import Mutant, MutatedMachine

from aemseal.flows.provision import HOOK_FOLDER

HOOK = Path(__file__).parents[2] / "boot-hooks" / "aemseal-unseal"


def run_hook(machine: MutatedMachine, mutant: Mutant) -> tuple[int, bytes]:
    """Run it on what was booted; its exit code and what it showed on stdout.

    The command line names no disk: the LUKS headers are in PCR 13 already.
    """
    world = machine.world
    cmdline = world.folder / "cmdline"
    cmdline.write_text("root=/dev/x quiet\n")
    done = subprocess.run(
        [
            *("dash", str(HOOK), "-e", str(world.root / HOOK_FOLDER.lstrip("/"))),
            *("-r", str(world.folder / "run"), "-m", str(world.file("", mutant.found))),
            *("-c", str(cmdline), "-d", str(world.folder)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={"TPM2TOOLS_TCTI": world.chip.tcti, "PATH": os.environ["PATH"]},
        check=False,
    )
    return done.returncode, done.stdout
