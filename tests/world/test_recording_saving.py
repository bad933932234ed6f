# SPDX-License-Identifier: GPL-2.0-or-later
"""What a recording is saved as: named files, without secrets, in an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from host_tree import FILES, GRUB, KERNEL, LOG, SHA256, machine, plant
from recordings import ask_everything, recorded

from aemseal.words.errors import AemsealError, UsageError
from aemseal.world.host import LiveHost
from aemseal.world.recording import RecordedHost, RecordingHost


@pytest.fixture
def live(tmp_path: Path) -> LiveHost:
    return machine(tmp_path / "root")


@pytest.fixture
def folder(tmp_path: Path, live: LiveHost) -> Path:
    """A whole recording of that machine."""
    recorded(live, tmp_path / "recording", ask_everything)
    return tmp_path / "recording"


class TestSaving:
    def test_the_files_are_named_the_manifest_last(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        recorder = RecordingHost(live)
        ask_everything(recorder)
        names = recorder.save(tmp_path / "r")
        assert sorted(names) == sorted(each.name for each in (tmp_path / "r").iterdir())
        assert names[-1] == "manifest.json"
        assert (tmp_path / "r/event-log.bin").read_bytes() == FILES[LOG]
        assert (tmp_path / "r/grub.cfg").read_bytes() == FILES[GRUB]

    def test_no_boot_file_is_in_it(self, live: LiveHost, tmp_path: Path) -> None:
        secret = b"a key inside an initramfs"
        plant(live.root, {"/boot/vmlinuz": secret})
        recorded(live, tmp_path / "r", lambda host: host.look([KERNEL], [SHA256]))
        assert all(
            secret not in each.read_bytes() for each in (tmp_path / "r").iterdir()
        )

    def test_grubs_passwords_are_not_in_it(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        config = b"password root hunter2\nmenuentry 'Qubes' { true }\n"
        plant(
            live.root,
            {
                GRUB: config,
                "/boot/grub2/grubenv": b"GRUB2_PASSWORD=hunter2\n",
                "/boot/grub2/custom.cfg": b"GRUB2_PASSWORD=hunter2\n",
            },
        )
        replay = recorded(live, tmp_path / "r", ask_everything)
        for each in (tmp_path / "r").iterdir():
            assert b"hunter2" not in each.read_bytes()
        clean = config.replace(b"hunter2", b"redacted")
        assert replay.grub_config() == (GRUB, clean)
        assert set(replay.recording.redacted) == {
            GRUB,
            "grub_env",
            "/grub2/custom.cfg",
        }

    def test_a_file_that_grub_only_tests_for_is_not_in_it(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        plant(live.root, {"/boot/initramfs": b"\x1f\x8b a secret"})
        replay = recorded(
            live, tmp_path / "r", lambda host: host.grub_read("/initramfs")
        )
        assert replay.grub_read("/initramfs") == bytes(11)
        for each in (tmp_path / "r").iterdir():
            assert b"a secret" not in each.read_bytes()

    def test_an_environment_block_that_is_loaded_keeps_its_size(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        block = b"# GRUB Environment Block\npassword=hunter2\n###"
        plant(live.root, {"/boot/env": block})
        replay = recorded(live, tmp_path / "r", lambda host: host.grub_read("/env"))
        assert replay.grub_read("/env") == block.replace(b"hunter2", b"xxxxxxx")

    def test_a_secret_that_is_measured_stays_and_is_warned_of(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        measured = b"module /vmlinuz rd.iscsi.password=hunter2 rd.luks.key=/tmp/k"
        state = json.dumps({"cmdline": b"token=hunter2".hex()}).encode()
        plant(live.root, {GRUB: b"\n" + measured, "/var/lib/aemseal/state.json": state})
        replay = recorded(live, tmp_path / "r", ask_everything)
        assert replay.grub_config()[1] == b"\n" + measured
        assert [each.split(" may")[0] for each in replay.warnings] == [
            f"{GRUB} line 2: rd.iscsi.password=",
            "state.json: token=",
        ]
        assert not any("hunter2" in each for each in replay.warnings)

    def test_a_remark_is_kept(self, live: LiveHost, tmp_path: Path) -> None:
        recorder = RecordingHost(live)
        recorder.remark("the survey stopped")
        recorder.save(tmp_path / "r")
        assert RecordedHost(tmp_path / "r").warnings == ("the survey stopped",)

    def test_a_folder_with_anything_in_it_is_refused(
        self, folder: Path, live: LiveHost, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="is not empty"):
            RecordingHost(live).save(folder)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(UsageError, match="is no folder"):
            RecordingHost(live).save(tmp_path / "file")
        (tmp_path / "empty").mkdir()
        assert RecordingHost(live).save(tmp_path / "empty")[-1] == "manifest.json"

    def test_what_cannot_be_written_says_why(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        with pytest.raises(AemsealError, match="cannot be written: no such file"):
            RecordingHost(live).save(tmp_path / "no/such")
        with pytest.raises(AemsealError, match="cannot be read: file name too long"):
            RecordingHost(live).save(tmp_path / ("x" * 300))
