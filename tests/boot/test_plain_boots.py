# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs without systemd: the same secret, the same sentence, the same order."""

from __future__ import annotations

import pytest
from boot_world import SECRET, VERDICT, BootWorld, record_of
from scenes import BOOTED, DRACUTS_PROMPT, is_refused, write_down
from tpm_sim.luks_root import PASSPHRASE

pytestmark = pytest.mark.tpm


def test_the_secret_is_shown_before_dracut_asks_for_the_passphrase(
    plain: BootWorld,
) -> None:
    with plain.pc() as pc:
        pc.wait_for(SECRET, BOOTED)
        assert DRACUTS_PROMPT not in pc.console
        pc.wait_for(DRACUTS_PROMPT, 90)
        pc.type(PASSPHRASE.decode())
        pc.wait_for(VERDICT, 120)
        pc.wait_for("RECORD-END", 30)
        pc.wait_until_off(60)
        write_down(pc, "without-systemd")
        record = record_of(pc.console)
    plain.pretend_boot(record)
    assert plain.aemseal("confirm").code == 0
    assert '"this_boot": "accepted"' in plain.did("status", "--json")


def test_a_changed_boot_powers_off(plain: BootWorld) -> None:
    plain.change_menu("dom0_max_vcpus=1", "dom0_max_vcpus=1 flask=disabled")
    with plain.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 17 differs.")
        assert DRACUTS_PROMPT not in pc.console
