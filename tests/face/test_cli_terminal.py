# SPDX-License-Identifier: GPL-2.0-or-later
"""Help, usage, the prompt for the secret and colours, on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from contract import check
from laptop import READING, SECRET, Laptop, MakeLaptop, run
from tpm_sim.cache import PROJECT

import aemseal
from aemseal.face.cli import main
from aemseal.world.store import Files

pytestmark = pytest.mark.tpm


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aemseal.face.cli", "--version"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"aemseal {aemseal.__version__}\n"


def test_help_names_every_verb_and_every_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"], {})
    text = capsys.readouterr().out
    assert left.value.code == 0
    for word in (*READING, "enrol", "reseal", "cancel", "confirm", "record", "hash"):
        assert f"\n    {word} " in text
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert f"\n  {code}  " in text


MISTAKES = {
    "no verb": (),
    "no such verb": ("rubbish",),
    "a word too many": ("status", "rubbish"),
    "an option cut short": ("status", "--jso"),
    "an option of another verb": ("confirm", "--accept", "xen"),
    "no kind of secret": ("enrol",),
    "a PCR that is no number": ("predict", "--pcr", "seventeen"),
    "no folder": ("record",),
}


@pytest.mark.parametrize("words", MISTAKES.values(), ids=list(MISTAKES))
def test_wrong_words_are_a_matter_of_usage(words: tuple[str, ...]) -> None:
    ran, text = run("--json", *words), run(*words)
    assert ran.code == text.code == 2
    check(ran.report, "error")
    assert ran.report["kind"] == "usage"
    assert text.out == ""
    assert text.hint.startswith("see: aemseal ")
    assert text.hint.endswith(" --help")


def in_a_terminal(
    laptop: Laptop, words: list[str], typed: Sequence[bytes], **environment: str
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; each thing typed follows a prompt."""
    waiting = list(typed)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        tcti = {"TPM2TOOLS_TCTI": laptop.machine.tcti}
        argv = [sys.executable, "-m", "aemseal.face.cli", *words]
        argv += ["--root", str(laptop.root)]
        os.execve(sys.executable, argv, {**kept, **tcti, **environment})
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        if waiting and shown.endswith(b": "):
            os.write(master, waiting.pop(0))
    os.close(master)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_a_secret_is_asked_for_without_echo(own: MakeLaptop) -> None:
    laptop = own(enrolled=False)
    typed = [b"\n", SECRET.encode() + b"\n"]
    code, shown = in_a_terminal(laptop, ["enrol", "text"], typed, TERM="xterm")
    assert code == 0
    assert "PIN (not shown), or nothing for none: " in shown
    assert "secret text (not shown): " in shown
    assert SECRET not in shown
    assert laptop.shows_the_secret()


def test_an_end_of_file_at_the_prompt_is_an_empty_secret(lent_new: Laptop) -> None:
    code, shown = in_a_terminal(
        lent_new, ["enrol", "text"], [b"\n", b"\x04"], TERM="dumb"
    )
    assert code == 2
    assert "aemseal: error: the secret is empty" in shown


def test_ctrl_c_at_the_prompt_interrupts(lent_new: Laptop) -> None:
    code, shown = in_a_terminal(lent_new, ["enrol", "text"], [b"\x03"], TERM="xterm")
    assert code == 130
    assert "aemseal: interrupted" in shown
    assert "Traceback" not in shown


def test_ctrl_c_at_a_seed_interrupts_and_leaves_nothing_on_the_screen(
    lent_new: Laptop,
) -> None:
    code, shown = in_a_terminal(
        lent_new, ["enrol", "totp"], [b"\n", b"\x03"], TERM="xterm"
    )
    assert code == 130
    private, cleared, after = shown.rpartition("\x1b[H\x1b[2J\x1b[?1049l")
    assert cleared
    assert "(time-based, 6 digits)" in private
    assert "time-based" not in after
    assert "aemseal: delete the entry that your phone made just now" in after
    assert "aemseal: interrupted" in after
    assert "Traceback" not in shown


COLOURS = {
    "a terminal": ({"TERM": "xterm"}, True),
    "NO_COLOR": ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    "a dumb terminal": ({"TERM": "dumb"}, False),
}


@pytest.mark.parametrize(
    ("environment", "coloured"), COLOURS.values(), ids=list(COLOURS)
)
def test_colour_is_for_terminals_that_have_it(
    lent_new: Laptop, environment: dict[str, str], coloured: bool
) -> None:
    code, shown = in_a_terminal(lent_new, ["confirm"], [], **environment)
    assert code == 4
    assert ("\x1b[" in shown) is coloured
    assert "nothing is sealed on this machine" in shown


def test_the_argv_and_the_journal_of_an_enrolment_hold_no_secret(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every program that is started, and every file that is ever written, is seen."""
    laptop = own(enrolled=False)
    seen: list[str] = []
    real_run, real_write = subprocess.run, Files.write

    def watched_run(arguments: list[str], **options: object) -> object:
        seen.append(json.dumps([arguments, str(options)], default=str))
        return real_run(arguments, **options)  # type: ignore[call-overload]  # passed on

    def watched_write(files: Files, path: str, data: bytes, mode: int = 0o600) -> None:
        seen.append(f"{path} {data!r} {data.hex()}")
        real_write(files, path, data, mode)

    monkeypatch.setattr(subprocess, "run", watched_run)
    monkeypatch.setattr(Files, "write", watched_write)
    assert laptop.enrol().code == 0
    assert any("journal.json" in each for each in seen)
    assert any("initramfs" in each for each in seen)
    for each in seen:
        assert SECRET not in each
        assert SECRET.encode().hex() not in each
    assert SECRET not in " ".join([*sys.argv, *os.environ.values()])
