# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever held the machine for an hour and left folders on the boot medium."""

from __future__ import annotations

import errno
import os

import pytest
from laptop import Laptop, MakeLaptop

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

KERNEL = "/boot/vmlinuz"
MEDIUM = "/boot/aemseal"


def plant(laptop: Laptop) -> None:
    """Put a folder wherever the next moves' files could be waited for."""
    for number in range(4, 9):
        for name in (f".acceptance.{number}.new", f"acceptance.{number}"):
            folder = laptop.path(f"{MEDIUM}/{name}")
            if not folder.exists():
                folder.mkdir()
                (folder / "inside").write_bytes(b"")


def test_they_stop_no_move(own: MakeLaptop) -> None:
    laptop = own()
    plant(laptop)
    laptop.write(KERNEL, b"another kernel")
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.aemseal("cancel").code == 0
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
    assert laptop.aemseal("status", "--check").code == 0
    assert laptop.shows_the_secret()
    plant(laptop)
    assert laptop.aemseal("remove").code == 0
    laptop.path(f"{MEDIUM}/vault").mkdir()
    assert laptop.enrol().code == 0
    assert laptop.shows_the_secret()


def test_a_move_that_cannot_be_settled_keeps_no_vault_from_being_taken_down(
    own: MakeLaptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = own()
    opened = os.open

    def read_only(path: str | os.PathLike[str], flags: int, *more: int) -> int:
        if flags & os.O_CREAT and f"{MEDIUM}/" in os.fspath(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *more)

    laptop.write(KERNEL, b"another kernel")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        for verb in ("reseal --accept kernel", "confirm", "cancel"):
            stopped = laptop.aemseal(*verb.split())
            assert stopped.code == 1
            assert "acceptance.3: read-only file system" in stopped.error
        removed = laptop.aemseal("remove")
    assert removed.code == 0
    assert "aemseal: /boot/aemseal/acceptance.3: read-only" in removed.told
    assert laptop.aemseal("status", "--json").report["accepted"] == []
