# SPDX-License-Identifier: GPL-2.0-or-later
"""A medium whose files were written by somebody else: the fixed sentence, and no more.

Nothing that stands on the medium gets to the screen, neither to move the cursor there
nor to look like the secret.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot_world import BootWorld
from scenes import is_refused, write_down
from tpm_sim.qemu import Pc

pytestmark = pytest.mark.tpm

LURE = b"the otter sleeps beneath the bridge"
"""It looks like a secret; no other text of a boot has its words."""

DAMAGED = "The files on the boot medium are damaged or were tampered with."
CLEAR, TITLE = b"\x1b[2J\x1b[7;7H", b"\x1b]0;otter\x07"
C1 = b"\xc2\x9b2J"
"""The same as an escape sequence, to a terminal that takes UTF-8."""


def escapes(medium: Path) -> None:
    """Where the label is, that no signature covers: clear the screen, then the lure."""
    vault = medium / "vault"
    lines = vault.read_bytes().split(b"\n")
    assert lines[2].startswith(b"medium ")
    lines[2] = b"medium " + CLEAR + TITLE + C1 + LURE
    vault.write_bytes(b"\n".join(lines))


def a_file_without_an_end(medium: Path) -> None:
    """All that belongs there, and then more than the initramfs has room for."""
    with (medium / "vault").open("ab") as vault:
        for _ in range(48):
            vault.write((LURE + b"\n").ljust(1 << 10, b"A") * (1 << 10))


def a_link(medium: Path) -> None:
    """To a file that has nothing wrong with it."""
    (acceptance,) = medium.glob("acceptance.*")
    acceptance.rename(medium / "genuine")
    acceptance.symlink_to("genuine")


def words(medium: Path) -> None:
    """What an accepted boot might show, in all the files."""
    for each in medium.iterdir():
        each.write_bytes(LURE + b"\none-time code: 404404 (29 s left)\n")


@pytest.mark.parametrize("become", [escapes, a_file_without_an_end, a_link, words])
def test_what_stands_on_the_medium_never_gets_to_the_screen(
    world: BootWorld, become: Callable[[Path], None]
) -> None:
    become(world.root / "boot/aemseal")
    with world.pc() as pc:
        is_refused(pc, DAMAGED)
        write_down(pc, f"medium-hostile-{become.__name__.replace('_', '-')}")
        shows_none_of_it(pc)


def shows_none_of_it(pc: Pc) -> None:
    for each in (b"otter", b"404404", CLEAR, TITLE, C1):
        assert each not in pc.output
