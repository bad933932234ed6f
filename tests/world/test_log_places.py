# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the launch's log is looked for, in which order, and what is said of each."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from event_log_bytes import spec_id
from host_memory import TBOOT_LOG, heap_registers, memory_log, plant_memory
from host_tree import plant

from aemseal.words.errors import AemsealError, LogError
from aemseal.world import log_places
from aemseal.world.log_places import (
    LOG_PLACES,
    TXT_HEAP_LIMIT,
    TXT_STAT_FILE,
    LogPlaces,
)
from aemseal.world.rooted import Rooted
from aemseal.world.xen_console import CONSOLE_FILE, Run

HEAP, XEN_LOG = 0x7D800000, 0x7B200000
CONSOLE = b"(XEN) SLAUNCH: reserving event log (%#x - %#x)\n" % (
    XEN_LOG,
    XEN_LOG + 0x8000,
)
CONTAINER = b"TXT Event Container\0".ljust(48, b"\0")
TEXT = b"TBOOT: Event:\n"


def machine_with_all(root: Path) -> LogPlaces:
    """A machine that has a log in every place."""
    plant(root, {each: each.encode() for each in LOG_PLACES})
    plant(root, {CONSOLE_FILE: CONSOLE, TXT_STAT_FILE: b"TBOOT log:\n"})
    memory = {
        XEN_LOG: CONTAINER,
        HEAP: b"the heap",
        TBOOT_LOG: memory_log(TEXT),
        **heap_registers(HEAP, 0x1000),
    }
    return LogPlaces(Rooted(plant_memory(root, memory)), None)


def told_by(places: LogPlaces) -> LogError:
    with pytest.raises(LogError) as refusal:
        list(places.logs())
    return refusal.value


def with_heap(root: Path, base: int, size: int) -> LogPlaces:
    return LogPlaces(Rooted(plant_memory(root, heap_registers(base, size))), None)


class TestOrder:
    def test_files_come_before_memory_and_logs_before_text(
        self, tmp_path: Path
    ) -> None:
        found = list(machine_with_all(tmp_path).logs())
        assert [where for where, _ in found] == [
            "/sys/kernel/security/txt/tpm20_binary_evtlog_tcg",
            "/sys/kernel/security/txt/tpm20_binary_evtlog",
            "/sys/kernel/security/txt/tpm20_binary_evtlog_legacy",
            "/sys/kernel/security/txt/tpm12_binary_evtlog",
            "/sys/kernel/security/slaunch/eventlog",
            "the event log at 0x7b200000 that Xen reserved (/dev/mem)",
            "the TXT heap at 0x7d800000 (/dev/mem)",
            "tboot's memory log at 0x60000 (/dev/mem)",
            TXT_STAT_FILE,
        ]
        assert [data for _, data in found[5:]] == [
            CONTAINER.ljust(0x8000, b"\0"),
            b"the heap".ljust(0x1000, b"\0"),
            TEXT,
            b"TBOOT log:\n",
        ]

    def test_a_place_is_not_looked_at_before_its_turn(self, tmp_path: Path) -> None:
        logs = machine_with_all(tmp_path).logs()
        assert next(logs)[0] == LOG_PLACES[0]
        (tmp_path / "dev/mem").unlink()
        assert [where for where, _ in logs][-1] == TXT_STAT_FILE

    def test_a_configured_place_is_the_only_one(self, tmp_path: Path) -> None:
        all_places = machine_with_all(tmp_path)
        plant(tmp_path, {"/log": b"mine"})
        named = LogPlaces(all_places.files, None, "/log")
        assert list(named.logs()) == [("/log", b"mine")]
        (tmp_path / "log").unlink()
        assert told_by(named).message == "there is no event log of the launch at /log"

    def test_the_firmwares_log_is_never_taken(self, tmp_path: Path) -> None:
        place = "/sys/kernel/security/tpm0/binary_bios_measurements"
        root = plant(tmp_path, {place: CONTAINER})
        assert place not in told_by(LogPlaces(Rooted(root), None)).message


class TestNoLog:
    def test_all_places_are_told_in_one_error(self, tmp_path: Path) -> None:
        error = told_by(LogPlaces(Rooted(tmp_path), None))
        where = ", ".join([*LOG_PLACES, CONSOLE_FILE, "/dev/mem", TXT_STAT_FILE])
        assert error.message == f"there is no event log of the launch at {where}"
        assert "event_log" in (error.hint or "")

    def test_each_reason_is_told(self, tmp_path: Path) -> None:
        root = plant_memory(tmp_path, {})
        plant(root, {CONSOLE_FILE: b"(XEN) nothing\n"})
        (root / LOG_PLACES[0].lstrip("/")).mkdir(parents=True)
        error = told_by(LogPlaces(Rooted(root), None))
        for reason in (
            f"; {LOG_PLACES[0]} is not a regular file; ",
            f"{CONSOLE_FILE} names no event log; ",
            "the TXT registers name no heap: there is no TXT, or it is off; ",
            "no log of tboot's is at 0x60000",
        ):
            assert reason in error.message
        assert error.message.count(LOG_PLACES[0]) == 1
        assert "logging=memory" in (error.hint or "")

    def test_with_no_place_absent_the_reasons_follow_at_once(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "log").mkdir()
        error = told_by(LogPlaces(Rooted(tmp_path), None, "/log"))
        assert error.message == (
            "there is no event log of the launch: /log is not a regular file"
        )

    def test_memory_that_is_kept_shut_is_told_with_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> bytes:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "pread", refuse)
        error = told_by(with_heap(tmp_path, HEAP, 0x1000))
        for address in ("0xfed30300", "0x60000"):
            words = f"/dev/mem cannot be read at {address}: operation not permitted"
            assert words in error.message
        assert "CONFIG_STRICT_DEVMEM" in (error.hint or "")

    def test_somebody_who_is_not_root_is_told_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        places = with_heap(tmp_path, HEAP, 0x1000)
        monkeypatch.setattr(os, "open", refuse)
        error = told_by(places)
        assert error.message.count("/dev/mem cannot be read: permission denied") == 1
        assert error.hint == "run aemseal as root"

    def test_a_log_that_is_too_large_is_passed_over_and_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_places, "LOG_LIMIT", 6)
        root = plant(tmp_path, {LOG_PLACES[0]: b"too long", LOG_PLACES[3]: b"log"})
        places = LogPlaces(Rooted(root), None)
        assert list(places.logs()) == [(LOG_PLACES[3], b"log")]
        (root / LOG_PLACES[3].lstrip("/")).unlink()
        assert f"{LOG_PLACES[0]} is larger than 6 bytes" in told_by(places).message


