# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make install` puts where: all of boot-hooks/, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "setup/install-hooks.sh"


def installed(to: Path) -> dict[str, Path]:
    done = subprocess.run(
        ["sh", str(SCRIPT)],
        env={**os.environ, "DESTDIR": str(to)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(to)): path for path in to.rglob("*") if path.is_file()}


def test_every_file_of_the_boot_hooks_is_installed_once(tmp_path: Path) -> None:
    shipped = sorted(
        path.name
        for path in (PROJECT / "boot-hooks").rglob("*")
        if path.is_file() and path.name != "README.md"
    )
    found = installed(tmp_path / "here")
    assert sorted(path.name for path in found.values()) == shipped


def test_the_programs_can_be_run_and_find_their_steps(tmp_path: Path) -> None:
    found = installed(tmp_path / "here")
    for name in ("aemseal-unseal", "aemseal-boot", "aemseal-confirm"):
        assert os.access(found[f"usr/lib/aemseal/{name}"], os.X_OK)
    assert "usr/lib/aemseal/lib/tpm.sh" in found
    assert os.access(found["etc/grub.d/99_linux_xen_aemseal"], os.X_OK)


def test_without_a_place_nothing_is_installed(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DESTDIR"}
    done = subprocess.run(
        ["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "make install DESTDIR=" in done.stderr
