# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails while a LUKS header is written, on a disk that orders as it likes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luks_disks import PASSPHRASE, UUID, LuksDisk
from luks_drafts import KEY, drafted, left

from aemseal.world.luks_headers import HeaderChange, LuksHeaders
from aemseal.world.seam import Seam
from aemseal.world.store import Files

BLOCK = 4096
"""What a disk writes wholly or not at all."""


def torn(before: bytes, after: bytes, blocks: set[int]) -> bytes:
    """What a disk without a flush has when the power fails: any of the new blocks."""
    parts = [
        (after if at // BLOCK in blocks else before)[at : at + BLOCK]
        for at in range(0, len(after), BLOCK)
    ]
    return b"".join(parts)


class Writing(Seam):
    """Notes all that is written between two flushes: (what was there, what then is).

    luksHeaderRestore writes the file that it is given and flushes; then it looks at the
    device, and repairs whichever of the two headers is the older.
    """

    def __init__(self, disk: LuksDisk) -> None:
        self.disk = disk
        self.writes: list[tuple[bytes, bytes]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        before = self.disk.path.read_bytes()
        yield
        if what.startswith("luksHeaderRestore"):
            folder = self.disk.root / "var/lib/aemseal"
            name = "header" if self.writes else "first"
            file = (folder / f"luks-{UUID}.{name}").read_bytes()
            given = file + before[len(file) :]
            self.writes += [(before, given), (given, self.disk.path.read_bytes())]


@dataclass
class Written:
    """A header that was installed, with all that lay there before each write."""

    disk: LuksDisk
    headers: LuksHeaders
    change: HeaderChange
    files: dict[Path, bytes]
    writes: list[tuple[bytes, bytes]]

    def cut(self, number: int, blocks: set[int]) -> None:
        """Go back to a write that was cut short, this much of it being on the disk."""
        before, after = self.writes[number]
        self.disk.path.write_bytes(torn(before, after, blocks))
        for path, data in self.files.items():
            path.write_bytes(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    disk = LuksDisk(tmp_path_factory.mktemp("written")).make()
    seam = Writing(disk)
    headers = LuksHeaders(Files(disk.root, seam))
    change = drafted(headers)
    folder = disk.root / "var/lib/aemseal"
    files = {each: each.read_bytes() for each in folder.iterdir()}
    headers.install(change)
    return Written(disk, headers, change, files, seam.writes)


def differing(before: bytes, after: bytes) -> list[int]:
    return [
        at // BLOCK
        for at in range(0, len(after), BLOCK)
        if before[at : at + BLOCK] != after[at : at + BLOCK]
    ]


PRIMARY = 16384 // BLOCK
"""Blocks of the first of the two headers."""


def test_of_the_two_headers_one_is_left_alone_until_the_other_is_on_the_disk(
    written: Written,
) -> None:
    secondary, repair, primary, nothing = (differing(*each) for each in written.writes)
    assert secondary
    assert all(each >= PRIMARY for each in secondary), "with the key slots"
    assert primary
    assert all(each < PRIMARY for each in (*repair, *primary))
    assert nothing == []


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_whatever_a_cut_left_of_a_header_opens_and_is_written_again(
    written: Written, data: st.DataObject
) -> None:
    number = data.draw(st.sampled_from([0, 1, 2]), "write")
    blocks = differing(*written.writes[number])
    kept = data.draw(st.sets(st.sampled_from(blocks)), "blocks on the disk")
    written.cut(number, kept)
    if data.draw(st.booleans(), "a boot before"):
        _ = written.disk.header  # the hook looks, and cryptsetup repairs
    assert written.disk.opens(PASSPHRASE)
    written.headers.install(written.change)
    digest = hashlib.sha256(written.disk.header).digest()
    assert digest == written.change.after
    assert written.disk.opens(KEY)
    assert written.disk.opens(PASSPHRASE)
    assert left(written.disk) == []
