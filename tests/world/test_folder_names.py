# SPDX-License-Identifier: GPL-2.0-or-later
"""The names in a folder of the host's, live and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aemseal.words.errors import EvidenceError
from aemseal.world.host import LiveHost
from aemseal.world.recording import RecordedHost, RecordingHost

BOOT = "/boot"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    boot = tmp_path / "root/boot"
    boot.mkdir(parents=True)
    for name in (
        "xen-4.17.5.gz",
        "grubenv",
        b"odd\xff".decode(errors="surrogateescape"),
    ):
        (boot / name).write_bytes(b"")
    return tmp_path / "root"


NAMES = ["grubenv", "odd\udcff", "xen-4.17.5.gz"]


def test_they_are_sorted(root: Path) -> None:
    assert LiveHost(root).names(BOOT) == NAMES


def test_a_folder_that_is_not_there_has_none(root: Path) -> None:
    host = LiveHost(root)
    for path in ("/gone", f"{BOOT}/grubenv", "/a\0b"):
        assert host.names(path) == []


def test_a_link_does_not_lead_out_of_the_root(root: Path) -> None:
    (root.parent / "secret").mkdir()
    (root.parent / "secret/file").write_bytes(b"")
    (root / "out").symlink_to("../secret")
    assert LiveHost(root).names("/out") == []


def test_a_name_of_two_lines_is_left_out(root: Path) -> None:
    (root / "boot/two\nlines").write_bytes(b"")
    assert LiveHost(root).names(BOOT) == NAMES


def test_a_recording_answers_as_the_host_did(root: Path, tmp_path: Path) -> None:
    host = RecordingHost(LiveHost(root))
    assert host.names(BOOT) == NAMES
    assert host.names("/gone") == []
    (root / "boot/grubenv").unlink()
    assert host.names(BOOT) == NAMES, "it is not asked for a second time"
    host.save(tmp_path / "recording")
    recorded = RecordedHost(tmp_path / "recording")
    assert (recorded.names(BOOT), recorded.names("/gone")) == (NAMES, [])


def test_a_recording_of_before_has_no_answer(root: Path, tmp_path: Path) -> None:
    RecordingHost(LiveHost(root)).save(tmp_path / "recording")
    manifest = json.loads((tmp_path / "recording/manifest.json").read_bytes())
    assert not [e for e in manifest["answers"] if e["question"][0] == "names"]
    with pytest.raises(EvidenceError, match="does not tell names /boot"):
        RecordedHost(tmp_path / "recording").names(BOOT)
