# SPDX-License-Identifier: GPL-2.0-or-later
"""A one-time code counts down on one line of a terminal, as long as one waits."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hook_program import HOOK, SHELLS, altered, of_shell
from hook_world import Machine
from test_unseal_hook_secrets import SEED, clock, code_of, only_totp

pytestmark = pytest.mark.tpm


class Terminal:
    """A hook whose stdout is a terminal; what it shows is read from the other end."""

    def __init__(self, machine: Machine, shell: tuple[str, ...], hook: Path) -> None:
        self.end, screen = pty.openpty()
        self.process = subprocess.Popen(
            [*shell, str(hook), *machine.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=subprocess.PIPE,
            env={"TPM2TOOLS_TCTI": machine.tpm.tcti},
        )
        os.close(screen)
        self.shown = b""

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self.end, 1000)

    def whole(self) -> bytes:
        """Everything that was shown, once the hook has ended."""
        try:
            while chunk := os.read(self.end, 1000):
                self.shown += chunk
        except OSError:  # Linux' word for a terminal that nobody writes to any more
            pass
        os.close(self.end)
        with self.process:
            assert self.process.stderr is not None
            assert self.process.stderr.read() == b""
            assert self.process.wait(60) == 0
        return self.shown


def line(now: int) -> bytes:
    return b"one-time code: %s (%d s left) " % (code_of(SEED, now), 30 - now % 30)


def on_screen(shown: bytes) -> list[bytes]:
    """What a terminal has in its lines after these bytes."""
    lines = [bytearray()]
    for part in re.split(rb"(\r\n|\r)", shown):
        if part == b"\r\n":
            lines.append(bytearray())
        elif part != b"\r":
            lines[-1][: len(part)] = part  # from the first column: a return is before
    return [bytes(each).rstrip() for each in lines]


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_the_line_is_written_anew_each_second(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "4")
    times = (1000, 1000, 1010, 1011, 1019, 1020)
    shown = Terminal(machine, shell, altered(machine, clock(machine, *times))).whole()
    assert shown == b"".join(b"\r" + line(now) for now in times[1:]) + b"\r\n"
    assert on_screen(shown) == [line(1020).rstrip(), b""]


def test_whoever_passes_it_on_to_screens_has_the_line_written_anew(
    machine: Machine,
) -> None:
    only_totp(machine)
    machine.more_arguments = ("-l", "-t", "2")
    hook = altered(machine, clock(machine, 1000, 1000, 1010, 1011))
    shown = machine.finish_hook(machine.start_hook(hook=hook)).stdout
    assert shown == b"".join(b"\r" + line(n) for n in (1000, 1010, 1011)) + b"\n"


def test_nothing_of_a_longer_line_stays(machine: Machine) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "1")
    hook = altered(machine, clock(machine, 1010, 1010, 1011))
    shown = Terminal(machine, SHELLS[0], hook).whole()
    assert b"(10 s left)" in shown
    assert on_screen(shown) == [line(1011).rstrip(), b""]


def test_a_code_is_reckoned_once(machine: Machine) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "4")
    edit = clock(machine, 1000, 1000, 1001, 1002, 1003, 1020)
    tool = machine.folder / "clock/oathtool"
    tool.write_text(
        f'#!/bin/sh\necho >>{machine.folder}/reckoned\nexec /usr/bin/oathtool "$@"\n'
    )
    tool.chmod(0o755)
    Terminal(machine, SHELLS[0], altered(machine, edit)).whole()
    # Once before the work folder is gone, and once for each code that was shown.
    assert (machine.folder / "reckoned").read_text().count("\n") == 3


def test_without_a_wait_it_is_one_line_as_anywhere(machine: Machine) -> None:
    only_totp(machine)
    hook = altered(machine, clock(machine, 1000))
    shown = Terminal(machine, SHELLS[0], hook).whole()
    assert shown == line(1000).rstrip() + b"\r\n"


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_line(
    machine: Machine, number: signal.Signals, shell: tuple[str, ...]
) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "3600")
    terminal = Terminal(machine, shell, HOOK)
    terminal.until(b"left) ")
    began = time.monotonic()
    terminal.process.send_signal(number)
    assert terminal.whole().endswith(b"left) \r\n")
    assert time.monotonic() - began < 10


def test_a_screen_that_is_gone_ends_the_wait(machine: Machine) -> None:
    only_totp(machine)
    machine.more_arguments = ("-t", "3600")
    terminal = Terminal(machine, SHELLS[0], HOOK)
    terminal.until(b"left) ")
    os.close(terminal.end)
    with terminal.process as process:
        assert process.wait(30) == 0
