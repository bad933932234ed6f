# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading physical memory: a page at a time, and never anything else than memory."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from host_memory import plant_memory
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.words.errors import LogError
from aemseal.world import physical_memory
from aemseal.world.physical_memory import (
    ADDRESS_LIMIT,
    PAGE_SIZE,
    READ_LIMIT,
    AbsentError,
    PhysicalMemory,
)
from aemseal.world.rooted import Rooted

HIGH = 0xFED30300
PATTERN = bytes(range(251)) * 100


@pytest.fixture
def memory(tmp_path: Path) -> PhysicalMemory:
    plant_memory(tmp_path, {HIGH: b"register", 0x10000: PATTERN})
    return PhysicalMemory(Rooted(tmp_path))


def refusing(
    number: int, allowed: Callable[[int], bool] = lambda _: False
) -> Callable[[int, int, int], bytes]:
    """Return a pread that fails with this error, but where `allowed` says."""
    genuine = os.pread

    def pread(file: int, size: int, offset: int) -> bytes:
        if allowed(offset):
            return genuine(file, size, offset)
        raise OSError(number, os.strerror(number))

    return pread


class TestReading:
    def test_what_lies_at_an_address_is_read(self, memory: PhysicalMemory) -> None:
        assert memory.read(HIGH, 8) == b"register"
        assert memory.read(HIGH + 8, 3) == bytes(3)

    @settings(max_examples=60, deadline=None)
    @given(start=st.integers(0, 9000), size=st.integers(1, 9000))
    def test_pages_are_put_together(
        self, tmp_path_factory: pytest.TempPathFactory, start: int, size: int
    ) -> None:
        root = tmp_path_factory.mktemp("pages")
        plant_memory(root, {0: PATTERN}, len(PATTERN))
        memory = PhysicalMemory(Rooted(root))
        assert memory.read(start, size) == PATTERN[start : start + size]

    def test_no_read_goes_beyond_a_page(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page that is not asked for may be a device's."""
        asked: list[tuple[int, int]] = []
        genuine = os.pread

        def pread(file: int, size: int, offset: int) -> bytes:
            asked.append((offset, size))
            return genuine(file, size, offset)

        monkeypatch.setattr(os, "pread", pread)
        memory.read(0x10FF0, PAGE_SIZE + 32)
        assert asked == [(0x10FF0, 16), (0x11000, PAGE_SIZE), (0x12000, 16)]

    def test_a_read_that_gives_less_is_gone_on_with(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = os.pread
        monkeypatch.setattr(os, "pread", lambda f, n, at: genuine(f, min(n, 7), at))
        assert memory.read(0x10000, 5000) == PATTERN[:5000]


class TestRefusals:
    def test_no_memory_device(self, tmp_path: Path) -> None:
        with pytest.raises(AbsentError, match=r"^/dev/mem$"):
            PhysicalMemory(Rooted(tmp_path)).read(0, 1)

    def test_a_memory_that_ends_before(self, tmp_path: Path) -> None:
        plant_memory(tmp_path, {}, size=5000)
        memory = PhysicalMemory(Rooted(tmp_path))
        assert memory.read(4096, 904) == bytes(904)
        with pytest.raises(LogError, match="/dev/mem ends before 0x1388"):
            memory.read(4096, 905)

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
    def test_what_is_no_memory_device_is_not_opened(
        self, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        (tmp_path / "dev").mkdir()
        make(tmp_path / "dev/mem")
        with pytest.raises(LogError, match="/dev/mem is not the memory device"):
            PhysicalMemory(Rooted(tmp_path)).read(0, 1)

    def test_another_character_device_is_not_opened(self, tmp_path: Path) -> None:
        assert physical_memory._is_memory(Path("/dev/null").stat()) is False

    def test_one_that_may_not_be_opened_says_who_may(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(LogError, match="cannot be read: permission den") as told:
            memory.read(0, 1)
        assert told.value.hint == "run aemseal as root"

    def test_memory_that_the_kernel_keeps_shut_is_named_with_its_reason(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pread = refusing(errno.EPERM, lambda offset: offset < 0x11000)
        monkeypatch.setattr(os, "pread", pread)
        assert memory.read(0x10000, PAGE_SIZE) == PATTERN[:PAGE_SIZE]
        words = "/dev/mem cannot be read at 0x11000: operation not permitted"
        with pytest.raises(LogError, match=words) as told:
            memory.read(0x10000, PAGE_SIZE + 1)
        assert "CONFIG_STRICT_DEVMEM" in (told.value.hint or "")

    def test_an_error_of_the_bus_is_no_question_of_permission(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "pread", refusing(errno.EIO))
        with pytest.raises(LogError, match=r"at 0xfed30300: input/output") as told:
            memory.read(HIGH, 8)
        assert told.value.hint is None

    @pytest.mark.parametrize(
        ("address", "size"),
        [(-1, 1), (0, 0), (0, -1), (0, READ_LIMIT + 1), (ADDRESS_LIMIT, 1)],
    )
    def test_a_range_that_nobody_may_ask_for(
        self, memory: PhysicalMemory, address: int, size: int
    ) -> None:
        with pytest.raises(ValueError, match="bytes of memory at"):
            memory.read(address, size)


class TestMapping:
    """What read() refuses as beyond RAM (EFAULT) is device space, and is mapped."""

    def test_device_space_is_mapped(
        self, memory: PhysicalMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "pread", refusing(errno.EFAULT))
        assert memory.read(HIGH, 8) == b"register"
        assert memory.read(0x10FF0, PAGE_SIZE) == PATTERN[0xFF0 : 0xFF0 + PAGE_SIZE]

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (PermissionError(errno.EPERM, "Operation not permitted"), "operation not"),
            (ValueError("mmap length is greater than filesize"), "cannot be mapped"),
        ],
    )
    def test_what_cannot_be_mapped_either_is_named(
        self,
        memory: PhysicalMemory,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        words: str,
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(os, "pread", refusing(errno.EFAULT))
        monkeypatch.setattr(mmap, "mmap", refuse)
        with pytest.raises(LogError, match=f"at 0xfed30300: .*{words}"):
            memory.read(HIGH, 8)
