# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives, read as the kernel unpacks them."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from cpio_images import TRAILER, archive, member, pack, trailer
from hypothesis import given
from hypothesis import strategies as st

import aemseal.formats.cpio as cpio_module
from aemseal.formats.cpio import CpioReader, FileCollector
from aemseal.formats.file_list import FileKind, ListedFile
from aemseal.words.errors import FormatError

FORMS = ("newc", "crc")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listed(data: bytes, step: int = 0) -> list[ListedFile]:
    """Read archives, whole or in pieces of `step` bytes; nothing is left over."""
    files = FileCollector()
    reader = CpioReader(files)
    for at in range(0, len(data), step or len(data) or 1):
        assert reader.feed(data[at : at + (step or len(data))]) == b""
    reader.finish()
    assert reader.offset == len(data)
    return files.files


def refusal(data: bytes, step: int = 0) -> FormatError:
    with pytest.raises(FormatError) as caught:
        listed(data, step)
    return caught.value


def by_path(files: list[ListedFile]) -> dict[str, ListedFile]:
    return {each.path: each for each in files}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a file of each kind."""
    folder = tmp_path / "tree"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/sh").write_bytes(b"a shell" * 1000)
    (folder / "usr/bin/sh").chmod(0o4755)
    os.link(folder / "usr/bin/sh", folder / "usr/bin/bash")
    (folder / "empty").touch()
    (folder / "init").symlink_to("usr/bin/sh")
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "odd\udcff\nname").write_bytes(b"x")
    return folder


class TestWhatCpioPacks:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("step", [0, 1, 7, 512])
    def test_each_kind_of_file_is_listed(
        self, tree: Path, form: str, step: int
    ) -> None:
        files = by_path(listed(pack(tree, form), step))
        owner = f"{os.getuid()}:{os.getgid()}"
        shell = sha256(b"a shell" * 1000)
        program = ("usr/bin/sh", FileKind.FILE, 0o4755, owner, 7000, shell)
        assert files["usr/bin/sh"] == ListedFile(*program)
        assert (files["init"].kind, files["init"].content) == (
            FileKind.LINK,
            "usr/bin/sh",
        )
        assert (files["empty"].size, files["empty"].content) == (0, sha256(b""))
        assert (files["pipe"].kind, files["pipe"].mode) == (FileKind.FIFO, 0o600)
        assert files["usr"].kind is FileKind.FOLDER
        assert files["usr"].content == ""
        assert files["odd\udcff\nname"].content == sha256(b"x")

    @pytest.mark.parametrize("form", FORMS)
    def test_every_name_of_a_file_has_its_content(self, tree: Path, form: str) -> None:
        files = by_path(listed(pack(tree, form)))
        one, other = files["usr/bin/sh"], files["usr/bin/bash"]
        assert (one.size, one.content) == (other.size, other.content)
        assert one.size == 7000

    def test_the_root_and_leading_dots_are_no_part_of_names(self, tree: Path) -> None:
        files = listed(pack(tree, names=[".", "./usr", "usr//bin/sh"]))
        assert [each.path for each in files] == [".", "usr", "usr/bin/sh"]

    def test_an_old_form_is_refused_by_name(self, tree: Path) -> None:
        error = refusal(pack(tree, "odc"))
        assert "odc" in error.message
        assert error.hint == "pack it with cpio --format=newc"
        assert error.offset == 0


def test_devices_are_told_by_their_numbers() -> None:
    found = listed(
        archive(
            member("null", mode=stat.S_IFCHR | 0o666, device=(1, 3)),
            member("disk", mode=stat.S_IFBLK | 0o600, device=(8, 0)),
            member("talk", mode=stat.S_IFSOCK | 0o600),
        )
    )
    assert [(each.kind, each.content) for each in found] == [
        (FileKind.CHARACTER_DEVICE, "1:3"),
        (FileKind.BLOCK_DEVICE, "8:0"),
        (FileKind.SOCKET, ""),
    ]


def test_archives_may_follow_each_other_with_zeros_between() -> None:
    first, second = archive(member("a", b"1")), archive(member("a", b"2"))
    files = listed(first + bytes(4096) + second + bytes(3))
    assert [(each.path, each.content) for each in files] == [
        ("a", sha256(b"1")),
        ("a", sha256(b"2")),
    ]


def test_what_is_no_archive_is_handed_back_untaken() -> None:
    reader = CpioReader(FileCollector())
    packed = archive(member("a", b"1"))
    assert reader.feed(packed + bytes(5) + b"\x1f\x8b rest") == b"\x1f\x8b rest"
    assert reader.offset == len(packed) + 5
    assert reader.is_between


def test_a_trailer_without_padding_ends_an_archive() -> None:
    whole = member("a", b"1") + trailer()
    assert len(listed(whole[: whole.index(TRAILER.encode()) + 11])) == 1


def test_a_name_may_be_filled_up_with_nuls_to_align_what_follows() -> None:
    """dracut-cpio does so, for file systems that share extents."""
    (file,) = listed(archive(member("a", b"content", more_nuls=21)))
    assert (file.path, file.content) == ("a", sha256(b"content"))


def test_the_content_written_last_is_that_of_all_names() -> None:
    files = listed(
        archive(
            member("a", b"first", inode=7, links=3),
            member("b", b"second!", inode=7, links=3),
            member("c", inode=7, links=3),
            member("d", b"alone", inode=7, links=1),
            member("e", b"other", inode=8, links=2),
            member("f", inode=9, links=2),
        )
    )
    told = {each.path: (each.size, each.content) for each in files}
    assert told["a"] == told["b"] == told["c"] == (7, sha256(b"second!"))
    assert told["d"] == (5, sha256(b"alone"))
    assert told["e"] == (5, sha256(b"other"))
    assert told["f"] == (0, sha256(b""))


def test_names_are_one_file_within_an_archive_only() -> None:
    """The kernel forgets them at the trailer (free_hash)."""
    files = listed(
        archive(member("a", b"1", inode=7, links=2))
        + archive(member("b", inode=7, links=2))
    )
    assert [each.size for each in files] == [1, 0]


def test_a_checksum_is_the_sum_of_the_bytes() -> None:
    good = member("a", b"\xff" * 9, magic=b"070702", checksum=9 * 255)
    assert len(listed(archive(good))) == 1
    assert len(listed(archive(good), 3)) == 1
    bad = member("a", b"\xff" * 9, magic=b"070702", checksum=9 * 255 + 1)
    assert "checksum" in refusal(archive(bad)).message


DIR, LNK = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
BAD = {
    "no magic": (b"0x0701" + archive(member("a"))[6:], 0),
    "no hex digits": (b"070701 0000001" + archive(member("a"))[14:], 0),
    "a sign for a digit": (b"070701+0000001" + archive(member("a"))[14:], 0),
    "junk after a member": (member("a", b"1234") + b"x" * 110, 116),
    "a name of no bytes": (member("a", name_size=0), 0),
    "a name without an end": (member("abc", name_size=3), 110),
    "a name with a NUL inside": (member(b"a\0b"), 110),
    "an empty name": (member(""), 110),
    "a name that is too long": (member("a" * 4096), 0),
    "a name as long as the header says": (member("a", name_size=0xFFFFFFFF), 0),
    "a mode of no kind": (member("a", mode=0o644), 0),
    "a mode with more bits": (member("a", mode=0x10000 | stat.S_IFREG), 0),
    "a folder with content": (member("a", b"1", mode=DIR), 0),
    "a link that is too long": (member("a", b"1" * 4097, mode=LNK), 0),
    "a target with a NUL inside": (member("a", b"b\0c", mode=LNK), 112),
    "an archive at an odd place": (archive(member("a"))[:-1] + archive(), 511),
    "an end within a header": (member("a") + b"0707", 116),
    "an end within a content": (member("a", b"12345678")[:-3], 117),
    "no trailer": (member("a"), 112),
}


@pytest.mark.parametrize(("data", "offset"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("step", [0, 1])
def test_what_the_kernel_does_not_unpack_is_refused_with_its_place(
    data: bytes, offset: int, step: int
) -> None:
    assert refusal(data, step).offset == offset


def test_a_claim_of_4_gib_takes_no_memory() -> None:
    claims = member("a", b"1234", size=0xFFFFFFFF)
    assert refusal(claims).offset == len(claims)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio_module, "MOST_FILES", 2)
    assert len(listed(archive(member("a"), member("b")))) == 2
    error = refusal(archive(member("a"), member("b"), member("c")))
    assert error.what == "there are more than 2 files"


def test_too_long_names_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio_module, "MOST_NAMES", 10)
    link = member("abc", b"1234567", mode=LNK)
    assert len(listed(archive(link))) == 1
    assert refusal(archive(link, member("x"))).what == "names take more than 10 bytes"


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1
).filter(lambda name: name not in (".", "..", TRAILER))


@given(st.dictionaries(NAMES, st.binary(max_size=50), max_size=6), st.integers(1, 99))
def test_any_names_and_contents_come_back(files: dict[str, bytes], step: int) -> None:
    packed = archive(*(member(name, content) for name, content in files.items()))
    assert [(each.path, each.size, each.content) for each in listed(packed, step)] == [
        (name, len(content), sha256(content)) for name, content in files.items()
    ]


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_end_in_a_list_or_a_format_error(data: bytes, step: int) -> None:
    reader = CpioReader(FileCollector())
    data = member("a", b"1") + data
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    with suppress(FormatError):
        # until something is handed back
        all(reader.feed(piece) == b"" for piece in pieces)
        reader.finish()
    assert len(reader._files.files) <= 1 + len(data) // 110
    assert reader.offset <= len(data)
