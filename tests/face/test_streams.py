# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that are closed or full, and characters that they do not have."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from laptop import Laptop
from tpm_sim.cache import PROJECT

from aemseal.face.terminal import Terminal, legible
from aemseal.words.errors import AemsealError

FILE = shlex.quote(__file__)


def in_a_shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as `aemseal` in a script."""
    words = f'{shlex.quote(sys.executable)} -m aemseal.face.cli "$@"'
    return subprocess.run(
        ["bash", "-c", f"aemseal() {{ {words}; }}; {script}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def ran(script: str, **environment: str) -> tuple[int, str, str]:
    done = in_a_shell(script, **environment)
    return done.returncode, done.stdout, done.stderr


# --- streams that are not there, or take nothing ---


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_closed_stdout_is_nowhere(form: str) -> None:
    assert ran(f"aemseal hash module {FILE} {form} >&-") == (0, "", "")
    code, _, told = ran(f"aemseal log /no/such/file {form} >&-")
    assert (code, told) == (2, "aemseal: error: /no/such/file does not exist\n")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)"])
@pytest.mark.parametrize("form", ["", "--json"])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(
    stderr: str, form: str
) -> None:
    code, out, told = ran(f"aemseal {form} log /no/such/file {stderr}")
    assert (code, told) == (2, "")
    assert bool(out) is bool(form)
    assert not out or json.loads(out)["exit"] == 2
    assert ran(f"aemseal hash module {FILE} {stderr}")[0] == 0


def test_all_streams_closed_at_once() -> None:
    assert ran(f"aemseal hash module {FILE} <&- >&- 2>&-") == (0, "", "")
    assert ran("aemseal predict --host /no/such/folder <&- >&- 2>&-")[0] == 2


@pytest.mark.parametrize("words", ["--help", "--version", "status --help"])
def test_help_into_a_full_disk_shows_no_traceback(words: str) -> None:
    assert ran(f"aemseal {words} >/dev/full")[2] == ""


def streams(stdin: io.TextIOBase) -> Terminal:
    return Terminal({}, False, stdin, io.StringIO(), io.StringIO())  # type: ignore[arg-type]  # a TextIO as far as is used


class Unreadable(io.StringIO):
    """A stdin opened for writing alone."""

    def isatty(self) -> bool:
        raise OSError(errno.EBADF, "Bad file descriptor")


def test_a_stdin_that_cannot_be_read_is_told() -> None:
    with pytest.raises(AemsealError, match=r"^no secret can be read: bad file desc"):
        streams(Unreadable()).read_secret("? ")


# --- characters ---


@pytest.mark.tpm
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_title_is_shown_in_any_encoding(lent_da: Laptop, encoding: str) -> None:
    entry = shlex.quote("AEM Qübes — ☃")
    root = shlex.quote(str(lent_da.root))
    place = {"PYTHONIOENCODING": encoding, "TPM2TOOLS_TCTI": lent_da.machine.tcti}
    code, _, told = ran(f"aemseal predict --root {root} --entry {entry}", **place)
    assert code == 4
    assert "AEM Q" in told
    assert "Traceback" not in told
    config = lent_da.path("/boot/grub/grub.cfg")
    kept = config.read_bytes()
    config.write_bytes(kept.replace(b"AEM Qubes", "AEM Qübes ☃".encode()))
    try:
        code, out, told = ran(f"aemseal predict --root {root}", **place)
    finally:
        config.write_bytes(kept)
    assert (code, told) == (0, "")
    title = "AEM Qübes ☃".encode(encoding, "backslashreplace").decode(encoding)
    assert out.startswith(f"next boot: {title}, ")


NO_UTF_8 = b"Q\xfcbes".decode("utf-8", "surrogateescape")
LEGIBLE = {
    "text": ("Qübes ☃", "Qübes ☃"),
    "a byte that is no UTF-8": (NO_UTF_8, "Q\\xfcbes"),
    "half of a pair": ("a\ud800b", "a\ufffdb"),
}


@pytest.mark.parametrize(("text", "shown"), LEGIBLE.values(), ids=list(LEGIBLE))
def test_what_is_shown_is_text(text: str, shown: str) -> None:
    assert legible(text) == shown
    out = io.StringIO()
    Terminal({}, False, io.StringIO(), out).result({}, [text])
    assert out.getvalue() == f"{shown}\n"


def test_json_holds_text_all_the_way_down() -> None:
    text, shown = LEGIBLE["a byte that is no UTF-8"]
    out = io.StringIO()
    report = {"entry": text, "list": [{"path": text}], text: (1, None, True, 1.5)}
    Terminal({}, True, io.StringIO(), out).result(report, [])
    assert json.loads(out.getvalue()) == {
        "entry": shown,
        "list": [{"path": shown}],
        shown: [1, None, True, 1.5],
    }
    assert "\\ud" not in out.getvalue()


@pytest.mark.tpm
def test_a_title_that_is_no_utf_8_is_escaped(lent_da: Laptop) -> None:
    config: Path = lent_da.path("/boot/grub/grub.cfg")
    kept = config.read_bytes()
    config.write_bytes(kept.replace(b"AEM Qubes", b"AEM Q\xfcbes"))
    try:
        text, as_json = lent_da.aemseal("predict"), lent_da.aemseal("predict", "--json")
    finally:
        config.write_bytes(kept)
    assert text.out.startswith("next boot: AEM Q\\xfcbes, ")
    assert as_json.report["entry"].startswith("AEM Q\\xfcbes, ")
