# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: updates from end to end, on three simulated laptops.

The commands are run as a person would run them; every step prints what was seen and
whether it held. The last line counts them, and the exit code is 0 only if all held.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from tpm_sim import demo_tboot, demo_trenchboot
from tpm_sim.demo_laptop import Story
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, TRENCHBOOT_SKINIT, MachineModel

Tell = Callable[[Machine, Story], None]

STORIES: Sequence[tuple[MachineModel, str, Tell]] = (
    (
        TBOOT_DA,
        "tboot on Intel; Xen, kernel and initramfs in PCR 17",
        demo_tboot.tell_all,
    ),
    (
        TBOOT_LEGACY,
        "tboot on Intel; Xen in PCR 18, kernel and initramfs in PCR 19",
        demo_tboot.tell,
    ),
    (
        TRENCHBOOT_SKINIT,
        "TrenchBoot on AMD; all files in PCR 17, their lengths in PCR 18",
        demo_trenchboot.tell,
    ),
)
"""Each laptop, what it is, and what is told of it."""


def main(arguments: Sequence[str]) -> int:
    """Tell the story of every laptop, or of those named; 2 for a name of none."""
    names = [model.name for model, *_ in STORIES]
    unknown = [each for each in arguments if each not in names]
    if unknown:
        print(f"demo: no laptop {unknown[0]}; there are {', '.join(names)}")
        return 2
    story = Story()
    started = time.monotonic()
    for model, words, tell in STORIES:
        if arguments and model.name not in arguments:
            continue
        print(f"== {model.name}: {words}")
        with Machine(model) as machine:
            tell(machine, story)
    print(f"({time.monotonic() - started:.0f} s)")
    print(f"demo: {story.held} of {story.told} steps held")
    return 0 if story.held == story.told else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
