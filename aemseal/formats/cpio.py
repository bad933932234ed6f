# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives as an initramfs has them: "newc" (070701) and "crc" (070702).

A header is a magic and 13 numbers of 8 hex digits; header with name, and content, are
each padded to 4 bytes; hard links share one content; "TRAILER!!!" ends an archive, and
zeros may follow. They are read as the kernel unpacks them.
Sources: Linux buffer-format.rst (driver-api/early-userspace) and init/initramfs.c.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from aemseal.formats.file_list import (
    MOST_FILES,
    MOST_NAMES,
    FileKind,
    ListedFile,
    tidy_path,
)
from aemseal.words.errors import FormatError

MAGICS = (b"070701", b"070702")
_WITH_CHECKSUM = b"070702"
_OLD_ASCII = b"070707"
_HEADER = 110
_FIELDS = range(6, _HEADER, 8)
_PATH_MAX = 4096
"""Bytes of a name with its NUL, and of a link's target (Linux limits.h)."""

_TRAILER = b"TRAILER!!!"

_KINDS: Mapping[int, FileKind] = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.FOLDER,
    stat.S_IFLNK: FileKind.LINK,
    stat.S_IFBLK: FileKind.BLOCK_DEVICE,
    stat.S_IFCHR: FileKind.CHARACTER_DEVICE,
    stat.S_IFIFO: FileKind.FIFO,
    stat.S_IFSOCK: FileKind.SOCKET,
}
_MOST_CONTENT = {FileKind.FILE: 0xFFFFFFFF, FileKind.LINK: _PATH_MAX}
"""Bytes of content that the kinds of files may have; the others have none."""

