# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs without systemd: the same secret, the same sentence, the same order."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from boot_world import SECRET, VERDICT, BootWorld, record_of
from scenes import BOOTED, is_refused, write_down
from tpm_sim.cache import Cache
from tpm_sim.dracut import build_command
from tpm_sim.luks_root import PASSPHRASE

pytestmark = pytest.mark.tpm

DRACUTS_PROMPT = "Enter passphrase for "


class PlainWorld(BootWorld):
    """A machine whose initramfs has dracut's own init."""

    def configure(self, **more: object) -> None:
        plain = build_command(self.root, "plain")
        super().configure(initramfs_command=plain, **more)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainWorld]:
    """Its first boot is staged."""
    if not os.environ.get("AEMSEAL_BOOT"):
        pytest.skip("real boots are run by: make test-boot")
    with PlainWorld(tmp_path_factory.mktemp("plain"), Cache.default()) as world:
        world.enrol()
        yield world


def test_the_secret_is_shown_before_dracut_asks_for_the_passphrase(
    plain: PlainWorld,
) -> None:
    with plain.as_it_was():
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
        assert plain.did("confirm").startswith("confirmed: ")


def test_a_changed_boot_powers_off(plain: PlainWorld) -> None:
    with plain.as_it_was():
        plain.change_menu("dom0_max_vcpus=1", "dom0_max_vcpus=1 flask=disabled")
        with plain.pc() as pc:
            is_refused(pc, "This boot is not one that you accepted: PCR 18 differs.")
            assert DRACUTS_PROMPT not in pc.console
