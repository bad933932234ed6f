# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording is trusted in nothing: what is damaged in it is refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_tree import machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import ask_everything, edited, first_answer, put, recorded

from aemseal.words.errors import AemsealError, EvidenceError, UsageError
from aemseal.world import recording as recording_module
from aemseal.world.host import LiveHost
from aemseal.world.recording import RecordedHost


@pytest.fixture
def live(tmp_path: Path) -> LiveHost:
    return machine(tmp_path / "root")


@pytest.fixture
def folder(tmp_path: Path, live: LiveHost) -> Path:
    """A whole recording of that machine."""
    recorded(live, tmp_path / "recording", ask_everything)
    return tmp_path / "recording"


class TestHostileRecordings:
    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no/such is no folder"):
            RecordedHost(tmp_path / "no/such")
        with pytest.raises(EvidenceError, match=r"no recording: manifest\.json is mis"):
            RecordedHost(tmp_path)

    @pytest.mark.parametrize(
        ("name", "change", "complaint"),
        [
            (
                "manifest.json",
                put("version", value=2),
                "not aemseal-recording, version",
            ),
            ("manifest.json", put("format", value="x"), "not aemseal-recording"),
            ("manifest.json", put("made", value="yesterday"), "made is no time"),
            ("manifest.json", put("answers", value=3), "answers is not a list"),
            ("manifest.json", put("warnings", value=[3]), "warnings is not a list of"),
            ("manifest.json", lambda _: [1], "is not an object"),
            ("pcrs.json", put("sha257", value={}), "hash algorithm that is not known"),
            ("pcrs.json", put("sha256", value={}), "values is not an object"),
            ("pcrs.json", put("sha256", "values", "24", value="00" * 32), "0 to 23"),
            ("pcrs.json", put("sha256", "values", "x", value="00" * 32), "0 to 23"),
            ("pcrs.json", put("sha256", "values", "1", value="00"), "no sha256 digest"),
            ("pcrs.json", put("sha1", "error", "kind", value="x"), "no error of this"),
            ("files.json", put("files", 0, "path", value="x"), "no file in a view"),
            ("files.json", put("files", 0, "view", value="x"), "no file in a view"),
            ("files.json", put("files", 0, "cmdline", value="x"), "no file in a view"),
            ("files.json", put("files", 0, "size", value=-1), "size is not a number"),
            ("files.json", put("files", 0, "digests", value={"x": ""}), "not known"),
            ("files.json", put("files", 0, "notes", value=[]), "notes is not an obj"),
            ("files.json", put("errors", 0, "bank", value="x"), "not known"),
            (
                "files.json",
                put("errors", 0, "error", value=1),
                "error is not an object",
            ),
        ],
    )
    def test_what_is_malformed_is_refused_with_its_file(
        self,
        folder: Path,
        name: str,
        change: Callable[[Any], object],
        complaint: str,
    ) -> None:
        with pytest.raises(EvidenceError) as refusal:
            RecordedHost(edited(folder, name, change))
        assert name in refusal.value.message
        assert complaint in refusal.value.message

    @pytest.mark.parametrize(
        "name",
        ["../root/boot/xen.gz", "/etc/passwd", "..", "", "a/b", "A", "x\n", "a\0"],
    )
    def test_no_name_in_it_is_a_path(self, folder: Path, name: str) -> None:
        with pytest.raises(EvidenceError, match="file is no name"):
            RecordedHost(first_answer(folder, "grub_config", file=name))

    def test_a_link_in_it_does_not_lead_out(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").write_bytes(b"a secret of the reader's")
        (folder / "event-log.bin").unlink()
        (folder / "event-log.bin").symlink_to("../outside")
        with pytest.raises(EvidenceError, match=r"lacks event-log\.bin"):
            RecordedHost(folder).event_log()

    def test_a_fifo_in_it_is_refused(self, folder: Path) -> None:
        (folder / "grub.cfg").unlink()
        os.mkfifo(folder / "grub.cfg")
        with pytest.raises(
            EvidenceError, match=r"recording/grub\.cfg is not a regular"
        ):
            RecordedHost(folder)

    def test_a_file_that_is_too_large_is_refused(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recording_module, "FILE_LIMIT", 5)
        with pytest.raises(EvidenceError, match=r"manifest\.json is larger than 5 byt"):
            RecordedHost(folder)

    def test_a_path_it_answers_with_is_absolute(self, folder: Path) -> None:
        with pytest.raises(EvidenceError, match="value is not an absolute path"):
            RecordedHost(first_answer(folder, "resolve", value="../x"))
        with pytest.raises(EvidenceError, match="value is neither true nor false"):
            RecordedHost(first_answer(folder, "grub_exists", value="yes"))

    @pytest.mark.parametrize("size", [-1, (16 << 20) + 1, "1"])
    def test_a_size_it_claims_is_bounded(self, folder: Path, size: object) -> None:
        with pytest.raises(EvidenceError, match="size"):
            RecordedHost(first_answer(folder, "grub_read", size=size))

    def test_its_files_together_are_bounded(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = sum(each.stat().st_size for each in folder.iterdir())
        monkeypatch.setattr(recording_module, "WHOLE_LIMIT", whole)
        RecordedHost(folder)
        monkeypatch.setattr(recording_module, "WHOLE_LIMIT", whole - 1)
        with pytest.raises(EvidenceError, match="is larger than"):
            RecordedHost(folder)

    def test_its_words_do_not_reach_the_terminal_raw(self, folder: Path) -> None:
        error = {"kind": "log", "message": "\x1b[2J", "hint": "\x07", "offset": None}
        host = RecordedHost(first_answer(folder, "event_logs", error=error))
        with pytest.raises(AemsealError) as refusal:
            host.event_log()
        assert (refusal.value.message, refusal.value.hint) == ("\\x1b[2J", "\\x07")

    def test_what_a_later_tool_added_is_passed_over(
        self, folder: Path, live: LiveHost
    ) -> None:
        def add(manifest: dict[str, Any]) -> None:
            manifest["more"] = 1
            manifest["answers"] += [
                {"question": ["weather"], "value": "rain"},
                {"question": []},
                {"question": ["event_log", "of yesterday"], "file": "x"},
            ]

        host = RecordedHost(edited(folder, "manifest.json", add))
        assert ask_everything(host) == ask_everything(live)

    @settings(
        max_examples=120,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        name=st.sampled_from(["manifest.json", "pcrs.json", "files.json"]),
        at=st.floats(0, 1),
        junk=st.binary(max_size=6)
        | st.sampled_from([b"null", b"[]", b"{}", b"-1", b'""']),
        cut=st.integers(0, 12),
    )
    def test_no_bytes_are_worse_than_a_refusal(
        self, folder: Path, name: str, at: float, junk: bytes, cut: int
    ) -> None:
        whole = (folder / name).read_bytes()
        place = int(at * len(whole))
        (folder / name).write_bytes(whole[:place] + junk + whole[place + cut :])
        try:
            ask_everything(RecordedHost(folder))
        except AemsealError as refusal:
            told = refusal.exit_code
        else:
            told = 4
        finally:
            (folder / name).write_bytes(whole)
        assert told == 4
