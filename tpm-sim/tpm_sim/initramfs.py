# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs with the boot hook inside, and the hook run out of the booted image.

Stands for dracut: a cpio archive that holds the shipped hook, the steps it reads from
the folder it is in, and what enrol wrote for it. What runs at boot is unpacked from
the very image that was measured, so a pinned key or a hook that is not in the measured
bytes is not used either.

As a program: python -m tpm_sim.initramfs ROOT HOOK builds ROOT/boot/initramfs.img.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.boot_directory import INITRAMFS_TREE, pack_initramfs
from tpm_sim.cache import PROJECT
from tpm_sim.machine import Machine

HOOK = PROJECT / "boot-hooks/aemseal-unseal"
IMAGE = "boot/initramfs.img"
_PROGRAM_INSIDE = "usr/lib/aemseal"
_HOOK_INSIDE = f"{_PROGRAM_INSIDE}/{HOOK.name}"
_ETC_INSIDE = "etc/aemseal"
_HOOK_FILES = "var/lib/aemseal/hook"
_DRACUT_HOOKS = (
    ("initqueue/settled", "aemseal-settled.sh"),
    ("initqueue/finished", "aemseal-finished.sh"),
    ("pre-mount", "aemseal-pre-mount.sh"),
)
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class HookRun:
    """What the person saw: stdout (the secrets) and stderr, and the exit code."""

    exit_code: int
    shown: str
    told: str


def build_initramfs(root: Path, hook: Path = HOOK) -> None:
    """Pack the hook and the files enrol left for it into root/boot/initramfs.img.

    `hook` is the script; its lib/ is in the folder it is in.
    """
    tree = dict(INITRAMFS_TREE)
    tree[_HOOK_INSIDE] = hook.read_bytes()
    tree |= _around(HOOK.parent)
    for path in sorted(hook.parent.glob("lib/*.sh")):
        tree[f"{_PROGRAM_INSIDE}/lib/{path.name}"] = path.read_bytes()
    folder = root / _HOOK_FILES
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            tree[f"{_ETC_INSIDE}/{path.name}"] = path.read_bytes()
    (root / IMAGE).write_bytes(pack_initramfs(tree))


def _around(hooks: Path) -> dict[str, bytes]:
    """Return what runs the hook in an initramfs without systemd."""
    tree = {}
    for name in ("aemseal-boot", "aemseal-root"):
        tree[f"{_PROGRAM_INSIDE}/{name}"] = (hooks / name).read_bytes()
    for folder, name in _DRACUT_HOOKS:
        script = hooks / "dracut/90aemseal" / name
        tree[f"usr/lib/dracut/hooks/{folder}/00-{name}"] = script.read_bytes()
    return tree


def build_command(root: Path) -> list[str]:
    """Return the argv that builds the image, for `initramfs_command`."""
    return [
        "/usr/bin/env",
        f"PYTHONPATH={PROJECT}:{PROJECT / 'tpm-sim'}",
        sys.executable,
        "-m",
        "tpm_sim.initramfs",
        str(root),
        str(HOOK),
    ]


def run_hook(machine: Machine, pin: str = "") -> HookRun | None:
    """Run the hook of the booted image; None when the image holds none.

    `pin` is what the person types whenever they are asked; nothing, if it is empty.
    """
    root = machine.root
    with tempfile.TemporaryDirectory(prefix="booted-") as scratch:
        folder = Path(scratch)
        subprocess.run(
            ["cpio", "--quiet", "--extract", "--make-directories"],
            cwd=folder,
            input=(root / IMAGE).read_bytes(),
            check=True,
            timeout=_TIMEOUT,
        )
        hook = folder / _HOOK_INSIDE
        if not hook.exists():
            return None
        asker = folder / "asker"
        asker.write_text("#!/bin/sh\ncat <<'END'\n" + pin + "\nEND\n")
        asker.chmod(0o700)
        done = subprocess.run(
            [
                "sh",
                str(hook),
                *("-e", str(folder / _ETC_INSIDE)),
                *("-r", str(root / "run/aemseal")),
                *("-m", str(root / "boot/aemseal")),
                *("-c", str(root / "proc/cmdline")),
                *("-d", str(root / "dev/disk/by-uuid")),
                *("-p", str(asker)),
            ],
            env={**os.environ, "TPM2TOOLS_TCTI": machine.tcti},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    return HookRun(done.returncode, done.stdout, done.stderr)


if __name__ == "__main__":
    build_initramfs(Path(sys.argv[1]), Path(sys.argv[2]))
