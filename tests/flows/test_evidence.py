# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of several logs is the launch's: the one that gives the live PCRs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_log_bytes import agile_record, spec_id
from host_tree import plant

from aemseal.flows.evidence import read_launch, read_log
from aemseal.measure.replay import verify
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    BankError,
    FormatError,
    LogError,
    ReplayError,
    UnmeasuredError,
)
from aemseal.world.host import LiveHost
from aemseal.world.log_places import LOG_PLACES
from aemseal.world.recording import RecordedHost, RecordingHost

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
FIRST, SECOND, THIRD = LOG_PLACES[:3]
SINIT, TBOOT, XEN = (hashlib.sha256(each).digest() for each in (b"a", b"b", b"c"))
NO_LOG = b"this is text and no log of any kind"


def a_log(*events: tuple[int, bytes]) -> bytes:
    """A crypto-agile log with these digests in the sha256 bank."""
    records = [agile_record(pcr, 0x501, [(0x0B, each)]) for pcr, each in events]
    return spec_id({0x0B: 32}) + b"".join(records)


RIGHT = a_log((17, SINIT), (17, TBOOT), (18, XEN))
SPOILT = a_log((17, SINIT), (17, bytes(32)), (18, bytes(32)))
"""As tboot 1.9.7 to 1.10.0 leave it: SINIT's records, then zeros."""

WITHOUT_18 = a_log((17, SINIT), (17, TBOOT))


def fold(*digests: bytes) -> Digest:
    value = bytes(32)
    for each in digests:
        value = hashlib.sha256(value + each).digest()
    return Digest(SHA256, value)


def live(algorithm: HashAlgorithm) -> PcrBank:
    """A TPM after that launch."""
    bank = PcrBank.at_startup(algorithm).after_dynamic_launch()
    values = {17: fold(SINIT, TBOOT), 18: fold(XEN)}
    return PcrBank(SHA256, {**bank.values, **values})


def host_with(root: Path, *logs: bytes) -> LiveHost:
    plant(root, dict(zip(LOG_PLACES, logs, strict=False)))
    return LiveHost(root, live)


class TestChoice:
    @pytest.mark.parametrize(
        ("logs", "place"),
        [
            ((RIGHT,), FIRST),
            ((RIGHT, SPOILT), FIRST),
            ((SPOILT, RIGHT), SECOND),
            ((NO_LOG, RIGHT), SECOND),
            ((b"", RIGHT), SECOND),
            ((WITHOUT_18, RIGHT), SECOND),
            ((NO_LOG, SPOILT, RIGHT), THIRD),
        ],
    )
    def test_the_first_that_gives_the_live_pcrs_is_taken(
        self, tmp_path: Path, logs: tuple[bytes, ...], place: str
    ) -> None:
        where, log, bank = read_launch(host_with(tmp_path, *logs), SHA256)
        assert where == place
        verify(log, bank, PcrSelection.parse("sha256:17,18"))

    def test_no_other_place_is_looked_at_once_it_is_found(self, tmp_path: Path) -> None:
        class Watched(LiveHost):
            def event_logs(self) -> Iterator[tuple[str, bytes]]:
                yield from [("/spoilt", SPOILT), ("/right", RIGHT)]
                raise AssertionError("looked on")

        assert read_launch(Watched(tmp_path, live), SHA256)[0] == "/right"

    def test_one_that_gives_pcr_17_alone_is_better_than_none(
        self, tmp_path: Path
    ) -> None:
        where, log, bank = read_launch(host_with(tmp_path, SPOILT, WITHOUT_18), SHA256)
        assert where == SECOND
        verify(log, bank, PcrSelection.parse("sha256:17"))

    def test_a_log_that_is_the_only_one_is_left_for_verify_to_judge(
        self, tmp_path: Path
    ) -> None:
        where, log, bank = read_launch(host_with(tmp_path, SPOILT), SHA256)
        assert where == FIRST
        with pytest.raises(ReplayError):
            verify(log, bank, PcrSelection.parse("sha256:17"))

    def test_a_recording_chooses_as_the_machine_did(self, tmp_path: Path) -> None:
        recorder = RecordingHost(host_with(tmp_path / "root", SPOILT, NO_LOG, RIGHT))
        read_launch(recorder, SHA256)
        recorder.save(tmp_path / "r")
        assert read_launch(RecordedHost(tmp_path / "r"), SHA256)[0] == THIRD


class TestNoneIsRight:
    def test_the_first_ones_error_names_the_others(self, tmp_path: Path) -> None:
        host = host_with(tmp_path, SPOILT, NO_LOG)
        with pytest.raises(ReplayError, match="does not give PCR 17") as told:
            read_launch(host, SHA256)
        hint = told.value.hint or ""
        assert "; tried, too: " in hint
        assert f"{SECOND} ({SECOND}: this is no event log" in hint

    def test_the_first_ones_error_may_be_that_it_is_none(self, tmp_path: Path) -> None:
        host = host_with(tmp_path, NO_LOG, SPOILT)
        with pytest.raises(FormatError, match=f"^{FIRST}: this is no event") as told:
            read_launch(host, SHA256)
        assert f"{SECOND} (the event log does not give PCR 17" in (
            told.value.hint or ""
        )

    def test_one_that_is_none_and_alone_is_told_as_it_is(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match=f"^{FIRST}: ") as told:
            read_launch(host_with(tmp_path, NO_LOG), SHA256)
        assert "tried" not in (told.value.hint or "")

    def test_a_bank_that_no_log_has_is_named(self, tmp_path: Path) -> None:
        plant(tmp_path, {FIRST: RIGHT, SECOND: WITHOUT_18})
        ones = PcrBank(SHA1, {17: Digest(SHA1, b"\1" * 20)})
        with pytest.raises(BankError, match="no sha1 bank") as told:
            read_launch(LiveHost(tmp_path, lambda _: ones), SHA1)
        assert SECOND in (told.value.hint or "")

    def test_no_log_at_all_is_the_hosts_error(self, tmp_path: Path) -> None:
        for read in (read_log, lambda host: read_launch(host, SHA256)):
            with pytest.raises(LogError, match="there is no event log of the launch"):
                read(host_with(tmp_path))

    def test_without_a_launch_no_log_is_missed(self, tmp_path: Path) -> None:
        host = LiveHost(tmp_path, PcrBank.at_startup)
        with pytest.raises(UnmeasuredError):
            read_launch(host, SHA256)


class TestUnverified:
    """What is only listed, or recorded, is held against no PCR."""

    def test_the_first_that_parses_is_taken(self, tmp_path: Path) -> None:
        assert read_log(host_with(tmp_path, NO_LOG, SPOILT, RIGHT))[0] == SECOND

    def test_where_none_does_the_first_ones_error_names_the_others(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(FormatError, match=f"^{FIRST}: ") as told:
            read_log(host_with(tmp_path, NO_LOG, b""))
        assert SECOND in (told.value.hint or "")
