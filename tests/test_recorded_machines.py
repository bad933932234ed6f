# SPDX-License-Identifier: GPL-2.0-or-later
"""What every verb says of each recorded machine is what its expected.json has.

A folder of tests/recorded is a user's report or a simulated machine; how one gets
there is in recorded_machines.py. Where a test here fails and the change is meant, that
command writes the new facts.
"""

from __future__ import annotations

import getpass
import json
import re
import shutil
import socket
import zlib
from pathlib import Path

import pytest
from recorded_machines import (
    EXPECTED,
    VERBS,
    Ran,
    expected,
    main,
    recordings,
    run,
    told_of,
)
from recorded_simulations import SECRET, SIMULATIONS
from tpm_sim.boot_directory import LUKS_PASSPHRASE
from tpm_sim.cache import PROJECT

from aemseal.world.recording import RecordedHost

FOLDERS = recordings()
LARGEST = 1 << 20
"""Bytes of a recording; nearly all of a TXT heap of 0.9 MiB are zeros."""

LARGEST_PACKED = 32 << 10
"""Bytes of it that the repository carries."""

every_recording = pytest.mark.parametrize(
    "folder", FOLDERS, ids=[each.name for each in FOLDERS]
)


@every_recording
def test_every_verb_says_what_is_expected(folder: Path) -> None:
    wanted = expected(folder)
    told = told_of(folder, wanted["options"])
    for verb in VERBS:
        assert told["verbs"][verb] == wanted["verbs"][verb], verb
    assert told == wanted


@every_recording
def test_a_recording_may_be_recorded_again_and_says_the_same(
    folder: Path, tmp_path: Path
) -> None:
    options = expected(folder)["options"]
    again = str(tmp_path / "again")
    assert run("--host", str(folder), "record", again).code == 0
    assert told_of(Path(again), options) == expected(folder)


@every_recording
def test_no_recording_is_larger_than_it_need_be(folder: Path) -> None:
    contents = [each.read_bytes() for each in folder.iterdir()]
    assert sum(map(len, contents)) <= LARGEST
    assert sum(len(zlib.compress(each)) for each in contents) <= LARGEST_PACKED


def test_every_simulation_is_recorded() -> None:
    assert {*SIMULATIONS} <= {each.name for each in FOLDERS}


# What must not be in a folder that is passed on

PROJECT_PATH = re.escape(bytes(PROJECT))

SECRETS = {
    "the sealed text": re.escape(SECRET.encode()),
    "the disk's passphrase": re.escape(LUKS_PASSPHRASE),
    "this machine's name": rb"\b%b\b" % re.escape(socket.gethostname().encode()),
    # Anti Evil Maid's own entry names a file in /tmp.
    "a path of the maker's": rb"/tmp/(?!aem-keyfile)|\.cache|%b" % PROJECT_PATH,
    "a home": rb"/home/|%b/|\b(?:USER|LOGNAME)=" % re.escape(bytes(Path.home())),
}
if getpass.getuser() != "root":
    SECRETS["this user's name"] = rb"\b%b\b" % re.escape(getpass.getuser().encode())

_HEX = re.compile(rb"(?:[0-9a-f]{2}){8,}")


def with_hex_read(data: bytes) -> bytes:
    """The bytes, and behind them those that they write in hex digits."""
    hidden = (bytes.fromhex(each.decode()) for each in _HEX.findall(data))
    return b"\n".join([data, *hidden])


def leaks(folder: Path, pattern: bytes) -> list[str]:
    found = re.compile(pattern)
    return [
        each.name
        for each in sorted(folder.iterdir())
        if found.search(with_hex_read(each.read_bytes()))
    ]


@every_recording
@pytest.mark.parametrize("pattern", SECRETS.values(), ids=list(SECRETS))
def test_nothing_private_is_in_a_recording(folder: Path, pattern: bytes) -> None:
    assert leaks(folder, pattern) == []


def test_a_leak_is_found_in_plain_and_in_hex(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"\0" + SECRET.encode() + b"\1")
    (tmp_path / "state.json").write_text(f'["{SECRET.encode().hex()}"]')
    (tmp_path / "other").write_bytes(b"the heron")
    assert leaks(tmp_path, SECRETS["the sealed text"]) == ["plain", "state.json"]


# The command that writes expected.json


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A user's report: a recording alone, of a machine with a SHA-1 bank."""
    folder = tmp_path / "report"
    shutil.copytree(FOLDERS[0].parent / "tboot-gm45", folder)
    (folder / EXPECTED).unlink()
    return folder


def test_a_report_becomes_a_test_by_one_command(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {each.name: each.read_bytes() for each in report.iterdir()}
    assert main([str(report)]) == 0
    assert str(report / EXPECTED) in capsys.readouterr().out
    assert expected(report) == expected(FOLDERS[0].parent / "tboot-gm45")
    after = {each.name: each.read_bytes() for each in report.iterdir()}
    assert after.pop(EXPECTED)
    assert after == before


def test_a_selection_is_kept_for_the_next_time(report: Path) -> None:
    pcrs = ["--pcrs", "sha1:17"]
    assert main([str(report), *pcrs]) == 0
    first = expected(report)
    assert first["options"] == pcrs
    assert first["verbs"]["predict"]["facts"]["selection"] == "sha1:17"
    assert main([str(report)]) == 0
    assert expected(report) == first


@pytest.mark.parametrize(
    "arguments", [[], ["--pcrs", "sha1:17"], ["a", "--pcrs"], ["/no/such/folder"]]
)
def test_what_cannot_be_done_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_expected_facts_are_nothing_a_recording_tells(report: Path) -> None:
    warnings = RecordedHost(report).warnings
    (report / EXPECTED).write_text("{damaged")
    assert RecordedHost(report).warnings == warnings
    assert run("--host", str(report), "log").code == 0


def test_a_verb_that_says_otherwise_is_found_out(report: Path) -> None:
    main([str(report)])
    before = expected(report)
    manifest = report / "manifest.json"
    value = json.loads(manifest.read_text())
    (entry,) = [e for e in value["answers"] if e["question"] == ["settled_pcrs"]]
    entry["value"] = None
    manifest.write_text(json.dumps(value))
    assert told_of(report, [])["verbs"]["log"] != before["verbs"]["log"]


def test_exit_codes_that_differ_by_form_are_refused(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(*arguments: str) -> Ran:
        return Ran(4 if "--json" in arguments else 0, "{}", "")

    monkeypatch.setattr("recorded_machines.run", says)
    with pytest.raises(ValueError, match="log: exit code 0"):
        told_of(report, [])
