# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of several logs, of NV indices and small files, and of earlier tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from host_memory import heap_registers, memory_log, plant_memory
from host_tree import (
    LOCKED_INDEX,
    LOG,
    NO_INDEX,
    POLICY_INDEX,
    XEN_CFG,
    machine,
    outcome,
    plant,
)
from recordings import ask_everything, edited, first_answer, put, recorded

from aemseal.words.errors import BootFileError, EvidenceError, LogError, TpmError
from aemseal.world.host import SMALL_LIMIT, LiveHost
from aemseal.world.recording import RecordedHost
from aemseal.world.recording_format import MOST_LOGS

HEAP = 0x7D800000
TEXT = b"TBOOT: command line: rd.password=hunter2\n"


@pytest.fixture
def live(tmp_path: Path) -> LiveHost:
    """A machine with a log of the kernel's, a TXT heap and tboot's text."""
    memory = {0x60000: memory_log(TEXT), HEAP: b"heap", **heap_registers(HEAP, 4096)}
    return machine(plant_memory(tmp_path / "root", memory))


@pytest.fixture
def folder(tmp_path: Path, live: LiveHost) -> Path:
    recorded(live, tmp_path / "recording", ask_everything)
    return tmp_path / "recording"


def of_before(folder: Path) -> Path:
    """Make it a recording of a tool that knew one log and no other new question."""

    def forget(manifest: dict[str, list[dict[str, list[str]]]]) -> None:
        manifest["answers"] = [
            each
            for each in manifest["answers"]
            if each["question"][0] not in ("event_logs", "nv_read", "small_file")
        ]

    return edited(folder, "manifest.json", forget)


class TestLogs:
    def test_all_of_them_come_back_in_order(self, live: LiveHost, folder: Path) -> None:
        found = list(RecordedHost(folder).event_logs())
        assert found == list(live.event_logs())
        assert [where for where, _ in found] == [
            LOG,
            "the TXT heap at 0x7d800000 (/dev/mem)",
            "tboot's memory log at 0x60000 (/dev/mem)",
        ]
        assert RecordedHost(folder).event_log() == (LOG, b"the log")

    def test_each_has_a_file_of_its_own(self, folder: Path) -> None:
        assert (folder / "event-log.bin").read_bytes() == b"the log"
        assert (folder / "event-log-2.bin").read_bytes() == b"heap".ljust(4096, b"\0")
        assert (folder / "event-log-3.bin").read_bytes() == TEXT
        assert len(list(folder.glob("event-log*"))) == 3

    def test_the_first_is_there_for_a_tool_that_asks_for_one(
        self, folder: Path
    ) -> None:
        answers = json.loads((folder / "manifest.json").read_text())["answers"]
        (one,) = [each for each in answers if each["question"] == ["event_log"]]
        assert (one["place"], one["file"]) == (LOG, "event-log.bin")

    def test_where_there_was_none_each_way_of_asking_gives_the_error(
        self, tmp_path: Path
    ) -> None:
        bare = LiveHost(tmp_path / "root")
        recorded(bare, tmp_path / "r", ask_everything)
        for folder in (tmp_path / "r", of_before(tmp_path / "r")):
            replay = RecordedHost(folder)
            assert outcome(replay.event_log) == outcome(bare.event_log)
            with pytest.raises(LogError, match="no event log of the launch at"):
                list(replay.event_logs())

    def test_a_secret_in_any_of_them_is_warned_of_by_its_place(
        self, folder: Path
    ) -> None:
        (warning,) = RecordedHost(folder).warnings
        assert warning.startswith("tboot's memory log at 0x60000 (/dev/mem): rd.passw")
        assert "hunter2" not in warning

    def test_a_recording_of_before_has_its_one_log(self, folder: Path) -> None:
        replay = RecordedHost(of_before(folder))
        assert list(replay.event_logs()) == [(LOG, b"the log")]
        assert replay.event_log() == (LOG, b"the log")
        with pytest.raises(EvidenceError, match="does not tell nv_read 0x01c10131"):
            replay.nv_read(POLICY_INDEX)
        with pytest.raises(EvidenceError, match=f"does not tell small_file {XEN_CFG}"):
            replay.small_file(XEN_CFG)

    def test_a_recording_of_one_of_before_tells_as_much(
        self, folder: Path, tmp_path: Path
    ) -> None:
        replay = RecordedHost(of_before(folder))
        again = recorded(replay, tmp_path / "again", ask_everything)
        assert list(again.event_logs()) == [(LOG, b"the log")]


