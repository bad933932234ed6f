# SPDX-License-Identifier: GPL-2.0-or-later
"""What a desktop shows at login, with a stub in the place of notify-send."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from after_boot import CONFIRM, NOTICE
from hook_program import SHELLS, of_shell

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
AUTOSTART = CONFIRM.parent / "xdg" / "aemseal-notice.desktop"


class Desktop:
    """A session: its notify-send notes its arguments, and fails as often as told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.notice = self.root / "run/aemseal/notice"
        self.notice.parent.mkdir(parents=True)
        self.shown = folder / "shown"
        self.fails = folder / "fails"
        programs = folder / "programs"
        programs.mkdir()
        stub = programs / "notify-send"
        stub.write_text(
            "#!/bin/sh\n"
            f"if [ -f '{self.fails}' ]; then rm '{self.fails}'; exit 1; fi\n"
            f"for each; do printf '%s\\0' \"$each\"; done >'{self.shown}'\n"
        )
        sleep = programs / "sleep"  # for three seconds, which nobody has to wait for
        sleep.write_text('#!/bin/sh\n[ "$1" = 3 ] || exec /bin/sleep 0.1\n')
        for each in (stub, sleep):
            each.chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    def log_in(
        self, shell: tuple[str, ...] = ("dash",), *, seconds: int = 0
    ) -> list[str] | None:
        """Return notify-send's arguments, None where nothing was shown."""
        self.shown.unlink(missing_ok=True)
        done = subprocess.run(
            [*shell, str(NOTICE), "-r", str(self.root), "-w", str(seconds)],
            env={"PATH": self.path},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        if not self.shown.exists():
            return None
        return self.shown.read_text().split("\0")[:-1]


@pytest.fixture
def desktop(tmp_path: Path) -> Desktop:
    return Desktop(tmp_path)


@every_shell
def test_a_notice_is_shown_as_it_is(desktop: Desktop, shell: tuple[str, ...]) -> None:
    desktop.notice.write_text("critical\nNot <yours>.\nA & B\n<i>$(C)</i>\n")
    assert desktop.log_in(shell) == [
        *("--app-name=aemseal", "--urgency=critical", "--"),
        *("Not <yours>.", "A &amp; B\n&lt;i&gt;$(C)&lt;/i&gt;"),
    ]


@every_shell
def test_a_normal_one_is_no_alarm(desktop: Desktop, shell: tuple[str, ...]) -> None:
    desktop.notice.write_text("normal\nThis boot is confirmed: Xen \\4.\n")
    shown = desktop.log_in(shell)
    assert shown is not None
    assert shown[1:] == [
        "--urgency=normal",
        "--",
        "This boot is confirmed: Xen \\4.",
        "",
    ]


@pytest.mark.parametrize("text", ["quiet\nAll is well.\n", "", "loud\nX\n", "normal"])
def test_an_ordinary_boot_and_what_is_no_notice_show_nothing(
    desktop: Desktop, text: str
) -> None:
    desktop.notice.write_text(text)
    assert desktop.log_in() is None


def test_it_waits_for_the_service_and_not_for_ever(desktop: Desktop) -> None:
    assert desktop.log_in(seconds=1) is None

    def confirm() -> None:
        time.sleep(0.5)
        desktop.notice.with_name("new").write_text("normal\nX\n")
        desktop.notice.with_name("new").rename(desktop.notice)

    confirming = threading.Thread(target=confirm)
    confirming.start()
    assert desktop.log_in(seconds=60) is not None
    confirming.join()


def test_a_desktop_that_is_not_ready_is_asked_again(desktop: Desktop) -> None:
    desktop.notice.write_text("normal\nX\n")
    desktop.fails.touch()
    assert desktop.log_in() is not None


def test_the_autostart_entry_starts_it() -> None:
    keys = dict(
        line.split("=", 1)
        for line in AUTOSTART.read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert keys["Type"] == "Application"
    assert keys["Exec"] == keys["TryExec"] == "/usr/lib/aemseal/aemseal-notice"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = CONFIRM.parent / "systemd" / "aemseal-confirm.service"
    text = unit.read_text()
    assert "ExecStart=/usr/lib/aemseal/aemseal-confirm\n" in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/usr/lib/aemseal/aemseal-confirm", str(CONFIRM)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
