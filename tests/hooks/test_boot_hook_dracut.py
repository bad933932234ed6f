# SPDX-License-Identifier: GPL-2.0-or-later
"""What dracut sources and systemd starts: whatever fails, the machine is off."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest
from boot_program import HOOKS
from hook_program import SHELLS, of_shell

MODULE = HOOKS / "dracut/90aemseal"
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
PROGRAMS = {
    "aemseal-settled.sh": "aemseal-boot",
    "aemseal-pre-mount.sh": "aemseal-root",
}


def sourced(
    shell: tuple[str, ...], folder: Path, name: str, after: str = ":"
) -> tuple[int, str]:
    """Source a script as dracut does, in a shell that goes on; its code and stdout."""
    text = (MODULE / name).read_text()
    for old, new in {
        "/usr/lib/aemseal/": f"{folder}/",
        "/run/aemseal/": f"{folder}/",
        "/dev/console": f"{folder}/console",
        "echo o >/proc/sysrq-trigger": f"echo o >>{folder}/sysrq",
        "echo b >/proc/sysrq-trigger": f"echo b >>{folder}/sysrq",
        "sleep 30": ":",
    }.items():
        text = text.replace(old, new)
    assert "/proc/" not in text
    script = folder / name
    script.write_text(text)
    done = subprocess.run(
        [*shell, "-c", f"main_loop=7; . {script}; code=$?; {after}; exit $code"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def program(folder: Path, name: str, code: int) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho ran >>{folder}/ran\nexit {code}\n")
    path.chmod(0o755)


@every_shell
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_systemd_a_program_that_fails_switches_off(
    tmp_path: Path, name: str, shell: tuple[str, ...]
) -> None:
    program(tmp_path, PROGRAMS[name], 1)
    sourced(shell, tmp_path, name)
    assert (tmp_path / "sysrq").read_text() == "o\nb\n"


@every_shell
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_systemd_so_does_one_that_is_not_there(
    tmp_path: Path, name: str, shell: tuple[str, ...]
) -> None:
    sourced(shell, tmp_path, name)
    assert (tmp_path / "sysrq").read_text() == "o\nb\n"


@every_shell
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_systemd_the_boot_goes_on_where_all_is_well(
    tmp_path: Path, name: str, shell: tuple[str, ...]
) -> None:
    program(tmp_path, PROGRAMS[name], 0)
    assert sourced(shell, tmp_path, name, "echo went on")[1] == "went on\n"
    assert not (tmp_path / "sysrq").exists()


@every_shell
def test_the_hook_runs_once(tmp_path: Path, shell: tuple[str, ...]) -> None:
    program(tmp_path, "aemseal-boot", 0)
    (tmp_path / "done").touch()
    sourced(shell, tmp_path, "aemseal-settled.sh")
    assert not (tmp_path / "ran").exists()


@every_shell
def test_dracut_is_not_finished_before_the_hook_has_said_so(
    tmp_path: Path, shell: tuple[str, ...]
) -> None:
    assert sourced(shell, tmp_path, "aemseal-finished.sh")[0] != 0
    (tmp_path / "done").touch()
    assert sourced(shell, tmp_path, "aemseal-finished.sh")[0] == 0


@every_shell
def test_dracuts_patience_begins_when_the_hook_has_ended(
    tmp_path: Path, shell: tuple[str, ...]
) -> None:
    count = "echo $main_loop"
    assert sourced(shell, tmp_path, "aemseal-patience.sh", count)[1] == "0\n"
    (tmp_path / "done").touch()
    assert sourced(shell, tmp_path, "aemseal-patience.sh", count)[1] == "7\n"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # case counts
    parser.read_string((MODULE / name).read_text())
    return parser


@pytest.mark.parametrize("name", ["aemseal-unseal.service", "aemseal-root.service"])
def test_a_unit_that_fails_switches_off_and_has_an_end(name: str) -> None:
    found = unit(name)
    assert found["Unit"]["FailureAction"] == "poweroff-force"
    assert int(found["Service"]["TimeoutStartSec"]) > 0
    assert found["Service"]["StandardOutput"] == "tty"
    assert found["Service"]["StandardInput"] == "null"


def test_the_units_are_before_the_passphrase_and_before_the_root_is_mounted() -> None:
    before = unit("aemseal-unseal.service")["Unit"]
    assert "cryptsetup-pre.target" in before["Before"].split()
    assert "cryptsetup-pre.target" in before["Wants"].split()
    behind = unit("aemseal-root.service")["Unit"]
    assert "cryptsetup.target" in behind["After"].split()
    assert {"systemd-fsck-root.service", "sysroot.mount"} < {*behind["Before"].split()}
    assert behind["Requires"] == "aemseal-unseal.service"
    assert list(behind).count("ConditionPathExists") == 1
