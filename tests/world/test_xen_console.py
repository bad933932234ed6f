# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen says of the log it reserved, in this boot and not in an earlier one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from host_tree import plant
from hypothesis import given
from hypothesis import strategies as st

from aemseal.words.errors import AemsealError, LogError
from aemseal.world import xen_console
from aemseal.world.physical_memory import AbsentError
from aemseal.world.rooted import Rooted
from aemseal.world.xen_console import (
    CONSOLE_FILE,
    XEN_LOG_LIMIT,
    Run,
    find_reserved,
    reserved_range,
)

BOOT = b"(XEN) Xen version 4.17.5 (user@host) (gcc 12.3.1) debug=n Mon May  6 2024\n"
LINE = b"(XEN) SLAUNCH: reserving event log (0x7b200000 - 0x7b208000)\n"
OTHER = b"(XEN) SLAUNCH: reserving event log [0x6d000000, 0x6d010000)\n"
NOISE = b"(XEN) SLAUNCH: reserving TXT heap (0x7d800000 - 0x7d900000)\n"
RANGE, OTHER_RANGE = (0x7B200000, 0x8000), (0x6D000000, 0x10000)


def saying(output: bytes | str) -> Run:
    """Return an `xl` that prints this, or fails with these words."""

    def run(arguments: Sequence[str]) -> bytes:
        assert list(arguments) == ["xl", "dmesg"]
        if isinstance(output, str):
            raise AemsealError(output)
        return output

    return run


class TestTheLine:
    @pytest.mark.parametrize(("line", "found"), [(LINE, RANGE), (OTHER, OTHER_RANGE)])
    def test_both_spellings_end_with_the_first_address_after_the_log(
        self, line: bytes, found: tuple[int, int]
    ) -> None:
        assert reserved_range(BOOT + NOISE + line + NOISE) == found

    def test_a_time_before_it_does_not_matter(self) -> None:
        stamped = b"(XEN) [    0.000000] " + LINE.removeprefix(b"(XEN) ")
        assert reserved_range(BOOT + stamped) == RANGE

    @pytest.mark.parametrize(
        "console", [b"", BOOT + NOISE, LINE[:-2], OTHER[:-2], LINE[30:]]
    )
    def test_no_whole_line_tells_nothing(self, console: bytes) -> None:
        assert reserved_range(console) is None

    @pytest.mark.parametrize(
        "words",
        [
            b"(0x7b208000 - 0x7b200000)",
            b"(0x7b200000 - 0x7b200000)",
            b"(0x7b200000 - 0x%x)" % (0x7B200000 + XEN_LOG_LIMIT + 1),
            b"[0xfffffffffffff000, 0xfffffffffffff800)",
            b"[0x0, 0x8000)".replace(b"0x0", b"0x00"),
            b"[0xffffffffffff0000, 0xffffffffffff8000)",
        ],
    )
    def test_a_range_that_makes_no_sense_is_refused(self, words: bytes) -> None:
        with pytest.raises(LogError, match="Xen reserved no sound range"):
            reserved_range(b"(XEN) SLAUNCH: reserving event log " + words)

    @given(st.binary(max_size=300))
    def test_any_console_gives_a_range_or_none(self, noise: bytes) -> None:
        assert reserved_range(noise + b"\n" + LINE) == RANGE


class TestTheBoot:
    def test_the_last_line_of_a_boot_counts(self) -> None:
        assert reserved_range(BOOT + LINE + NOISE + OTHER) == OTHER_RANGE

    @pytest.mark.parametrize(
        "begin",
        [
            BOOT,
            b"(XEN) [    0.000000] " + BOOT.removeprefix(b"(XEN) "),
            b"[2024-05-06 10:00:00] " + BOOT,
            b" " + BOOT.removeprefix(b"(XEN) "),
        ],
    )
    def test_a_line_of_an_earlier_boot_does_not_count(self, begin: bytes) -> None:
        assert reserved_range(BOOT + LINE + begin + NOISE) is None
        assert reserved_range(BOOT + LINE + begin + OTHER) == OTHER_RANGE

    def test_words_of_a_guest_are_no_boot(self) -> None:
        guest = b"(XEN) d1v0 prints: Xen version 4.17\n"
        assert reserved_range(BOOT + LINE + guest) == RANGE

    def test_a_ring_that_went_round_is_of_one_boot(self) -> None:
        assert reserved_range(b"rsion 4.17.5 (user@host)\n" + NOISE + LINE) == RANGE


class TestWhereItIsLookedFor:
    def test_the_running_hypervisor_is_asked_first(self, tmp_path: Path) -> None:
        files = Rooted(plant(tmp_path, {CONSOLE_FILE: BOOT + OTHER}))
        assert find_reserved(files, saying(BOOT + LINE)) == RANGE

    @pytest.mark.parametrize("xl", [b"(XEN) later words\n", "there is no program xl"])
    def test_the_file_has_what_the_ring_lost(
        self, tmp_path: Path, xl: bytes | str
    ) -> None:
        files = Rooted(plant(tmp_path, {CONSOLE_FILE: BOOT + OTHER + BOOT + LINE}))
        assert find_reserved(files, saying(xl)) == RANGE

    def test_a_range_of_the_hypervisors_that_makes_no_sense_is_not_replaced(
        self, tmp_path: Path
    ) -> None:
        files = Rooted(plant(tmp_path, {CONSOLE_FILE: BOOT + LINE}))
        bad = LINE.replace(b"0x7b208000", b"0x0")
        with pytest.raises(LogError, match="no sound range"):
            find_reserved(files, saying(BOOT + bad))

    def test_below_another_root_the_file_stands_for_the_program(
        self, tmp_path: Path
    ) -> None:
        files = Rooted(tmp_path)
        with pytest.raises(AbsentError, match=CONSOLE_FILE):
            find_reserved(files, None)
        plant(tmp_path, {CONSOLE_FILE: BOOT + LINE})
        assert find_reserved(files, None) == RANGE

    def test_only_the_end_of_a_long_file_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(xen_console, "CONSOLE_LIMIT", 200)
        files = Rooted(plant(tmp_path, {CONSOLE_FILE: OTHER + bytes(300) + LINE}))
        assert find_reserved(files, None) == RANGE
        plant(tmp_path, {CONSOLE_FILE: LINE + bytes(300)})
        with pytest.raises(LogError, match="names no event log"):
            find_reserved(files, None)

    def test_each_that_does_not_tell_is_named(self, tmp_path: Path) -> None:
        files = Rooted(tmp_path)
        with pytest.raises(LogError) as told:
            find_reserved(files, saying("xl failed with exit code 1"))
        assert told.value.message == (
            f"xl failed with exit code 1, {CONSOLE_FILE} is absent"
        )
        plant(tmp_path, {CONSOLE_FILE: BOOT})
        with pytest.raises(LogError) as told:
            find_reserved(files, saying(BOOT))
        assert told.value.message == (
            f"`xl dmesg` names no event log, {CONSOLE_FILE} names no event log"
        )

    def test_what_is_no_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / CONSOLE_FILE.lstrip("/")).mkdir(parents=True)
        with pytest.raises(LogError, match=r"hypervisor\.log is not a regular file"):
            find_reserved(Rooted(tmp_path), None)

    def test_a_file_that_cannot_be_read_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = Rooted(plant(tmp_path, {CONSOLE_FILE: BOOT + LINE}))
        monkeypatch.setattr(Rooted, "open", lambda *_: _Broken())
        with pytest.raises(LogError, match=r"hypervisor\.log cannot be read: input"):
            find_reserved(files, None)


class _Broken(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
