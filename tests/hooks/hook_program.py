# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook as files, as they are shipped or changed, and the shells that run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hook_world import Machine

HOOK = Path(__file__).parents[2] / "boot-hooks" / "aemseal-unseal"
STEPS = tuple(
    HOOK.parent / "lib" / f"{step}.sh"
    for step in HOOK.read_text().split("""[ "$read_in" = ' """)[1].split("'")[0].split()
)
"""The files that the hook reads from the folder it is in; others are aemseal-boot's."""
SHELLS = [
    (path, *words)
    for name, *words in (["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"])
    if (path := shutil.which(name))
]


def of_shell(shell: tuple[str, ...]) -> str:
    return " ".join([Path(shell[0]).name, *shell[1:]])


def altered(machine: Machine, *edits: tuple[str, str]) -> Path:
    """A copy of the hook and its steps with these texts replaced."""
    hook = copy_of_hook(machine.folder / "altered-hook")
    for old, new in edits:
        (path,) = [path for path in program(hook) if old in path.read_text()]
        path.write_text(path.read_text().replace(old, new, 1))
    return hook


def copy_of_hook(folder: Path) -> Path:
    """Install the hook in a new folder, as in an initramfs; its path there."""
    (folder / "lib").mkdir(parents=True)
    for path in program(HOOK):
        shutil.copy(path, folder / path.relative_to(HOOK.parent))
    return folder / HOOK.name


def program(hook: Path) -> list[Path]:
    """The files that this hook is made of."""
    return [hook, *(hook.parent / "lib" / step.name for step in STEPS)]
