# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB, tboot, Xen, dom0, dracut: the secret before the passphrase, or the sentence.

These two are what every run of CI boots.
"""

from __future__ import annotations

import pytest
from boot_world import BootWorld
from scenes import enters_the_root, is_refused, shows_the_secret, write_down

pytestmark = pytest.mark.tpm


def test_an_accepted_boot_shows_the_secret_before_the_passphrase(
    world: BootWorld,
) -> None:
    """And its root is entered; the tool finds that it is the boot it foresaw."""
    with world.pc() as pc:
        shows_the_secret(pc)
        record = enters_the_root(pc)
        write_down(pc, "accepted")
    assert "outcome unsealed\n" in record
    world.pretend_boot(record)
    assert world.aemseal("confirm").code == 0
    assert '"this_boot": "accepted"' in world.did("status", "--json")


def test_a_changed_xen_command_line_keeps_the_secret_in(world: BootWorld) -> None:
    world.change_menu("dom0_max_vcpus=1", "dom0_max_vcpus=1 flask=disabled")
    with world.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 17 differs.")
        write_down(pc, "refused")
