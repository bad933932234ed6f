# SPDX-License-Identifier: GPL-2.0-or-later
"""Images listed with their digests, by the programs that packed them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from cpio_images import archive, early_microcode, member, packed_by

from aemseal.formats.file_list import FileList
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import BankError, BootFileError
from aemseal.words.wanted import View, Wanted
from aemseal.world.unpack import TIME_LIMIT, list_initramfs
from aemseal.world.views import look

SHA256 = HashAlgorithm.SHA256
PATH = "/boot/initramfs.img"
BLOB = random.Random(9).randbytes(3 << 20)
MAIN = archive(member("init", b"#!/bin/sh\n"), member("blob", BLOB))
NAMES = ["init", "blob"]

PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "gzip": ("gzip", "-n"),
    "bzip2": ("bzip2",),
    "xz": ("xz", "--check=crc32", "-0"),
    "lzma": ("lzma", "-0"),
    "zstd": ("zstd", "-q"),
    "lz4": ("lz4", "-q"),
    "lz4 (legacy)": ("lz4", "-q", "-l"),
}
EACH_PROGRAM = pytest.mark.parametrize("words", PROGRAMS.values(), ids=list(PROGRAMS))
PIPED = pytest.mark.parametrize("name", ["zstd", "lz4", "lz4 (legacy)"])


def packed(words: tuple[str, ...], data: bytes = MAIN) -> bytes:
    return packed_by(*words, data=data)


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., FileList]:
    """List an image of these bytes."""
    place = tmp_path / "image"

    def list_it(
        data: bytes,
        view: View = View.RAW,
        limit: int = 1 << 30,
        time_limit: float = TIME_LIMIT,
    ) -> FileList:
        place.write_bytes(data)

        def open_it(path: str) -> BinaryIO:
            assert path == PATH
            return open(place, "rb")

        wanted = Wanted(PATH, view)
        found = list_initramfs(open_it, wanted, limit=limit, time_limit=time_limit)
        (facts,) = look(open_it, [wanted], [SHA256]).values()
        assert found.is_of(facts.digests)
        return found

    return list_it


def names(found: FileList) -> list[str]:
    return [each.path for each in found.files]


@EACH_PROGRAM
@pytest.mark.parametrize("view", [View.RAW, View.GRUB])
def test_an_image_is_listed_however_it_is_packed(
    listed: Callable[..., FileList], words: tuple[str, ...], view: View
) -> None:
    image = packed(words)
    found = listed(image, view)
    assert names(found) == NAMES
    assert found.files[1].content == SHA256.hash(BLOB).hex
    is_unpacked_by_grub = view is View.GRUB and words[0] in ("gzip", "xz")
    measured = MAIN if is_unpacked_by_grub else image
    assert found.digests[SHA256] == SHA256.hash(measured)


@EACH_PROGRAM
def test_microcode_before_it_and_archives_after_it_are_listed(
    listed: Callable[..., FileList], words: tuple[str, ...]
) -> None:
    image = early_microcode() + packed(words)
    image += bytes(-len(image) % 4) + archive(member("over"))
    assert names(listed(image))[-3:] == [*NAMES, "over"]


def test_every_bank_that_can_be_computed_has_a_digest(
    listed: Callable[..., FileList], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {SHA256, HashAlgorithm.SHA1, HashAlgorithm.SHA384} <= set(
        listed(MAIN).digests
    )
    real = HashAlgorithm.new

    def without_sha1(self: HashAlgorithm) -> object:
        if self is HashAlgorithm.SHA1:
            raise BankError("no")
        return real(self)

    monkeypatch.setattr(HashAlgorithm, "new", without_sha1)
    assert HashAlgorithm.SHA1 not in listed(MAIN).digests


def refusal(
    listed: Callable[..., FileList], *arguments: object, **named: object
) -> str:
    with pytest.raises(BootFileError) as caught:
        listed(*arguments, **named)
    return caught.value.message


@PIPED
def test_without_its_program_an_image_is_not_listed(
    listed: Callable[..., FileList], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    image = packed(PROGRAMS[name])
    monkeypatch.setenv("PATH", "/nonexistent")
    program = PROGRAMS[name][0]
    assert refusal(listed, image) == (
        f"the files inside {PATH} cannot be listed: the {name} part at offset 0: there "
        f"is no {program} program"
    )
    assert names(listed(packed_by("/bin/gzip", data=MAIN))) == NAMES


def put_program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in zstd's place."""
    program = folder / "zstd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_program_that_may_not_be_run_is_told(
    listed: Callable[..., FileList], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = packed(PROGRAMS["zstd"])
    put_program(tmp_path, monkeypatch, "true")
    (tmp_path / "zstd").write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "zstd cannot be run: exec format error" in refusal(listed, image)


