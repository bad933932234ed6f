# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB, tboot, Xen, dom0, dracut: what the person sees before the passphrase."""

from __future__ import annotations

import pytest
from boot_world import PROMPT, SECRET, VERDICT, BootWorld, record_of
from tpm_sim.luks_root import PASSPHRASE

pytestmark = pytest.mark.tpm

BOOTED = 240
"""Seconds until the hook has spoken, on two busy cores without KVM."""


def test_an_accepted_boot_shows_the_secret_before_the_passphrase(
    world: BootWorld,
) -> None:
    """And its root is entered; the tool then confirms the boot that was staged."""
    with world.pc() as pc:
        pc.wait_for(SECRET, BOOTED)
        pc.wait_for(PROMPT, 60)
        pc.type(PASSPHRASE.decode())
        pc.wait_for(VERDICT, 120)
        pc.wait_for("RECORD-END", 30)
        pc.wait_until_off(60)
        record = record_of(pc.console)
    assert "outcome unsealed\n" in record
    world.pretend_boot(record)
    confirmed = world.aemseal("confirm")
    assert confirmed.code == 0, confirmed.told
    assert confirmed.out.startswith("confirmed: ")


def test_another_kernel_command_line_keeps_the_secret_in(world: BootWorld) -> None:
    menu = world.files.grub_cfg.read_text(encoding="utf-8")
    world.files.grub_cfg.write_text(menu.replace(" rw ", " rw init=/bin/sh "))
    try:
        with world.pc() as pc:
            pc.wait_for(r"aemseal: This boot is not one that you accepted\.", BOOTED)
            pc.wait_for("To start it all the same, type: ", 30)
            pc.type("")
            pc.wait_until_off(60)
            assert SECRET not in pc.console
            assert VERDICT not in pc.console
    finally:
        world.files.grub_cfg.write_text(menu, encoding="utf-8")
