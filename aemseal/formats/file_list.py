# SPDX-License-Identifier: GPL-2.0-or-later
"""The files inside an image, and lists of them as compact JSON.

A list belongs to the image whose digests it carries: they are of the bytes it was read
from. It helps a person to see what an update did, and is never evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.strict_json import Fields, dump_json, load_json
from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.errors import EvidenceError, UsageError

FORMAT = 1

MOST_FILES = 100_000
"""Files of one image; dracut's with every driver has some 5,000."""

MOST_NAMES = 16 << 20
"""Bytes of all names and link targets of one image."""

MOST_IMAGES = 64
"""Lists in one JSON file: the vault knows far fewer boots."""


class FileKind(Enum):
    """What a file is; the values are the letters of `ls -l`."""

    FILE = "-"
    FOLDER = "d"
    LINK = "l"
    BLOCK_DEVICE = "b"
    CHARACTER_DEVICE = "c"
    FIFO = "p"
    SOCKET = "s"


_NOTHING = re.compile("")
_DEVICE = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_CONTENTS = {
    FileKind.FILE: re.compile(r"[0-9a-f]{64}"),
    FileKind.LINK: re.compile(r"[^\0]*"),
    FileKind.BLOCK_DEVICE: _DEVICE,
    FileKind.CHARACTER_DEVICE: _DEVICE,
}


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file. `path` is below the archive's root: "usr/bin/sh", the root itself ".".

    `mode` are the 12 permission bits, `owner` is "UID:GID", `size` is in bytes.
    `content` tells what is in it: a file's sha256 in hex, a link's target, a device's
    "MAJOR:MINOR"; it is empty for the others. Bytes of a name or target that are no
    UTF-8 are surrogates, as Python's file system functions have them.
    """

    path: str
    kind: FileKind
    mode: int
    owner: str
    size: int
    content: str = ""

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path or not 0 <= self.mode <= 0o7777:
            raise ValueError(f"{self.path!r} with mode {self.mode:o} is no file")
        if _CONTENTS.get(self.kind, _NOTHING).fullmatch(self.content) is None:
            raise ValueError(f"{self.content!r} is in no {self.kind.name}")


@dataclass(frozen=True, slots=True)
class FileList:
    """The files of an image in the order in which they are unpacked.

    A path may be there more than once: the kernel unpacks one archive over the other.
    `digests` are the image's, in the view in which it was read.
    """

    digests: Digests
    files: tuple[ListedFile, ...]

    def is_of(self, digests: Digests) -> bool:
        """Whether this is the list of the image with these digests.

        Every bank that both know must agree, and there must be one.
        """
        both = self.digests.keys() & digests.keys()
        return bool(both) and all(self.digests[each] == digests[each] for each in both)


def tidy_path(name: bytes) -> str:
    """Return a name in an archive as a path below its root; "./a//b" is "a/b".

    ".." stays: where it leads is the unpacking system's to say.
    """
    text = name.decode("utf-8", "surrogateescape")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join(parts) or "."


# --- as JSON ---

_LINE = re.compile(
    r"([-dlbcps])([0-7]{1,4}) ([0-9]{1,10}:[0-9]{1,10}) ([0-9]{1,12}) "
    r"(-|[0-9a-f]{64}|[0-9]{1,10}:[0-9]{1,10}) ([^\0]+)(?:\0([^\0]*))?",
    re.DOTALL,
)
_RANGE = re.compile(r"([0-9]{1,7})-([0-9]{1,7})")


def dump_lists(lists: Sequence[FileList]) -> bytes:
    """Write lists as JSON; a file that several have is written once.

    {"format": 1, "files": [LINE], "images": [{"digests": {BANK: HEX},
    "files": ["FIRST-LAST", ...]}]}: an image's files are ranges of the lines. A line is
    KIND and MODE (octal), UID:GID, SIZE, sha256 or MAJOR:MINOR or "-", and the path,
    with a space between them; a link's target follows after a NUL.
    """
    numbers: dict[ListedFile, int] = {}
    images = []
    for each in lists:
        places = [numbers.setdefault(file, len(numbers)) for file in each.files]
        images.append(
            {
                "digests": {str(bank): it.hex for bank, it in each.digests.items()},
                "files": _ranges(places),
            }
        )
    lines = [_line(each) for each in numbers]
    return dump_json({"format": FORMAT, "files": lines, "images": images})


def load_lists(where: str, data: bytes) -> tuple[FileList, ...]:
    """Read what `dump_lists` wrote; EvidenceError, naming `where`, for anything else.

    No list may have more than MOST_FILES, so that ranges cannot blow it up.
    """
    top = load_json(where, data)
    if top.number("format") != FORMAT:
        raise top.fail(f"it is not of format {FORMAT}")
    images = top.objects("images")
    if len(images) > MOST_IMAGES:
        raise top.fail(f"it has more than {MOST_IMAGES} images")
    files = [_file(top, number, line) for number, line in enumerate(top.texts("files"))]
    return tuple(
        FileList(_digests(each.inner("digests")), tuple(_chosen(each, files)))
        for each in images
    )


def load_list(where: str, data: bytes) -> FileList:
    """Read what `dump_lists` wrote of one list; EvidenceError for anything else."""
    lists = load_lists(where, data)
    if len(lists) != 1:
        raise EvidenceError(f"{where} is of {len(lists)} images, not of one")
    return lists[0]


def _ranges(places: Iterable[int]) -> list[str]:
    ranges: list[list[int]] = []
    for place in places:
        if ranges and ranges[-1][1] == place - 1:
            ranges[-1][1] = place
        else:
            ranges.append([place, place])
    return [f"{first}-{last}" for first, last in ranges]


def _line(file: ListedFile) -> str:
    is_link = file.kind is FileKind.LINK
    content = "-" if is_link or not file.content else file.content
    target = f"\0{file.content}" if is_link else ""
    head = f"{file.kind.value}{file.mode:o} {file.owner} {file.size}"
    return f"{head} {content} {file.path}{target}"


def _file(top: Fields, number: int, line: str) -> ListedFile:
    found = _LINE.fullmatch(line)
    if found is None:
        raise top.fail(f"files {number} is no line of a list")
    letter, mode, owner, size, content, path, target = found.groups()
    kind = FileKind(letter)
    if (target is None) == (kind is FileKind.LINK):
        raise top.fail(f"files {number} is a link without a target, or none with one")
    told = content.removeprefix("-") if target is None else target
    try:
        return ListedFile(path, kind, int(mode, 8), owner, int(size), told)
    except ValueError:
        raise top.fail(f"files {number} is no file") from None


def _chosen(image: Fields, files: Sequence[ListedFile]) -> list[ListedFile]:
    chosen: list[ListedFile] = []
    for text in image.texts("files"):
        found = _RANGE.fullmatch(text)
        first, last = (int(found[1]), int(found[2])) if found else (1, 0)
        if not first <= last < len(files):
            raise image.fail(f"{text[:20]!r} is no range of the files")
        chosen += files[first : last + 1]
        if len(chosen) > MOST_FILES:
            raise image.fail(f"it has more than {MOST_FILES} files")
    return chosen


def _digests(fields: Fields) -> Digests:
    digests = {}
    for name in fields.names():
        try:
            bank = HashAlgorithm.named(name)
            digests[bank] = Digest.from_hex(bank, fields.text(name))
        except (UsageError, ValueError):
            raise fields.fail(f"{name[:20]!r} is no digest") from None
    return digests
