# SPDX-License-Identifier: GPL-2.0-or-later
"""A one-time code stays on the screen until somebody compared it, or time is over."""

from __future__ import annotations

import os
import signal
import termios
import time
from pathlib import Path

import pytest
from boot_program import Booting, Initramfs
from hook_program import SHELLS, of_shell

CODE = "one-time code: 123456"
COMPARE = "aemseal: Compare it with your phone, then press Enter for the passphrase."
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)


@pytest.fixture
def machine(tmp_path: Path) -> Initramfs:
    machine = Initramfs(tmp_path)
    show_code(machine, 120)
    return machine


def show_code(machine: Initramfs, seconds: int, *secrets: str) -> None:
    """The hook's countdown: TERM ends it, and it ends by itself."""
    machine.write_vault("totp", *secrets)
    machine.write_core(
        "ended=no\ntrap 'ended=yes' TERM\n"
        + machine.write_record("totp", *secrets)
        + f"printf '{CODE} (9 s left) '\nleft={seconds}\n"
        "while [ $left -gt 0 ] && [ $ended = no ]; do\n"
        f"    sleep 1\n    left=$((left - 1))\n    printf '\\r{CODE} (8 s left) '\n"
        "done\necho\n: >$run/core-ended"
    )


def echoes(booting: Booting) -> bool:
    return bool(termios.tcgetattr(booting.slave)[3] & termios.ECHO)


@every_shell
def test_enter_goes_on(machine: Initramfs, shell: tuple[str, ...]) -> None:
    with machine.boot(shell) as booting:
        booting.see(CODE)
        booting.see(COMPARE)
        started = time.monotonic()
        booting.type("")
        ended = booting.end()
    assert time.monotonic() - started < 30
    assert (ended.code, ended.powered_off) == (0, False)
    assert set(machine.left()) == {"record", "done", "core-ended", "words"}
    assert not any(b"123456" in data for data in machine.left().values())


def test_the_code_counts_down_below_the_words_that_tell_what_to_do(
    machine: Initramfs,
) -> None:
    with machine.boot() as booting:
        booting.see(COMPARE)
        booting.see(f"{COMPARE}\r\n\r{CODE} (8 s left) ")
        assert f" s left) \r{COMPARE}" in booting.screen


@every_shell
def test_the_time_is_over_where_nobody_types(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    show_code(machine, 3)
    machine.alter("code_seconds=120", "code_seconds=3")
    ended = machine.ended(shell)
    assert (ended.code, ended.powered_off) == (0, False)
    assert COMPARE in ended.screen
    assert "core-ended" in machine.left()


@every_shell
def test_a_console_without_a_keyboard_does_not_take_the_code_away(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    show_code(machine, 4)
    machine.alter(f"console={machine.folder}/console", "console=/dev/null")
    started = time.monotonic()
    ended = machine.ended(shell)
    assert (ended.code, ended.powered_off) == (0, False)
    assert time.monotonic() - started > 4


@every_shell
def test_enter_before_the_code_was_shown_does_not_count(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    with machine.boot(shell) as booting:
        booting.type("")
        booting.see(COMPARE)
        time.sleep(2)
        assert "core-ended" not in machine.left()
        booting.type("")
        assert booting.end().code == 0


@every_shell
def test_a_passphrase_that_is_typed_too_early_is_not_on_the_screen(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    with machine.boot(shell) as booting:
        assert echoes(booting)
        booting.see(COMPARE)
        assert not echoes(booting)
        booting.type("correct horse")
        ended = booting.end()
        assert echoes(booting)
    assert "correct horse" not in ended.screen


def test_with_the_disks_key_no_passphrase_is_announced(machine: Initramfs) -> None:
    show_code(machine, 60, "keyfile")
    with machine.boot() as booting:
        booting.see("aemseal: Compare it with your phone, then press Enter to go on.")
        booting.type("")
        assert booting.end().code == 0


@every_shell
def test_a_signal_ends_in_a_machine_that_is_off(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    """The hook is told first, since it has to cap."""
    machine.write_core("trap ': >$run/capped; exit 21' TERM\nsleep 1\nsleep 1\nsleep 9")
    with machine.boot(shell) as booting:
        while not machine.run_folder.exists():
            time.sleep(0.1)
        time.sleep(1)
        os.kill(booting.process.pid, signal.SIGTERM)
        ended = booting.end()
    assert ended.powered_off
    assert "capped" in machine.left()
    assert "done" not in machine.left()


@every_shell
def test_a_hook_that_does_not_end_is_ended(
    machine: Initramfs, shell: tuple[str, ...]
) -> None:
    machine.write_core("trap '' TERM\nwhile :; do sleep 1; done")
    machine.alter("core_seconds=1500", "core_seconds=1")
    machine.alter("ending_seconds=90", "ending_seconds=1")
    with machine.boot(shell) as booting:
        booting.see("The check of this boot failed.")
        booting.see("To start it all the same, type: boot it blindly")
        booting.type("boot it")
        assert booting.end().powered_off
