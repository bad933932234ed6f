# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording answers like the machine it was made of, in all that was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from host_tree import (
    FILES,
    GONE,
    KERNEL,
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
from recordings import SHA384, SOURCED, ask_everything, recorded

from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.errors import (
    AemsealError,
    BankError,
    BootFileError,
    EvidenceError,
    FormatError,
    LockoutError,
    TpmError,
)
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.config import Config
from aemseal.world.host import Host, LiveHost, Looked
from aemseal.world.recording import RecordedHost, RecordingHost
from aemseal.world.redaction import is_text


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
        if name in ("event_logs", "pcrs", "nv_read", "small_file", "grub_config"):
            return _refuse
        if name in (
            "grub_env",
            "grub_exists",
            "is_efi",
            "grub_read",
            "resolve",
            "look",
            "hook_record",
            "saved",
        ):
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