class TestWhatXenReserved:
    @pytest.mark.parametrize("begin", [CONTAINER, spec_id()])
    def test_a_log_of_either_kind_is_found(self, tmp_path: Path, begin: bytes) -> None:
        root = plant_memory(plant(tmp_path, {CONSOLE_FILE: CONSOLE}), {XEN_LOG: begin})
        ((_, data),) = LogPlaces(Rooted(root), None).logs()
        assert data == begin.ljust(0x8000, b"\0")

    def test_memory_that_is_no_log_is_not_handed_on(self, tmp_path: Path) -> None:
        """The console may be of an earlier boot: it may be anybody's memory now."""
        root = plant_memory(
            plant(tmp_path, {CONSOLE_FILE: CONSOLE}), {XEN_LOG: b"secret" + CONTAINER}
        )
        error = told_by(LogPlaces(Rooted(root), None))
        words = "no event log is at 0x7b200000, which Xen's console names"
        assert words in error.message


class TestHeap:
    def test_the_largest_at_the_highest_place(self, tmp_path: Path) -> None:
        places = with_heap(tmp_path, (1 << 32) - TXT_HEAP_LIMIT, TXT_HEAP_LIMIT)
        ((where, data),) = places.logs()
        assert where == "the TXT heap at 0xff000000 (/dev/mem)"
        assert len(data) == TXT_HEAP_LIMIT

    @pytest.mark.parametrize(
        ("base", "size"),
        [(0, 0), (0, 0x1000), (HEAP, 0), ((1 << 64) - 1, (1 << 64) - 1)],
    )
    def test_registers_of_a_machine_without_txt(
        self, tmp_path: Path, base: int, size: int
    ) -> None:
        error = told_by(with_heap(tmp_path, base, size))
        assert "the TXT registers name no heap" in error.message

    @pytest.mark.parametrize(
        ("base", "size"),
        [
            (HEAP + 8, 0x1000),
            (HEAP, TXT_HEAP_LIMIT + 1),
            (HEAP, (1 << 64) - 1),
            (1 << 32, 0x1000),
            ((1 << 32) - 0x1000, 0x1001),
        ],
    )
    def test_registers_that_make_no_sense(
        self, tmp_path: Path, base: int, size: int
    ) -> None:
        error = told_by(with_heap(tmp_path, base, size))
        words = f"the TXT registers name no sound heap: {size:#x} bytes at {base:#x}"
        assert words in error.message

    def test_memory_that_ends_within_it(self, tmp_path: Path) -> None:
        memory = heap_registers(0xFFFFF000, 0x1000)
        root = plant_memory(tmp_path, memory, (1 << 32) - 16)
        error = told_by(LogPlaces(Rooted(root), None))
        assert "/dev/mem ends before 0xfffffff0" in error.message


class TestPrograms:
    """On the machine itself; below another root a file stands for each program."""

    def test_they_are_asked_where_files_do_not_tell(self, tmp_path: Path) -> None:
        root = plant_memory(tmp_path, {XEN_LOG: CONTAINER})
        said = {"xl": CONSOLE, "txt-stat": b"TXT\nTBOOT log:\n" + TEXT}
        found = list(LogPlaces(Rooted(root), saying(said)).logs())
        assert [where for where, _ in found] == [
            "the event log at 0x7b200000 that Xen reserved (/dev/mem)",
            "the output of txt-stat",
        ]
        assert found[1][1] == said["txt-stat"]

    def test_a_file_is_not_taken_for_txt_stat(self, tmp_path: Path) -> None:
        """It might be of another boot."""
        plant(tmp_path, {TXT_STAT_FILE: b"TBOOT log:\n"})
        error = told_by(LogPlaces(Rooted(tmp_path), saying({})))
        assert "there is no program xl, " in error.message
        assert error.message.endswith("; there is no program txt-stat")

    def test_one_that_finds_no_log_gives_none(self, tmp_path: Path) -> None:
        run = saying({"txt-stat": b"unable to find TBOOT log\n"})
        error = told_by(LogPlaces(Rooted(tmp_path), run))
        assert "txt-stat finds no log of tboot's" in error.message


def saying(outputs: dict[str, bytes]) -> Run:
    """Return how programs are run where these alone are there."""

    def run(arguments: Sequence[str]) -> bytes:
        name = arguments[0]
        if name not in outputs:
            raise AemsealError(f"there is no program {name}")
        return outputs[name]

    return run
