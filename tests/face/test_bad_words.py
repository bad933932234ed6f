# SPDX-License-Identifier: GPL-2.0-or-later
"""What is configured, named or piped wrongly: told to the person who did it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from contract import check
from laptop import Laptop, changed, run
from refusals import CONFIG, refuses
from tpm_sim.cache import PROJECT

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]


# --- the configuration ---

BAD_CONFIGS = {
    "no YAML": ("media: [\n", "line 2: "),
    "an unknown key": ("pcrs: sha256:13,17\nfoo: bar\n", "line 2: unknown key 'foo'"),
    "a key twice": (
        "pcrs: sha256:17\npcrs: sha256:17\n",
        "line 2: pcrs is there twice",
    ),
    "a wrong type": ("\nevent_log: 5\n", "line 2: event_log is not a text"),
    "no text": ("\xff\xfe", "line 1: "),
    "a selection that is none": ("pcrs: rubbish\n", "line 1: pcrs: cannot read"),
}


@pytest.mark.parametrize(
    ("text", "message"), BAD_CONFIGS.values(), ids=list(BAD_CONFIGS)
)
def test_a_configuration_with(lent_da: Laptop, text: str, message: str) -> None:
    with changed(lent_da, CONFIG, text.encode("latin-1")):
        for verb in ("status", "predict", "reseal", "confirm"):
            ran = lent_da.aemseal(verb)
            assert ran.code == 4
            assert ran.error.startswith(f"{CONFIG} {message}")


# --- files named on the command line ---


@pytest.mark.parametrize(
    "words", [("log",), ("hash", "mle"), ("hash", "module"), ("hash", "luks")]
)
def test_a_file_that_does_not_exist_is_a_matter_of_usage(
    words: tuple[str, ...],
) -> None:
    ran = run(*words, "/no/such/file", "--json")
    check(ran.report, "error")
    assert (ran.code, ran.error) == (2, "/no/such/file does not exist")


@pytest.mark.parametrize("words", [("log",), ("hash", "mle"), ("hash", "module")])
def test_a_folder_is_no_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = run(*words, str(tmp_path))
    assert ran.code == 4
    assert ran.error == f"{tmp_path} cannot be read: is a directory"


def test_a_file_name_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    ran = run("log", str(tmp_path / "\x1b[2Jgone"))
    assert ran.code == 2
    assert "\x1b" not in ran.told
    assert run("log", "with\0nul").code == 4


def test_over_511_bytes_of_command_line_are_refused(lent_da: Laptop) -> None:
    tboot = str(lent_da.path("/boot/tboot.gz"))
    assert run("hash", "mle", tboot, "--cmdline", "x" * 511).code == 0
    refused = run("hash", "mle", tboot, "--cmdline", "x" * 512)
    assert (refused.code, refused.error) == (2, "the command line has 512 bytes")


# --- recordings ---


def test_a_recording_goes_into_an_empty_folder(lent_da: Laptop, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    refuses(
        lent_da, f"record {tmp_path}", 2, f"{tmp_path} is not empty", "a new folder"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    refuses(lent_da, f"record {tmp_path}/mine", 2, "is no folder", "name a new folder")


@pytest.mark.parametrize("verb", ["log", "predict", "plan", "status", "explain"])
def test_a_recording_that_is_none(tmp_path: Path, verb: str) -> None:
    ran = run(verb, "--host", str(tmp_path), "--json")
    check(ran.report, "error")
    assert ran.code == 4
    assert ran.error == f"{tmp_path} is no recording: manifest.json is missing"
    absent = run(verb, "--host", str(tmp_path / "absent"))
    assert (absent.code, absent.error) == (2, f"{tmp_path / 'absent'} is no folder")


def test_a_broken_recording_is_refused_by_its_file(
    lent_da: Laptop, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"
    assert lent_da.aemseal("record", str(folder)).code == 0
    # Lists are no evidence, and what dom0 says counts where TrenchBoot launched it.
    besides = ("initramfs", "file-")
    read = [each for each in folder.iterdir() if not each.name.startswith(besides)]
    for path in sorted(read):
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"\xff\x00rubbish"):
            path.write_bytes(content)
            ran = run("predict", "--host", str(folder))
            assert (ran.code, ran.out) == (4, ""), path.name
            assert ran.error
        path.write_bytes(whole)
    assert run("predict", "--host", str(folder)).code == 0


def test_a_root_that_is_no_folder_is_a_matter_of_usage() -> None:
    ran = run("status", "--root", "/no/such/root")
    assert (ran.code, ran.error) == (2, "--root: /no/such/root is no folder")


# --- interruption, and a stdout that takes nothing ---


def in_a_shell(script: str) -> tuple[int, str]:
    """Run the command line as `aemseal` in a script; its exit code, its stderr."""
    words = f'{shlex.quote(sys.executable)} -m aemseal.face.cli "$@"'
    done = subprocess.run(
        ["bash", "-c", f"aemseal() {{ {words}; }}; {script}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_result_that_cannot_be_written_is_an_error(form: str) -> None:
    file = shlex.quote(__file__)
    full = in_a_shell(f"aemseal hash module {file} {form} > /dev/full")
    told = "aemseal: error: stdout cannot be written: no space left on device\n"
    assert full == (1, told)
    for words, code, told in (
        (f"hash module {file}", 1, ""),
        ("log /no/such/file", 2, "aemseal: error: /no/such/file does not exist\n"),
    ):
        closed = f"aemseal {words} {form} | exec true; exit ${{PIPESTATUS[0]}}"
        assert in_a_shell(f"trap '' PIPE; {closed}") == (code, told)


def test_an_interrupted_command_exits_130(
    lent_da: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = lent_da.kept()
    with monkeypatch.context() as patch:
        patch.setattr("aemseal.face.looks.survey", interrupted)
        ran = lent_da.aemseal("predict")
        as_json = lent_da.aemseal("predict", "--json")
    assert (ran.code, ran.out, ran.told) == (130, "", "aemseal: interrupted\n")
    check(as_json.report, "error")
    assert as_json.code == as_json.report["exit"] == 130
    assert lent_da.kept() == before