_ZEROS = re.compile(rb"\0*")
_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header tells, without the time; sizes in bytes.

    `device` is where the file was, `is_device` which device it is. `checksum` is None
    in the newc form.
    """

    mode: int
    inode: int
    owner: str
    links: int
    size: int
    device: str
    is_device: str
    name_size: int
    checksum: int | None

    @property
    def inode_key(self) -> tuple[int, str] | None:
        """What the names of one file have in common; None where there is one name."""
        return (self.inode, self.device) if self.links > 1 else None

    def kind(self, start: int) -> FileKind:
        """Return the kind of file; FormatError, at `start`, where it can be none.

        A trailer may be of no kind.
        """
        kind = _KINDS.get(stat.S_IFMT(self.mode))
        if kind is None or self.mode > 0xFFFF:
            raise FormatError(f"the mode {self.mode:o} is of no kind of file", start)
        if self.size > _MOST_CONTENT.get(kind, 0):
            what = f"a file of the kind {kind.value!r} has {self.size} bytes"
            raise FormatError(what, start)
        return kind


class FileCollector:
    """The files of one image, from all archives in it; its limits are theirs.

    FormatError for more than MOST_FILES files, or MOST_NAMES bytes of names.
    """

    def __init__(self) -> None:
        self.files: list[ListedFile] = []
        self._names = 0

    def add(self, file: ListedFile, names: int, offset: int) -> None:
        """Take a file; `names` are the bytes of its name and link target."""
        self._names += names
        if len(self.files) >= MOST_FILES:
            raise FormatError(f"there are more than {MOST_FILES} files", offset)
        if self._names > MOST_NAMES:
            raise FormatError(f"names take more than {MOST_NAMES} bytes", offset)
        self.files.append(file)


@dataclass(slots=True)
class _Inode:
    """A file of several names: their numbers, and what was written to it last."""

    numbers: list[int] = field(default_factory=list)
    last: ListedFile | None = None


class CpioReader:
    """Feed archives that follow each other, then `finish`; the files go to `files`.

    `offset` counts the bytes taken, from 0; FormatErrors name it. FormatError for
    whatever the kernel refuses, and for what it passes over in silence.
    """

    def __init__(self, files: FileCollector) -> None:
        self.offset = 0
        self._files = files
        self._inodes: dict[tuple[int, str], _Inode] = {}
        self._is_open = False
        self._header: _Header | None = None
        self._kind = FileKind.FILE
        self._name = b""
        self._left = 0
        self._sha256 = hashlib.sha256()
        self._sum = 0
        self._held = bytearray()
        self._expect_header()

    @property
    def is_between(self) -> bool:
        """Whether no archive is open: zeros, another archive or the end may follow."""
        return not self._is_open and not self._held

    def skip(self, count: int) -> None:
        """Pass over bytes between two archives that something else has taken."""
        self.offset += count

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those from the first that is no archive's.

        That is, between two archives, neither a zero nor the "0" of a magic.
        """
        view = memoryview(data)
        while view:
            if self.is_between:
                view = self._skip_zeros(view)
                if view and view[0] != MAGICS[0][0]:
                    return bytes(view)
            view = self._copy(view) if self._left else self._gather(view)
        return b""

    def finish(self) -> None:
        """Take the end; FormatError where an archive is open still."""
        if not self.is_between:
            raise FormatError("the archive ends too early", self.offset)

    def _skip_zeros(self, view: memoryview) -> memoryview:
        found = _ZEROS.match(view)
        assert found is not None
        zeros = found.end()
        self.offset += zeros
        return view[zeros:]

    def _gather(self, view: memoryview) -> memoryview:
        """Hold bytes until there are as many as are expected, then read them."""
        count = min(self._expected - len(self._held), len(view))
        self._held += view[:count]
        self.offset += count
        if len(self._held) == self._expected:
            data = bytes(self._held)
            self._held.clear()
            self._read(data)
        return view[count:]

    def _expect(self, size: int, read: Callable[[bytes], None]) -> None:
        """Say what comes next; nothing is expected of size 0."""
        self._expected, self._read = size, read

    def _expect_header(self) -> None:
        self._expect(_HEADER, self._read_header)

    def _read_header(self, data: bytes) -> None:
        start = self.offset - _HEADER
        if start % 4 and not self._is_open:
            raise FormatError("a cpio archive is not aligned to 4 bytes", start)
        self._is_open = True
        self._header = header = _parse_header(data, start)
        self._expect(header.name_size, self._read_name)

    def _read_name(self, data: bytes) -> None:
        assert self._header is not None
        start = self.offset - len(data)
        self._name, _, padding = data.partition(b"\0")
        if not data.endswith(b"\0") or padding.strip(b"\0"):
            raise FormatError("a file name does not end at its only NUL", start)
        if self._name == _TRAILER:
            self._end_archive()
            return
        self._kind = self._header.kind(start - _HEADER)
        if not self._name:
            raise FormatError("a file has no name", start)
        self._sha256, self._sum = hashlib.sha256(), 0
        self._pad(_HEADER + len(data), self._begin_content)

    def _pad(self, taken: int, then: Callable[[], None]) -> None:
        """Go on after the padding that follows so many bytes of a file."""
        padding = -taken % 4
        if padding:
            self._expect(padding, lambda _: then())
        else:
            then()

    def _begin_content(self) -> None:
        assert self._header is not None
        size = self._header.size
        if size == 0:
            self._end_file("")
        elif self._kind is FileKind.LINK:
            self._expect(size, self._read_target)
        else:
            self._left = size

    def _read_target(self, data: bytes) -> None:
        target, _, padding = data.partition(b"\0")
        if padding.strip(b"\0"):
            start = self.offset - len(data)
            raise FormatError("a link's target does not end at its only NUL", start)
        self._end_file(target.decode("utf-8", "surrogateescape"), len(data))

    def _copy(self, view: memoryview) -> memoryview:
        """Hash bytes of a regular file."""
        assert self._header is not None
        count = min(self._left, len(view))
        self._sha256.update(view[:count])
        if self._header.checksum is not None:
            self._sum = (self._sum + sum(view[:count])) % (1 << 32)
        self.offset += count
        self._left -= count
        if not self._left:
            if self._header.checksum not in (None, self._sum):
                raise FormatError("a file's checksum is wrong", self.offset)
            self._end_file("")
        return view[count:]

    def _end_file(self, target: str, target_size: int = 0) -> None:
        header = self._header
        assert header is not None
        told = {
            FileKind.FILE: self._sha256.hexdigest(),
            FileKind.LINK: target,
            FileKind.BLOCK_DEVICE: header.is_device,
            FileKind.CHARACTER_DEVICE: header.is_device,
        }
        file = ListedFile(
            path=tidy_path(self._name),
            kind=self._kind,
            mode=stat.S_IMODE(header.mode),
            owner=header.owner,
            size=header.size,
            content=told.get(self._kind, ""),
        )
        self._files.add(file, len(self._name) + target_size, self.offset)
        if self._kind is FileKind.FILE and header.inode_key is not None:
            inode = self._inodes.setdefault(header.inode_key, _Inode())
            inode.numbers.append(len(self._files.files) - 1)
            if header.size:
                inode.last = file
        self._pad(header.size, self._expect_header)

    def _end_archive(self) -> None:
        """Give every name of a file the content that was written to it last.

        The kernel looks no further than the trailer for another name of it.
        """
        for inode in self._inodes.values():
            if inode.last is None:
                continue
            for number in inode.numbers:
                self._files.files[number] = replace(
                    self._files.files[number],
                    size=inode.last.size,
                    content=inode.last.content,
                )
        self._inodes.clear()
        self._is_open = False
        self._expect_header()


def _parse_header(data: bytes, start: int) -> _Header:
    if not data.startswith(MAGICS):
        if data.startswith(_OLD_ASCII):
            raise FormatError(
                "a cpio archive of the odc form, which no kernel unpacks,",
                start,
                "pack it with cpio --format=newc",
            )
        raise FormatError("there is no cpio magic", start)
    if not _HEX.issuperset(data):
        raise FormatError("a cpio header is not of hex digits", start)
    inode, mode, user, group, links, _, size, *devices, name_size, checksum = (
        int(data[at : at + 8], 16) for at in _FIELDS
    )
    major, minor, is_major, is_minor = devices
    if not 1 <= name_size <= _PATH_MAX:
        raise FormatError(f"a file name of {name_size} bytes", start)
    return _Header(
        mode=mode,
        inode=inode,
        owner=f"{user}:{group}",
        links=links,
        size=size,
        device=f"{major}:{minor}",
        is_device=f"{is_major}:{is_minor}",
        name_size=name_size,
        checksum=checksum if data.startswith(_WITH_CHECKSUM) else None,
    )
