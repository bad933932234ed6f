# SPDX-License-Identifier: GPL-2.0-or-later
"""The power goes (kill -9) in the middle of a boot; the next boot shows the secret.

Without systemd in the initramfs, which takes a quarter off the time of two boots.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from boot_world import SECRET, BootWorld
from scenes import BOOTED, DRACUTS_PROMPT
from tpm_sim.luks_root import PASSPHRASE
from tpm_sim.qemu import Pc

pytestmark = pytest.mark.tpm


def while_xen_starts(pc: Pc) -> None:
    pc.wait_for("Xen version", 60)


def with_the_secret_on_the_screen(pc: Pc) -> None:
    pc.wait_for(SECRET, BOOTED)


def with_the_disk_being_opened(pc: Pc) -> None:
    pc.wait_for(DRACUTS_PROMPT, BOOTED)
    pc.type(PASSPHRASE.decode())


@pytest.mark.parametrize(
    "moment",
    [while_xen_starts, with_the_secret_on_the_screen, with_the_disk_being_opened],
)
def test_a_power_cut_in_the_boot_leaves_the_next_one_accepted(
    plain: BootWorld, moment: Callable[[Pc], None]
) -> None:
    with plain.pc(keeps=True) as pc:
        moment(pc)
        pc.cut()
    with plain.pc(again=True, keeps=True) as pc:
        pc.wait_for(SECRET, BOOTED)
        pc.wait_for(DRACUTS_PROMPT, 90)