class TestHostileLogs:
    def test_one_file_that_is_gone_spoils_them_all(self, folder: Path) -> None:
        (folder / "event-log-2.bin").unlink()
        with pytest.raises(
            EvidenceError, match=r"the recording lacks event-log-2\.bin"
        ):
            RecordedHost(folder).event_log()

    @pytest.mark.parametrize("count", [0, MOST_LOGS + 1])
    def test_their_number_is_bounded(self, folder: Path, count: int) -> None:
        logs = [{"place": "/x", "file": "event-log.bin"}] * count
        with pytest.raises(EvidenceError, match=f"logs are 1 to {MOST_LOGS}"):
            RecordedHost(first_answer(folder, "event_logs", logs=logs))

    @pytest.mark.parametrize(
        "logs", [None, 5, ["/x"], [{"place": "/x", "file": "../secret"}], [{}]]
    )
    def test_anything_else_is_refused(self, folder: Path, logs: object) -> None:
        with pytest.raises(EvidenceError, match=r"manifest\.json"):
            RecordedHost(first_answer(folder, "event_logs", logs=logs))

    def test_a_place_does_not_reach_the_terminal_raw(self, folder: Path) -> None:
        logs = [{"place": "/x\x1b[2J", "file": "event-log.bin"}]
        host = RecordedHost(first_answer(folder, "event_logs", logs=logs))
        assert host.event_log() == (r"/x\x1b[2J", b"the log")

    def test_a_place_must_be_text(self, folder: Path) -> None:
        change = put("answers", 0, "logs", 0, "place", value=7)
        with pytest.raises(EvidenceError):
            RecordedHost(edited(folder, "manifest.json", change))


class TestIndicesAndFiles:
    def test_an_index_comes_back_and_so_does_its_absence(self, folder: Path) -> None:
        replay = RecordedHost(folder)
        assert replay.nv_read(POLICY_INDEX) == b"a policy"
        assert replay.nv_read(NO_INDEX) is None
        with pytest.raises(TpmError, match="may not be read"):
            replay.nv_read(LOCKED_INDEX)
        assert (folder / "nv-01c10131.bin").read_bytes() == b"a policy"

    def test_a_small_file_comes_back_and_so_does_its_absence(
        self, folder: Path
    ) -> None:
        replay = RecordedHost(folder)
        assert replay.small_file(XEN_CFG) == b"[qubes]\noptions=console=vga\n"
        assert replay.small_file("/boot/efi/EFI/xen/xen.cfg") is None

    def test_a_secret_in_one_is_warned_of_by_its_line(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        plant(
            live.root, {XEN_CFG: b"[qubes]\nkernel=vmlinuz rd.iscsi.password=hunter2"}
        )
        replay = recorded(live, tmp_path / "r", lambda host: host.small_file(XEN_CFG))
        (warning,) = replay.warnings
        assert warning.startswith(f"{XEN_CFG} line 2: rd.iscsi.password= may hold")
        assert "hunter2" not in warning

    def test_one_that_is_too_large_is_refused_alike(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        plant(live.root, {XEN_CFG: bytes(SMALL_LIMIT)})
        assert live.small_file(XEN_CFG) == bytes(SMALL_LIMIT)
        plant(live.root, {XEN_CFG: bytes(SMALL_LIMIT + 1)})
        replay = recorded(
            live, tmp_path / "r", lambda host: outcome(lambda: host.small_file(XEN_CFG))
        )
        for host in (live, replay):
            with pytest.raises(BootFileError, match=r"xen\.cfg is larger than 65536"):
                host.small_file(XEN_CFG)

    def test_a_machine_without_a_tpm_2_0_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(TpmError, match=r"no TPM 2\.0 to read"):
            LiveHost(tmp_path).nv_read(POLICY_INDEX)
