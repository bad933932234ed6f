# SPDX-License-Identifier: GPL-2.0-or-later
"""aemseal-confirm in every shell, with a stub in the place of aemseal.

What the real one answers in these cases is held in tests/face/test_after_boot.py.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from after_boot import CONFIRM, NOTHING_DONE, Told, after_boot
from hook_program import SHELLS, of_shell

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
ALREADY = "nothing to do: Xen 4.17.5, vmlinuz is accepted already\n"


class Stub:
    """A command that answers as it was told to, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stub"
        self.folder.mkdir()
        self.root = folder / "root"
        self.program = self.folder / "aemseal"
        self.program.write_text(
            "#!/bin/sh\n"
            f"cd '{self.folder}'\n"
            'echo "$*" >>asked\n'
            'verb=$1; case " $* " in *" --json "*) verb=$1.json ;; esac\n'
            "[ ! -f $verb.sleep ] || sleep 30\n"
            "cat $verb.err >&2; cat $verb.out; exit $(cat $verb.code)\n"
        )
        self.program.chmod(0o755)
        self.says("status")
        self.says("confirm", ALREADY)
        self.says("explain", "Some advice.\nfirst difference: PCR 18, /boot/xen\n")
        self.finds("accepted")
        self.write("run/aemseal/record", "aemseal-record 2\noutcome unsealed\n")

    def write(self, inside: str, text: str) -> None:
        path = self.root / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def says(self, verb: str, out: str = "", err: str = "", code: int = 0) -> None:
        for name, text in (("out", out), ("err", err), ("code", str(code))):
            (self.folder / f"{verb}.{name}").write_text(text)

    def finds(
        self,
        this_boot: str,
        verdict: str = "accepted",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Have status and explain find this, as --json prints it."""
        status = {
            "schema": "aemseal.status/1",
            "accepted": [{"this_boot": "staged"}],
            "this_boot": this_boot,
            "stale_media": [],
            "absent_media": [],
        }
        self.says("status.json", json.dumps({**status, **(more or {})}, indent=1))
        self.says("explain.json", json.dumps({"verdict": verdict}, indent=1))

    @property
    def asked(self) -> list[str]:
        """The commands given, without their --root."""
        lines = (self.folder / "asked").read_text().splitlines()
        return [line.removesuffix(f" --root {self.root}") for line in lines]

    def run(self, shell: tuple[str, ...] = ("dash",)) -> Told:
        return after_boot(self.root, self.program, shell=shell)


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path)


@every_shell
def test_an_ordinary_boot_is_told_to_the_journal_alone(
    stub: Stub, shell: tuple[str, ...]
) -> None:
    told = stub.run(shell)
    assert (told.code, told.urgency, told.more) == (0, "quiet", ())
    assert told.headline == "This is the accepted boot Xen 4.17.5, vmlinuz."
    assert stub.asked == ["status --json", "confirm --all-media", "status"]


@every_shell
def test_a_staged_boot_is_confirmed(stub: Stub, shell: tuple[str, ...]) -> None:
    stub.finds("staged")
    stub.says("confirm", "confirmed: Xen \\4.17.7\nretired: Xen 4.17.5\n")
    told = stub.run(shell)
    assert (told.code, told.urgency) == (0, "normal")
    assert told.headline == "This boot is confirmed: Xen \\4.17.7."
    assert told.more == ("retired: Xen 4.17.5",)


@every_shell
def test_a_boot_that_is_not_accepted_is_loud_and_nothing_is_done(
    stub: Stub, shell: tuple[str, ...]
) -> None:
    stub.finds("unknown", "changed")
    told = stub.run(shell)
    assert told.is_loud
    assert told.code == 6
    assert told.headline == "This boot is not one that you accepted."
    assert told.more == (
        "Some advice.",
        "first difference: PCR 18, /boot/xen",
        NOTHING_DONE,
    )
    assert stub.asked == ["status --json", "explain --json", "explain"]


@every_shell
def test_a_boot_that_was_overridden_is_not_even_looked_at_to_confirm(
    stub: Stub, shell: tuple[str, ...]
) -> None:
    stub.finds("staged", "accepted")
    stub.write("run/aemseal/overridden", "overridden\n")
    told = stub.run(shell)
    assert told.is_loud
    assert told.headline == (
        "This boot was refused, and somebody typed the words to start it all the same."
    )
    assert stub.asked == ["explain --json", "explain"]


@every_shell
def test_media_are_told_by_name(stub: Stub, shell: tuple[str, ...]) -> None:
    away = {"stale_media": ["old"], "absent_media": ["old", "stick", "spare"]}
    stub.finds("staged", more=away)
    stub.says("confirm", err="aemseal: error: it is away\n", code=4)
    told = stub.run(shell)
    assert (told.code, told.urgency) == (4, "normal")
    assert told.headline == (
        "This boot is accepted, but not confirmed: medium stick, spare is not at hand."
    )
    assert told.more[0] == "it is away"


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("retired", "This boot is one that is accepted no longer."),
        ("unmeasured", "This boot was not measured: there was no dynamic launch."),
        ("tpm-changed", "The TPM was cleared, or it is another one."),
        ("shut", "The vault is shut: its counter has gone on without this disk."),
    ],
)
def test_every_verdict_has_its_headline(
    stub: Stub, verdict: str, headline: str
) -> None:
    stub.finds("unknown", verdict)
    told = stub.run()
    assert told.is_loud
    assert (told.code, told.headline) == (6, headline)


@pytest.mark.parametrize("outcome", ["no-pin", "stale", None])
def test_nothing_is_confirmed_unless_the_hook_showed_the_secret(
    stub: Stub, outcome: str | None
) -> None:
    stub.finds("staged")
    record = "" if outcome is None else f"aemseal-record 2\noutcome {outcome}\n"
    stub.write("run/aemseal/record", record)
    told = stub.run()
    assert told.is_loud
    assert told.headline == "This boot is accepted, but it did not show your secret."
    assert not any(each.startswith("confirm") for each in stub.asked)


@pytest.mark.parametrize(
    ("code", "headline"),
    [
        (5, "The TPM did not answer, so nothing proves this boot."),
        (4, "This boot could not be checked."),
    ],
)
def test_what_cannot_be_checked_is_loud(stub: Stub, code: int, headline: str) -> None:
    error = "aemseal: error: it is gone\naemseal: hint: look for it\n"
    stub.says("status.json", "{}", error, code)
    stub.says("explain.json", "{}", error, code)
    told = stub.run()
    assert told.is_loud
    assert (told.code, told.headline) == (code, headline)
    assert told.more == ("it is gone", "look for it", NOTHING_DONE)


def test_a_command_that_breaks_is_told_without_its_traceback(stub: Stub) -> None:
    trace = "Traceback (most recent call last):\n  File\nValueError: a secret\n"
    for verb in ("status.json", "explain.json"):
        stub.says(verb, "", trace, 1)
    told = stub.run()
    assert told.is_loud
    assert told.code == 1
    assert told.more[0].startswith("aemseal ended without a word (exit code 1).")
    assert "a secret" not in f"{told.journal}{told.motd}"
    stub.finds("accepted")
    stub.says("confirm", "", trace, 1)
    told = stub.run()
    assert told.headline == "This boot is accepted, but it could not be confirmed."
    assert (told.is_loud, told.code) == (True, 1)
    stub.says("confirm", "who knows\n")
    assert stub.run().headline == "What aemseal confirm did is not known."


def test_a_command_that_is_missing_is_told(stub: Stub) -> None:
    stub.program.unlink()
    told = stub.run()
    assert told.is_loud
    assert told.code == 127


def test_an_answer_without_a_verdict_is_no_success(stub: Stub) -> None:
    stub.finds("a-new-word", "a-new-word")
    told = stub.run()
    assert told.is_loud
    assert told.code == 1


def test_confirm_has_the_last_word_on_what_is_accepted(stub: Stub) -> None:
    stub.finds("accepted", "changed")
    stub.says("confirm", "", "aemseal: error: not an accepted one\n", 6)
    told = stub.run()
    assert told.is_loud
    assert told.headline == "This boot is not one that you accepted."
    stub.finds("accepted", "shut")
    stub.says("confirm", "", "aemseal: error: the vault is shut\n", 4)
    assert stub.run().headline.startswith("The vault is shut")


def test_what_confirm_and_status_say_besides_makes_a_notice(stub: Stub) -> None:
    warning = "warning: the machine was switched on once since"
    stub.says(
        "confirm",
        f"X is accepted already\nrotated: copies\n{warning}\n",
        "aemseal: not rotated: medium stick is not at hand: a copy\n",
    )
    stub.says("status", "this boot: accepted\nproblem:   P\nhint:      H\n", code=4)
    told = stub.run()
    assert (told.code, told.urgency) == (0, "normal")
    assert told.headline == "This is the accepted boot X."
    more = (warning, "not rotated: medium stick is not at hand: a copy", "P", "H")
    assert told.more == more
    assert "aemseal: rotated: copies\n" in told.journal


def test_a_notice_of_an_earlier_run_does_not_stay(stub: Stub) -> None:
    stub.finds("unknown", "changed")
    assert stub.run().is_loud
    stub.finds("accepted")
    assert stub.run().urgency == "quiet"


def test_a_staged_boot_waits_for_its_media(stub: Stub) -> None:
    stub.finds("staged", more={"absent_media": ["stick"]})
    stub.says("confirm", "confirmed: X\n")

    def mount() -> None:
        time.sleep(1)
        stub.finds("staged")

    mounting = threading.Thread(target=mount)
    mounting.start()
    told = after_boot(stub.root, stub.program, "-w", "20")
    mounting.join()
    assert told.code == 0
    assert stub.asked.count("status --json") == 2


def test_one_that_is_stopped_says_so(stub: Stub) -> None:
    (stub.folder / "status.json.sleep").touch()
    arguments = ["-r", str(stub.root), "-a", str(stub.program)]
    process = subprocess.Popen(
        ["dash", str(CONFIRM), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={"TPM2TOOLS_TCTI": "none"},
    )
    time.sleep(1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    process.terminate()
    for each in children.split():
        os.kill(int(each), signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "The check after this boot was cut short" in out
    notice = (stub.root / "run/aemseal/notice").read_text()
    assert notice.startswith("critical\nThe check after this boot was cut short")


def test_the_consoles_get_the_headline_and_where_to_look(stub: Stub) -> None:
    stub.finds("unknown", "changed")
    stub.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    (stub.root / "dev").mkdir(parents=True)
    master, slave = pty.openpty()
    (stub.root / "dev/ttyS0").symlink_to(os.ttyname(slave))
    stub.run()
    seen = os.read(master, 4096).decode().replace("\r", "")
    os.close(slave)
    os.close(master)
    assert seen == (
        "\naemseal: This boot is not one that you accepted.\n"
        "aemseal: see: aemseal explain\n"
    )
    assert not (stub.root / "dev/tty0").exists()


def test_an_option_that_nobody_knows_is_refused(stub: Stub) -> None:
    words = ["dash", str(CONFIRM), "-x"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 2
    assert not stub.root.joinpath("run/aemseal/notice").exists()
