# SPDX-License-Identifier: GPL-2.0-or-later
"""An update, by a person in dom0: staged and confirmed inside the booted system.

GRUB, tboot, Xen, dom0, dracut, the secret, the encrypted root; and in it the tool, by
Python, on the kernel's /dev/tpmrm0, the real /boot and the state on that root. The
second boot is that of the new Xen which the first one installed and staged.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from boot_world import PROMPT, VERDICT, record_of
from inside_world import CLEAN, HANDED_IN, InsideWorld, ended
from scenes import require_boots, shows_the_secret
from tpm_sim.cache import Cache
from tpm_sim.luks_root import PASSPHRASE
from tpm_sim.qemu import Pc

pytestmark = pytest.mark.tpm

_GIVEN = 240
"""Seconds until a command has ended, on two busy cores without KVM."""

_INSTALL = ("cp", f"{HANDED_IN}/xen.gz", "/boot/xen.gz")
_RESEAL = ("aemseal", "reseal", "--accept", "xen")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InsideWorld]:
    """A machine with a sealed text, its boot accepted, all of it on its disks."""
    require_boots()
    with InsideWorld(tmp_path_factory.mktemp("inside"), Cache.default()) as world:
        world.settle()
        yield world


@pytest.fixture(scope="module")
def staged(inside: InsideWorld) -> str:
    """What the console said in the boot that installs a new Xen and stages it."""
    moves = (("aemseal", "status"), _INSTALL, _RESEAL)
    with inside.boot(moves, update=inside.cache.xen_new) as pc:
        _moves(pc, moves)
        _write_down(pc, "inside-staged")
        said = pc.console
    inside.look_at_disks()
    return said


def test_an_update_is_staged_inside_the_running_system(
    inside: InsideWorld, staged: str
) -> None:
    """The host finds it on the disks: both boots open, the next one is the staged."""
    assert re.search("^this boot: accepted$", staged, re.MULTILINE)
    assert re.search("^staged: Xen ", staged, re.MULTILINE)
    assert inside.boot_here().code == 0
    told = json.loads(inside.aemseal("status", "--json").out)
    assert [each["name"] for each in told["accepted"]] == [_name(inside, "xen-old")]
    assert [each["name"] for each in told["staged"]] == [_name(inside, "xen-new")]
    assert told["this_boot"] == "staged"


@pytest.mark.usefixtures("staged")
def test_the_staged_boot_is_confirmed_inside_and_retires_the_old_xen(
    inside: InsideWorld,
) -> None:
    """It shows the secret; from then on the old Xen does not, whoever puts it back."""
    moves = (("aemseal", "confirm"), ("aemseal", "doctor"))
    with inside.boot(moves) as pc:
        _moves(pc, moves)
        _write_down(pc, "inside-confirmed")
    assert f"\nconfirmed: {_name(inside, 'xen-new')}\n" in pc.console
    assert f"\nretired: {_name(inside, 'xen-old')}\n" in pc.console
    inside.look_at_disks()
    inside.pretend_boot(record_of(pc.console))
    told = json.loads(inside.aemseal("status", "--json").out)
    assert [each["name"] for each in told["accepted"]] == [_name(inside, "xen-new")]
    assert told["staged"] == []
    assert told["this_boot"] == "accepted"
    inside.install_xen(inside.cache.xen_old)
    hook = inside.boot_here()
    assert hook.code != 0
    assert "This boot is not one that you accepted" in hook.told + hook.out


def _name(world: InsideWorld, xen: str) -> str:
    """Return what the tool calls a boot with one of the cache's Xens."""
    return f"Xen {world.cache.version(xen)}, vmlinuz"


def _moves(pc: Pc, moves: tuple[tuple[str, ...], ...]) -> None:
    """The secret is shown, the root entered, every command done, all switched off."""
    shows_the_secret(pc)
    pc.wait_for(PROMPT, 90)
    pc.type(PASSPHRASE.decode())
    pc.wait_for(VERDICT, 120)
    for words in moves:
        pc.wait_for(ended(words, 0), _GIVEN)
    pc.wait_for(CLEAN, 60)
    pc.wait_until_off(60)


def _write_down(pc: Pc, name: str) -> None:
    """Keep what was given in the root, and what it said, where that is asked for."""
    folder = os.environ.get("AEMSEAL_TRANSCRIPTS")
    if not folder:
        return
    spoken = pc.console.split("RECORD-END\n")[1].split(CLEAN)[0]
    text = re.sub(r"^ENDED\(.*\)=(\d+)$", r"(exit code \1)", spoken, flags=re.M)
    Path(folder, f"{name}.txt").write_text(text, encoding="utf-8")
