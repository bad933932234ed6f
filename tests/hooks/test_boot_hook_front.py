# SPDX-License-Identifier: GPL-2.0-or-later
"""Where aemseal-boot shows and asks, with a splash and without, on which screens."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hook_program import SHELLS, of_shell

FRONT = Path(__file__).parents[2] / "boot-hooks" / "lib" / "front.sh"
CLEAN = "\x1b[0m\x1b[H\x1b[2J"
SECRET = "the heron stands in the ford"
QUIT = "case $1 in quit) rm -f '{pid}';; --ping) [ -e '{pid}' ];; esac"
DEAF = "case $1 in quit) exec sleep 1000;; --ping) [ -e '{pid}' ];; esac"
SPLASH_UNITS = (
    "systemd-ask-password-plymouth.path systemd-ask-password-plymouth.service"
)

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)


class Front:
    """front.sh with consoles that are terminals of ours, and tools that tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.devices = folder / "dev"
        self.systemd = folder / "systemd"
        self.pid = folder / "plymouth.pid"
        self.run_folder = folder / "run"
        for each in (self.tools, self.devices, self.systemd, self.run_folder):
            each.mkdir()
        self.masters: dict[str, int] = {}
        self._slaves: list[int] = []
        self.active = folder / "active"
        self.console = "/dev/console"
        self.write_tool("plymouth", QUIT.format(pid=self.pid))
        self.write_tool("systemctl", "exit 0")
        self.write_tool("systemd-ask-password", "echo answered")

    def write_tool(self, name: str, script: str) -> None:
        path = self.tools / name
        told = self.folder / "told"
        path.write_text(f"#!/bin/sh\necho \"{name} $*\" >>'{told}'\n{script}\n")
        path.chmod(0o755)

    @property
    def told(self) -> list[str]:
        """What was run of plymouth and systemd, with its arguments."""
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    def add_console(self, name: str, *, active: bool = True) -> None:
        master, slave = pty.openpty()
        self.masters[name] = master
        self._slaves.append(slave)
        (self.devices / name).symlink_to(os.ttyname(slave))
        if active:
            names = self.active.read_text().split() if self.active.exists() else []
            self.active.write_text(" ".join([*names, name]) + "\n")

    def do(self, words: str, shell: tuple[str, ...] = ("/bin/sh",)) -> str:
        """Run words of sh behind front.sh; its stdout."""
        settings = {
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "run": self.run_folder,
            "console": self.console,
            "systemd": self.systemd,
            "active": self.active,
            "devices": self.devices,
            "splash_pid": self.pid,
            "splash_seconds": 2,
            "answer_seconds": 5,
            "shown": "no",
            "read_in": "",
        }
        lines = [f"{name}='{value}'" for name, value in settings.items()]
        script = self.folder / "script"
        script.write_text("\n".join(["set -uf", *lines, f". '{FRONT}'", words]) + "\n")
        done = subprocess.run(
            [*shell, str(script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(self, name: str) -> str:
        """What a console got since it was looked at."""
        text = b""
        while select.select([self.masters[name]], [], [], 0.2)[0]:
            text += os.read(self.masters[name], 4096)
        return text.decode().replace("\r\n", "\n")

    def fill(self, name: str) -> None:
        """Have a console take nothing more."""
        slave = self._slaves[list(self.masters).index(name)]
        os.set_blocking(slave, False)
        with suppress(BlockingIOError):
            while True:
                os.write(slave, b"-" * 4096)
        os.set_blocking(slave, True)

    def tell_secret(self, shell: tuple[str, ...] = ("/bin/sh",)) -> str:
        (self.run_folder / "screen").write_text(f"{SECRET}\n")
        return self.do('tell "$run/screen"', shell)

    def close(self) -> None:
        for each in (*self.masters.values(), *self._slaves):
            os.close(each)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.close()


@every_shell
def test_every_console_of_the_kernel_shows_the_secret(
    front: Front, shell: tuple[str, ...]
) -> None:
    """As Xen's dom0 has hvc0 and tty0; /dev/console would be one of them."""
    front.add_console("hvc0")
    front.add_console("tty0")
    assert front.tell_secret(shell) == ""
    assert front.screen("hvc0") == front.screen("tty0") == f"{SECRET}\n"


@every_shell
def test_the_splash_has_ended_before_anything_is_shown(
    front: Front, shell: tuple[str, ...]
) -> None:
    front.add_console("tty0")
    front.pid.write_text("1\n")
    watch = (
        f"[ ! -e '{front.pid}' ] || echo 'shown to the splash'\nexec /bin/cat \"$@\""
    )
    front.write_tool("cat", watch)
    front.tell_secret(shell)
    assert front.screen("tty0") == f"{CLEAN}{SECRET}\n"
    told = [each for each in front.told if not each.startswith("cat ")]
    assert told == [
        "plymouth quit",
        "plymouth --ping",
        f"systemctl stop {SPLASH_UNITS}",
        "systemctl start --no-block systemd-ask-password-console.path",
    ]


def test_the_secret_is_no_argument_of_anything(front: Front) -> None:
    front.add_console("tty0")
    front.pid.write_text("1\n")
    for name in ("cat", "sh", "timeout"):
        front.write_tool(name, f'exec {shutil.which(name)} "$@"')
    front.tell_secret()
    assert front.screen("tty0") == f"{CLEAN}{SECRET}\n"
    assert len(front.told) > 5
    assert SECRET not in "\n".join(front.told)


def test_without_a_splash_nothing_is_ended_or_started(front: Front) -> None:
    front.add_console("tty0")
    front.tell_secret()
    front.do("tell /dev/null; say 'Going on.'")
    assert set(front.told) == {"plymouth --ping"}
    assert front.screen("tty0") == f"{SECRET}\naemseal: Going on.\n"


def test_a_splash_that_does_not_answer_is_ended_by_force(front: Front) -> None:
    """And no unit finds its process id: those of the console would not start."""
    front.add_console("tty0")
    front.write_tool("plymouth", DEAF.format(pid=front.pid))
    with subprocess.Popen(["sleep", "1000"]) as splash:
        front.pid.write_text(f"{splash.pid}\n")
        front.tell_secret()
        assert splash.wait(10) == -9
    assert not front.pid.exists()
    assert front.screen("tty0") == f"{CLEAN}{SECRET}\n"
    assert "systemctl start --no-block systemd-ask-password-console.path" in front.told


def test_the_screen_with_the_splash_is_one_though_the_kernel_does_not_speak_there(
    front: Front,
) -> None:
    front.add_console("hvc0")
    front.add_console("tty0", active=False)
    front.pid.write_text("1\n")
    front.tell_secret()
    assert front.screen("tty0") == front.screen("hvc0") == f"{CLEAN}{SECRET}\n"


def test_without_a_splash_the_screen_is_the_kernels_alone(front: Front) -> None:
    front.add_console("ttyS0")
    front.add_console("tty0", active=False)
    front.tell_secret()
    assert (front.screen("tty0"), front.screen("ttyS0")) == ("", f"{SECRET}\n")


def test_a_console_that_takes_nothing_does_not_keep_it_from_the_others(
    front: Front,
) -> None:
    front.add_console("hvc0")
    front.add_console("ttyS0")
    front.fill("hvc0")
    front.tell_secret()
    assert front.screen("ttyS0") == f"{SECRET}\n"


@pytest.mark.parametrize("named", [None, "", "tty0 hvc0\n"])
def test_where_no_console_is_found_stdout_is_it(
    front: Front, named: str | None
) -> None:
    if named is not None:
        front.active.write_text(named)
    assert front.tell_secret() == f"{SECRET}\n"


def test_the_splash_has_ended_before_anything_is_asked(front: Front) -> None:
    """It keeps what is typed into it, and hands it out again."""
    front.add_console("tty0")
    front.pid.write_text("1\n")
    assert front.do("ask 'What is it?'") == "answered\n"
    asked = "systemd-ask-password --echo=yes --timeout=5 What is it?"
    assert front.told[-1] == asked
    assert front.told[0] == "plymouth quit"


def test_without_systemd_the_console_asks(front: Front) -> None:
    front.systemd.rmdir()
    front.add_console("tty0")
    front.console = str(front.devices / "tty0")
    os.write(front.masters["tty0"], b"a line\n")
    assert front.do("ask 'What is it?'") == "a line\n"
    assert "What is it?\n> " in front.screen("tty0")
    assert not any(each.startswith("systemctl") for each in front.told)


@every_shell
@pytest.mark.parametrize("names", [(), ("tty0",), ("hvc0", "tty0")])
def test_what_comes_bit_by_bit_is_on_every_screen_at_once(
    front: Front, names: tuple[str, ...], shell: tuple[str, ...]
) -> None:
    for name in names:
        front.add_console(name)
    lines = ("open_screens", "printf 'one ' >&5")
    out = front.do("\n".join([*lines, "echo two >&5", "close_screens"]), shell)
    if not names:
        assert out == "one two\n"
    for name in names:
        assert front.screen(name) == "one two\n"
    assert list(front.run_folder.iterdir()) == []


@every_shell
def test_a_screen_that_takes_nothing_does_not_hold_up_the_end(
    front: Front, shell: tuple[str, ...]
) -> None:
    front.add_console("tty0")
    front.add_console("hvc0")
    front.fill("hvc0")
    front.do("open_screens; echo shown >&5; close_screens", shell)
    assert front.screen("tty0") == "shown\n"


@every_shell
def test_what_was_shown_is_cleared_and_cannot_be_scrolled_back_to(
    front: Front, shell: tuple[str, ...]
) -> None:
    front.add_console("hvc0")
    front.add_console("tty0")
    assert front.do("clear_screens", shell) == ""
    assert front.screen("hvc0") == front.screen("tty0") == f"{CLEAN}\x1b[3J"
