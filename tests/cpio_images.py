# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives for tests: packed by cpio itself, or member by member as one likes."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

TRAILER = "TRAILER!!!"
MICROCODE = "kernel/x86/microcode/GenuineIntel.bin"


def pack(folder: Path, form: str = "newc", names: list[str] | None = None) -> bytes:
    """Pack a folder with GNU cpio; without `names` all of it, sorted."""
    if names is None:
        names = sorted(
            each.relative_to(folder).as_posix() for each in folder.rglob("*")
        )
    done = subprocess.run(
        ["cpio", "--quiet", "--create", f"--format={form}", "--null"],
        cwd=folder,
        input="\0".join([*names, ""]).encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def member(
    name: str | bytes,
    content: bytes = b"",
    *,
    magic: bytes = b"070701",
    mode: int = stat.S_IFREG | 0o644,
    inode: int = 1,
    owner: tuple[int, int] = (0, 0),
    links: int = 1,
    time: int = 0,
    device: tuple[int, int] = (0, 0),
    checksum: int = 0,
    more_nuls: int = 0,
    size: int | None = None,
    name_size: int | None = None,
) -> bytes:
    """Return one member as buffer-format.rst has it, or otherwise where asked to."""
    text = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    text += bytes(1 + more_nuls)
    numbers = (
        *(inode, mode, *owner, links, time),
        *(len(content) if size is None else size, 8, 1, *device),
        *(len(text) if name_size is None else name_size, checksum),
    )
    head = magic + b"".join(b"%08X" % each for each in numbers) + text
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def trailer() -> bytes:
    """Return what ends an archive."""
    return member(TRAILER, mode=0)


def archive(*members: bytes) -> bytes:
    """Return a whole archive, filled up with zeros as cpio does."""
    packed = b"".join(members) + trailer()
    return packed + bytes(-len(packed) % 512)


def early_microcode(content: bytes = b"microcode") -> bytes:
    """Return what dracut puts before the rest: a plain archive with microcode alone."""
    folders = ("kernel", "kernel/x86", "kernel/x86/microcode")
    return archive(
        *(member(each, mode=stat.S_IFDIR | 0o755) for each in folders),
        member("early_cpio", b"1\n"),
        member(MICROCODE, content),
    )


def packed_by(program: str, *options: str, data: bytes) -> bytes:
    """Pack bytes with a program that reads stdin and writes stdout."""
    words = [program, *options, "-c"]
    done = subprocess.run(
        words, input=data, capture_output=True, check=True, timeout=60
    )
    return done.stdout