FAILING = ["exit 0", "cat > /dev/null; exit 3", "head -c 9", "exec <&-; sleep 9"]


@pytest.mark.parametrize("script", FAILING)
def test_a_program_that_fails_is_told(
    listed: Callable[..., FileList],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    image = packed(PROGRAMS["zstd"])
    put_program(tmp_path, monkeypatch, script)
    message = refusal(listed, image)
    assert "it is not intact" in message or "no cpio magic" in message


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "cat > /dev/null; sleep 60",
        "exec >&-; sleep 60",
        "cat > /dev/null; exec >&-; sleep 60",
    ],
)
def test_a_program_that_does_not_end_is_ended(
    listed: Callable[..., FileList],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    image = packed(PROGRAMS["zstd"], MAIN[:40000] + archive())
    put_program(tmp_path, monkeypatch, script)
    begun = time.monotonic()
    message = refusal(listed, image, time_limit=0.5)
    assert "takes too long to unpack" in message or "not intact" in message
    assert time.monotonic() - begun < 20


def test_what_nothing_unpacks_is_told_by_its_name(
    listed: Callable[..., FileList],
) -> None:
    assert "nothing here unpacks lzo" in refusal(listed, b"\x89LZO\0\r\n\x1a\n")


def test_no_time_is_no_list(listed: Callable[..., FileList]) -> None:
    assert "takes too long to unpack" in refusal(listed, MAIN, time_limit=0.0)


@EACH_PROGRAM
def test_a_bomb_is_not_unpacked_beyond_the_limit(
    listed: Callable[..., FileList], words: tuple[str, ...]
) -> None:
    bomb = packed(words, archive(member("zeros", bytes(64 << 20))))
    assert "more than 16777216 bytes" in refusal(listed, bomb, limit=16 << 20)


@PIPED
def test_a_damaged_frame_is_refused(listed: Callable[..., FileList], name: str) -> None:
    image = bytearray(packed(PROGRAMS[name], MAIN[:5000] * 9))
    image[len(image) // 2] ^= 0xFF
    message = refusal(listed, bytes(image))
    assert message.startswith(f"the files inside {PATH} cannot be listed: ")
    assert "too early" in refusal(listed, packed(PROGRAMS[name])[:-9])


def test_what_grub_refuses_is_told_as_it_is(listed: Callable[..., FileList]) -> None:
    twice = packed(PROGRAMS["gzip"]) * 2
    assert "another stream" in refusal(listed, twice, View.GRUB)


def test_a_file_that_cannot_be_read_is_named() -> None:
    def gone(path: str) -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(
        BootFileError, match=r"initramfs\.img cannot be read: permission"
    ):
        list_initramfs(gone, Wanted(PATH, View.RAW))


def test_only_whole_files_are_listed() -> None:
    with pytest.raises(ValueError, match="no view of a whole file"):
        list_initramfs(lambda path: BytesIO(), Wanted(PATH, View.LUKS))


def test_no_program_is_left_behind(
    listed: Callable[..., FileList], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = packed(PROGRAMS["zstd"])
    marker = tmp_path / "pid"
    put_program(tmp_path, monkeypatch, f"echo $$ > {marker}; cat; exec sleep 60")
    refusal(listed, image, time_limit=1.0)
    process = int(marker.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
