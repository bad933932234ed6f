# SPDX-License-Identifier: GPL-2.0-or-later
"""QR codes for a terminal: a phone reads them, and nobody else is told the text."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from qr_matrix import decode, from_blocks, from_colours

from aemseal.formats.totp import otpauth_uri
from aemseal.words.errors import AemsealError
from aemseal.world import qr
from aemseal.world.qr import TEXT_LIMIT, qr_lines, width_of

URI = otpauth_uri(bytes(range(0xA0, 0xB4)), "dom0")
SECRET = "UCQ2FI5EUWTKPKFJVKV2ZLNOV6YLDMVT"

needs_qrencode = pytest.mark.skipif(
    shutil.which("qrencode") is None, reason="no qrencode: run make setup"
)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for another qrencode than the system's, the only one that is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder / "qrencode"


def write(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@needs_qrencode
@pytest.mark.parametrize("text", ["a", URI, "0123456789.example.org" * 4])
def test_a_phone_reads_the_text_from_either_form(text: str) -> None:
    blocks = qr_lines(text, has_blocks=True)
    assert decode(from_blocks(blocks)) == text.encode()
    assert decode(from_colours(qr_lines(text, has_blocks=False))) == text.encode()


@needs_qrencode
def test_the_code_of_a_seed_fits_a_terminal_of_24_lines() -> None:
    lines = qr_lines(URI, has_blocks=True)
    assert len(lines) == 19
    assert width_of(lines) == 37
    assert width_of(qr_lines(URI, has_blocks=False)) == 74


def test_the_text_goes_by_the_pipe_and_no_other_way(program: Path) -> None:
    folder = program.parent
    write(
        program,
        f"""PATH={os.defpath}
for each; do echo "$each"; done >{folder}/argv
cat >{folder}/stdin
cat /proc/$$/environ >{folder}/environ
echo shown""",
    )
    before = {**os.environ}
    assert qr_lines(URI, has_blocks=True) == ["shown"]
    assert (folder / "stdin").read_bytes() == URI.encode()
    argv = (folder / "argv").read_text()
    assert argv == "-t\nANSIUTF8\n-l\nL\n-m\n2\n-o\n-\n"
    for each in ("argv", "environ"):
        assert SECRET not in (folder / each).read_text()
    assert {**os.environ} == before
    assert SECRET in URI
    assert sorted(each.name for each in folder.iterdir()) == [
        *("argv", "environ", "qrencode", "stdin")
    ]


FAILURES = {
    "it fails": ("exit 3", "qrencode failed with exit code 3"),
    "it prints nothing": ("exit 0", "qrencode printed nothing"),
}


@pytest.mark.parametrize(("body", "message"), FAILURES.values(), ids=list(FAILURES))
def test_a_program_that_does_not_do_is_named(
    program: Path, body: str, message: str
) -> None:
    write(program, body)
    with pytest.raises(AemsealError) as told:
        qr_lines(URI, has_blocks=True)
    assert told.value.message == message


def test_a_program_that_is_not_there_or_no_program_is_named(program: Path) -> None:
    with pytest.raises(AemsealError, match="there is no program qrencode"):
        qr_lines(URI, has_blocks=True)
    program.mkdir()
    with pytest.raises(AemsealError, match="qrencode cannot be run: permission denied"):
        qr_lines(URI, has_blocks=True)


def test_a_program_that_does_not_end_is_ended(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(program, f"PATH={os.defpath}; exec sleep 60")
    monkeypatch.setattr(qr, "TIME_LIMIT", 0.2)
    with pytest.raises(AemsealError, match="did not end within") as told:
        qr_lines(URI, has_blocks=True)
    assert SECRET not in repr(told.value)
    assert told.value.__suppress_context__


def test_what_it_prints_is_bounded(program: Path) -> None:
    write(program, f"PATH={os.defpath}; head -c 1000000 /dev/zero | tr '\\0' x")
    assert width_of(qr_lines(URI, has_blocks=True)) == 1 << 16


@pytest.mark.parametrize("size", [0, TEXT_LIMIT + 1])
def test_no_other_size_is_handed_on(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=f"a QR code of {size} bytes"):
        qr_lines("x" * size, has_blocks=True)


def test_the_width_is_that_of_what_is_seen() -> None:
    assert width_of([]) == 0
    assert width_of(["\x1b[40;37;1m██\x1b[0m", "x"]) == 2
