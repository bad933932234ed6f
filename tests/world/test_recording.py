# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording answers like the machine it was made of, and is trusted in nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from host_tree import (
    FILES,
    GONE,
    GRUB,
    KERNEL,
    LOG,
    SHA1,
    SHA256,
    XEN,
    XEN_AS_LOADED,
    machine,
    outcome,
    plant,
    questions,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import (
    AemsealError,
    BankError,
    BootFileError,
    EvidenceError,
    FormatError,
    LockoutError,
    TpmError,
    UsageError,
)
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world import recording as recording_module
from aemseal.world.config import Config
from aemseal.world.host import Host, LiveHost, Looked
from aemseal.world.recording import RecordedHost, RecordingHost
from aemseal.world.redaction import is_text

SHA384 = HashAlgorithm.SHA384
SOURCED = ("/boot/grub2/custom.cfg", "/boot/xen.gz")
"""What the questions let GRUB read: of anything but text only the size is kept."""


def recorded(host: Host, folder: Path, ask: Callable[[Host], object]) -> RecordedHost:
    recorder = RecordingHost(host)
    ask(recorder)
    recorder.save(folder)
    return RecordedHost(folder)


def ask_everything(host: Host) -> dict[str, object]:
    return {name: outcome(ask) for name, ask in questions(host).items()}


@pytest.fixture
def live(tmp_path: Path) -> LiveHost:
    return machine(tmp_path / "root")


@pytest.fixture
def folder(tmp_path: Path, live: LiveHost) -> Path:
    """A whole recording of that machine."""
    recorded(live, tmp_path / "recording", ask_everything)
    return tmp_path / "recording"


