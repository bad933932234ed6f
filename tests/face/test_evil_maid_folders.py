# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever held the machine for an hour and left folders on the boot medium."""

from __future__ import annotations

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
