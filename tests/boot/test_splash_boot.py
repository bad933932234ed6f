# SPDX-License-Identifier: GPL-2.0-or-later
"""plymouth's splash on a screen: it makes way, and what stood there is gone after.

QEMU loads kernel and initramfs itself: what is booted is the accepted machine's, and
the launch is what its files give.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boot_world import LINUX_WORDS, PROMPT, SECRET, VERDICT, BootWorld
from scenes import BOOTED, DO_NOT_TYPE, QUESTION, require_boots
from tpm_sim.boot_directory import BOOT_UUID, LUKS_UUID
from tpm_sim.boot_disk import make_boot_disk
from tpm_sim.cache import Cache
from tpm_sim.dracut import IMAGE, build_command
from tpm_sim.luks_root import PASSPHRASE, make_luks_root
from tpm_sim.plymouth import GRAPHICAL
from tpm_sim.qemu import DirectBoot, Pc
from tpm_sim.qemu_tpm import QemuTpm

pytestmark = pytest.mark.tpm

_WORDS = "console=tty0 console=ttyS0 splash plymouth.ignore-serial-consoles"
_LOOK = """\
/bin/busybox mount -t proc none /proc
[ ! -d /run/plymouth ] || echo "A-SPLASH-RAN"
[ -z "$(/bin/busybox pidof plymouthd)" ] || echo "A-SPLASH-RUNS"
echo "LEFT-ON-THE-SCREEN" >/dev/tty1
echo "SCREEN-BEGIN"
/bin/busybox cat /dev/vcs1
echo "SCREEN-END"
/bin/busybox sleep 10
"""


class SplashWorld(BootWorld):
    """A machine with a VGA card, and plymouth in its initramfs."""

    def configure(self, **more: object) -> None:
        make_luks_root(self.disk, LUKS_UUID, self.cache, VERDICT, _LOOK)
        super().configure(initramfs_command=build_command(self.root, GRAPHICAL), **more)

    @contextmanager
    def at_the_screen(self, *, launched: bool = True) -> Iterator[Pc]:
        """Switch the PC on; its second console is the serial line that tests read."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        medium = self.folder / "medium"
        make_boot_disk(medium, self.root / "boot", BOOT_UUID, self.cache)
        words = LINUX_WORDS.replace("console=hvc0", _WORDS)
        direct = DirectBoot(self.cache.linux, self.root / IMAGE, words)
        launch = self.measured() if launched else None
        disks = (medium, self.disk)
        with (
            QemuTpm(self.machine.tpm, launch) as tpm,
            Pc(tpm, disks, self.folder, direct=direct, screen=True) as pc,
        ):
            yield pc


@pytest.fixture(scope="module")
def splash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplashWorld]:
    """Its first boot is staged."""
    require_boots()
    folder = tmp_path_factory.mktemp("splash")
    with SplashWorld(folder, Cache.default()) as world:
        world.enrol()
        yield world


def take_picture(pc: Pc, folder: Path, name: str) -> bytes:
    """What is on the screen; kept in AEMSEAL_PICTURES, where that names a folder."""
    path = Path(os.environ.get("AEMSEAL_PICTURES") or folder, f"{name}.png")
    pc.picture(path)
    return path.read_bytes()


def test_the_secret_is_beside_the_prompt_and_gone_before_the_root(
    splash: SplashWorld, tmp_path: Path
) -> None:
    """The passphrase is typed on the keyboard, at the screen where the splash was."""
    with splash.at_the_screen() as pc:
        pc.wait_for(SECRET, BOOTED)
        pc.wait_for(PROMPT, 120)
        shown = take_picture(pc, tmp_path, "accepted")
        pc.press(PASSPHRASE.decode())
        pc.wait_for(VERDICT, 180)
        pc.wait_for("SCREEN-END", 30)
        assert take_picture(pc, tmp_path, "after") != shown
        pc.wait_until_off(60)
        after = pc.console.split(VERDICT)[1]
    assert "A-SPLASH-RAN" in after
    assert "A-SPLASH-RUNS" not in after
    screen = after.split("SCREEN-BEGIN")[1].split("SCREEN-END")[0]
    assert "LEFT-ON-THE-SCREEN" in screen
    assert SECRET.split()[1] not in screen


def test_a_refusal_takes_the_place_of_the_splash(
    splash: SplashWorld, tmp_path: Path
) -> None:
    with splash.at_the_screen(launched=False) as pc:
        pc.wait_for(DO_NOT_TYPE, BOOTED)
        pc.wait_for(QUESTION, 60)
        take_picture(pc, tmp_path, "refused")
        pc.press("")
        pc.wait_until_off(60)
        assert SECRET not in pc.console
        assert VERDICT not in pc.console
