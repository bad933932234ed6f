# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs around the hook show, and leave in no file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "boot-hooks" / "aemseal-boot"
CORE = """#!/bin/sh
printf 'the heron stands in the ford\\n'
echo 'aemseal: The PIN was wrong three times. What it guards stays closed.' >&2
: >{run}/keyfile
exit 22
"""
KNOWN = "boot it blindly"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program with every path below a folder: nothing here is to be powered off."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("systemctl", "modprobe", "umount", "sync", "blkid"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
    said = tmp_path / "said to plymouth"
    (tools / "plymouth").write_text(f"#!/bin/sh\necho \"$*\" >>'{said}'\n")
    (tools / "systemd-ask-password").write_text(f"#!/bin/sh\necho '{KNOWN}'\n")
    (tools / "core").write_text(CORE.format(run=tmp_path / "run"))
    for each in tools.iterdir():
        each.chmod(0o755)
    text = PROGRAM.read_text()
    for old, new in {
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin": f"PATH={tools}:/usr/bin:/bin",
        "core=/usr/lib/aemseal/aemseal-unseal": f"core={tools / 'core'}",
        "run=/run/aemseal\n": f"run={tmp_path / 'run'}\n",
        "place=/run/aemseal-medium": f"place={tmp_path / 'medium'}",
        "etc=/etc/aemseal": f"etc={tmp_path}",
        "_seconds=15": "_seconds=0",
        "_seconds=30": "_seconds=0",
        "/proc/sysrq-trigger": str(tmp_path / "powered-off"),
        "sleep 30": ":",
        "/run/systemd/system": str(tmp_path),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "boot.conf").write_text("")
    shutil.copytree(PROGRAM.parent / "lib", tmp_path / "lib")
    place = tmp_path / "aemseal-boot"
    place.write_text(text)
    return place


def test_what_opened_before_the_pin_was_refused_is_shown_and_left_in_no_file(
    program: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["/bin/sh", str(program)], capture_output=True, text=True, timeout=60
    )
    assert not (tmp_path / "powered-off").exists()
    assert done.returncode == 0, done.stderr
    assert "the heron stands in the ford" in done.stdout
    assert "The PIN was wrong three times." in done.stdout
    assert set((tmp_path / "said to plymouth").read_text().split()) == {"hide-splash"}
    left = {each.name for each in (tmp_path / "run").iterdir()}
    assert left == {"overridden", "words"}
    assert "heron" not in (tmp_path / "run" / "words").read_text()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("left", [None, 0, 400])
def test_without_all_of_what_it_shows_with_the_machine_goes_off(
    program: Path, tmp_path: Path, left: int | None, shell: str
) -> None:
    front = tmp_path / "lib" / "front.sh"
    whole = front.read_bytes()
    front.unlink()
    if left is not None:
        front.write_bytes(whole[:left])
    done = subprocess.run(
        [shell, str(program)], capture_output=True, text=True, timeout=60
    )
    assert (tmp_path / "powered-off").read_text() == "b\n"
    assert done.returncode != 0
    assert "interrupted. Do not type your disk passphrase." in done.stdout
    assert "heron" not in done.stdout


def test_a_disk_key_is_gone_before_the_root_is_entered(tmp_path: Path) -> None:
    key = tmp_path / "keyfile"
    key.write_bytes(b"k" * 64)
    with key.open("rb") as held:
        done = subprocess.run(
            ["/bin/sh", str(PROGRAM.with_name("aemseal-root")), "-r", str(tmp_path)],
            capture_output=True,
            timeout=60,
        )
        assert b"left no record" in done.stdout
        assert not key.exists()
        assert held.read() == bytes(64)
