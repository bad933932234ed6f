# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording a machine: everything is asked, no error stops it."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_tree import FILES, GONE, KERNEL, SHA256, XEN, machine, outcome, questions

from aemseal.flows.record import record
from aemseal.words.errors import ReplayError, UsageError
from aemseal.world.host import Host, LiveHost
from aemseal.world.recording import RecordedHost

PLAIN = ("log", "pcrs", "no bank", "grub", "env", "hook", "state", "baseline")


def touch_nothing(host: Host) -> None:
    _ = host


def look_at_the_boot_files(host: Host) -> None:
    host.look([XEN, KERNEL], [SHA256])


def same(replay: Host, live: Host, names: tuple[str, ...]) -> bool:
    told, true = questions(replay), questions(live)
    return {n: outcome(told[n]) for n in names} == {n: outcome(true[n]) for n in names}


def test_the_machine_is_asked_everything_that_needs_no_survey(tmp_path: Path) -> None:
    live = machine(tmp_path / "root")
    names = record(live, tmp_path / "r", touch_nothing)
    assert sorted(names) == sorted(each.name for each in (tmp_path / "r").iterdir())
    assert same(RecordedHost(tmp_path / "r"), live, PLAIN)


def test_what_the_survey_looked_at_is_in_it(tmp_path: Path) -> None:
    live = machine(tmp_path / "root")
    record(live, tmp_path / "r", look_at_the_boot_files)
    replay = RecordedHost(tmp_path / "r")
    assert same(replay, live, ("look xen 1", "look all 1"))
    assert replay.warnings == ()


@pytest.mark.parametrize("absent", sorted(FILES))
def test_a_machine_that_lacks_something_is_recorded_too(
    tmp_path: Path, absent: str
) -> None:
    files = {path: data for path, data in FILES.items() if path != absent}
    live = machine(tmp_path / "root", files)
    record(live, tmp_path / "r", look_at_the_boot_files)
    assert same(RecordedHost(tmp_path / "r"), live, PLAIN)


def test_a_machine_with_nothing_is_recorded_too(tmp_path: Path) -> None:
    live = LiveHost(tmp_path / "root")
    names = record(live, tmp_path / "r", look_at_the_boot_files)
    assert names == ["pcrs.json", "files.json", "manifest.json"]
    assert same(RecordedHost(tmp_path / "r"), live, (*PLAIN, "look all 1"))


def test_a_survey_that_stops_leaves_a_warning_and_what_it_saw(tmp_path: Path) -> None:
    def stops(host: Host) -> None:
        look_at_the_boot_files(host)
        raise ReplayError("PCR 17 does not replay")

    live = machine(tmp_path / "root")
    record(live, tmp_path / "r", stops)
    replay = RecordedHost(tmp_path / "r")
    assert replay.warnings == ("the survey stopped: PCR 17 does not replay",)
    assert same(replay, live, ("look xen 1", *PLAIN))


def test_a_boot_file_that_is_missing_is_recorded_as_missing(tmp_path: Path) -> None:
    def ask(host: Host) -> None:
        host.look([GONE, KERNEL], [SHA256])

    live = machine(tmp_path / "root")
    record(live, tmp_path / "r", ask)
    replay = RecordedHost(tmp_path / "r")
    assert replay.look([KERNEL], [SHA256]) == live.look([KERNEL], [SHA256])
    assert "/boot/gone does not exist" in replay.warnings[0]


def test_nothing_is_read_for_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    def never(host: Host) -> None:
        raise AssertionError(host)

    with pytest.raises(UsageError, match="is not empty"):
        record(LiveHost(tmp_path), machine(tmp_path).root, never)