class TestRoundTrip:
    def test_every_answer_and_every_error_comes_back(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        replay = recorded(live, tmp_path / "recording", ask_everything)
        assert ask_everything(replay) == ask_everything(live)

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        absent=st.sets(st.sampled_from(sorted(FILES))),
        damaged=st.fixed_dictionaries(
            {},
            optional={
                path: st.text(max_size=64).map(str.encode).filter(is_text)
                if path in SOURCED
                else st.binary(max_size=64)
                for path in FILES
            },
        ),
        tpm=st.booleans(),
        order=st.randoms(use_true_random=False),
    )
    def test_of_any_machine_in_any_order(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        absent: set[str],
        damaged: dict[str, bytes],
        tpm: bool,
        order: Any,
    ) -> None:
        top = tmp_path_factory.mktemp("any")
        files = {path: FILES[path] for path in FILES if path not in absent}
        live = machine(top / "root", {**files, **damaged})
        live = LiveHost(live.root, live.read_pcrs if tpm else None, Config())

        def ask(host: Host) -> None:
            asked = list(questions(host).values())
            order.shuffle(asked)
            for each in asked[: order.randint(1, len(asked))]:
                outcome(each)

        (top / "root").mkdir(exist_ok=True)
        recorder = RecordingHost(live)
        ask(recorder)
        expected = {
            name: outcome(question)
            for name, question in questions(live).items()
            if self.is_known(recorder, name)
        }
        recorder.save(top / "recording")
        replay = RecordedHost(top / "recording")
        got = {name: outcome(questions(replay)[name]) for name in expected}
        assert got == expected

    @staticmethod
    def is_known(recorder: RecordingHost, name: str) -> bool:
        """Whether this was asked: its answer is there without asking the host."""
        silent = RecordingHost(_Silent())
        silent.recording = recorder.recording
        try:
            outcome(questions(silent)[name])
        except _AskedError:
            return False
        return True

    def test_the_time_is_that_of_the_recording(
        self, folder: Path, live: LiveHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = json.loads((folder / "manifest.json").read_text())["made"]
        monkeypatch.setattr(LiveHost, "now", lambda _: "2099-01-01T00:00:00Z")
        assert RecordedHost(folder).now() == made
        assert recorded(live, folder / "new", ask_everything).now()[:4] == "2099"

    def test_a_recording_of_a_recording_is_the_same(
        self, folder: Path, tmp_path: Path
    ) -> None:
        again = tmp_path / "again"
        recorded(RecordedHost(folder), again, ask_everything)
        assert {each.name: each.read_bytes() for each in again.iterdir()} == {
            each.name: each.read_bytes() for each in folder.iterdir()
        }

    @pytest.mark.parametrize(
        "error",
        [
            FormatError("a byte", 7, "do this"),
            LockoutError("the TPM is locked out", "wait"),
            TpmError("no TPM"),
            AemsealError("no room", None),
        ],
    )
    def test_an_error_keeps_its_class_and_its_words(
        self, tmp_path: Path, error: AemsealError
    ) -> None:
        def refuse(_: HashAlgorithm) -> PcrBank:
            raise error

        live = LiveHost(tmp_path, refuse)
        replay = recorded(live, tmp_path / "r", lambda h: outcome(lambda: h.pcrs(SHA1)))
        assert outcome(lambda: replay.pcrs(SHA1)) == outcome(lambda: live.pcrs(SHA1))

    def test_each_question_is_asked_of_the_host_once(self, live: LiveHost) -> None:
        recorder = RecordingHost(live)
        before = ask_everything(recorder)
        plant(live.root, dict.fromkeys(FILES, b"another"))
        assert ask_everything(recorder) == before

    def test_any_other_state_file_is_refused_as_on_a_live_host(
        self, folder: Path
    ) -> None:
        with pytest.raises(ValueError, match=r"key\.pem"):
            RecordedHost(folder).saved("key.pem")


class _AskedError(Exception):
    """The host was asked."""


class _Silent(LiveHost):
    """A host that may not be asked."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))

    def __getattribute__(self, name: str) -> object:
        if name in ("event_log", "pcrs", "grub_config", "grub_env", "grub_exists"):
            return _refuse
        if name in ("is_efi", "grub_read", "resolve", "look", "hook_record", "saved"):
            return _refuse
        return super().__getattribute__(name)


def _refuse(*_: object) -> object:
    raise _AskedError


class TestLook:
    def test_what_was_seen_of_one_entry_serves_another(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        def ask(host: Host) -> None:
            host.look([XEN], [SHA256])
            host.look([KERNEL], [SHA1, SHA256])

        replay = recorded(live, tmp_path / "r", ask)
        expected = live.look([KERNEL, XEN], [SHA256])
        assert replay.look([KERNEL, XEN], [SHA256]) == expected

    def test_more_banks_are_added_to_those_known(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        def ask(host: Host) -> None:
            host.look([XEN], [SHA256])
            host.look([XEN, KERNEL], [SHA1])

        replay = recorded(live, tmp_path / "r", ask)
        both = [SHA1, SHA256]
        assert replay.look([XEN], both) == live.look([XEN], both)
        assert replay.look([XEN, KERNEL], [SHA1]) == live.look([XEN, KERNEL], [SHA1])

    def test_files_after_a_missing_one_are_recorded_too(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        replay = recorded(
            live,
            tmp_path / "r",
            lambda host: outcome(lambda: host.look([GONE, XEN, KERNEL], [SHA256])),
        )
        assert replay.look([XEN, KERNEL], [SHA256]).keys() == {XEN, KERNEL}
        with pytest.raises(BootFileError, match="/boot/gone"):
            replay.look([XEN, GONE], [SHA256])

    def test_a_bank_that_cannot_be_computed_does_not_spoil_the_others(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        class NoSha384(LiveHost):
            def look(
                self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
            ) -> Looked:
                banks = list(algorithms)
                if SHA384 in banks:
                    raise BankError("this Python cannot compute sha384")
                return super().look(wanted, banks)

        old = NoSha384(live.root, live.read_pcrs)
        both = [SHA384, SHA256]
        replay = recorded(
            old, tmp_path / "r", lambda host: outcome(lambda: host.look([XEN], both))
        )
        assert replay.look([XEN], [SHA256]) == live.look([XEN], [SHA256])
        with pytest.raises(BankError, match="sha384"):
            replay.look([XEN], both)

    def test_a_file_that_changes_meanwhile_is_not_recorded_as_two(
        self, live: LiveHost
    ) -> None:
        recorder = RecordingHost(live)
        recorder.look([XEN], [SHA256])
        plant(live.root, {"/boot/xen.gz": b"an update"})
        with pytest.raises(EvidenceError, match=r"/boot/xen\.gz changed while"):
            recorder.look([XEN], [SHA1])

    def test_notes_come_back(self, tmp_path: Path) -> None:
        class Noted(LiveHost):
            def look(
                self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
            ) -> Looked:
                _ = algorithms
                digests = {SHA256: SHA256.hash(b"")}
                notes = {"xen_version": "4.17.5"}
                return {each: FileFacts(each, 3, digests, notes) for each in wanted}

        tboot = Wanted("/boot/tboot.gz", View.MLE, b"a\xff\0")
        host = Noted(tmp_path)
        replay = recorded(
            host, tmp_path / "r", lambda each: each.look([tboot], [SHA256])
        )
        assert replay.look([tboot], [SHA256]) == host.look([tboot], [SHA256])


class TestWhatIsLacking:
    @pytest.mark.parametrize(
        ("ask", "what"),
        [
            (lambda host: host.event_log(), "event_log"),
            (lambda host: host.pcrs(SHA256), "pcrs sha256"),
            (lambda host: host.grub_exists("/a\x1b"), r"grub_exists /a\\x1b"),
            (lambda host: host.resolve("/x"), "resolve /x"),
            (lambda host: host.saved("state.json"), r"saved state\.json"),
            (
                lambda host: host.look([XEN], [SHA256]),
                r"/boot/xen\.gz \(raw\) in sha256",
            ),
        ],
    )
    def test_an_answer_that_is_not_there_is_named(
        self,
        live: LiveHost,
        tmp_path: Path,
        ask: Callable[[Host], object],
        what: str,
    ) -> None:
        replay = recorded(live, tmp_path / "r", lambda _: None)
        with pytest.raises(EvidenceError, match=what) as refusal:
            ask(replay)
        assert "record again" in (refusal.value.hint or "")

    def test_another_view_or_bank_is_lacking(
        self, live: LiveHost, tmp_path: Path
    ) -> None:
        replay = recorded(live, tmp_path / "r", lambda host: host.look([XEN], [SHA256]))
        for wanted, bank in ((XEN_AS_LOADED, SHA256), (XEN, SHA384)):
            with pytest.raises(EvidenceError, match="does not tell"):
                replay.look([wanted], [bank])

    def test_a_file_taken_out_of_the_recording_is_lacking(self, folder: Path) -> None:
        for name in ("event-log.bin", "pcrs.json", "files.json"):
            (folder / name).unlink()
        replay = RecordedHost(folder)
        with pytest.raises(EvidenceError, match=r"lacks event-log\.bin"):
            replay.event_log()
        with pytest.raises(EvidenceError, match="does not tell pcrs"):
            replay.pcrs(SHA256)
        with pytest.raises(EvidenceError, match="does not tell /boot/xen"):
            replay.look([XEN], [SHA256])


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


def edited(folder: Path, name: str, change: Callable[[Any], object]) -> Path:
    """Change the JSON of a recording's file; a change may return another value."""
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(value) or value))
    return folder


def first_answer(folder: Path, question: str, **fields: object) -> Path:
    def change(manifest: dict[str, Any]) -> None:
        for entry in manifest["answers"]:
            if entry["question"][0] == question:
                entry.update(fields)

    return edited(folder, "manifest.json", change)


def put(*path: str | int, value: object) -> Callable[[Any], None]:
    def change(top: Any) -> None:
        for step in path[:-1]:
            top = top[step]
        top[path[-1]] = value

    return change


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
        host = RecordedHost(first_answer(folder, "event_log", error=error))
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
