# SPDX-License-Identifier: GPL-2.0-or-later
"""One thing differs from the accepted boot: the hook says so, and which PCR tells."""

from __future__ import annotations

import pytest
from boot_world import SECRET, VERDICT, BootWorld
from scenes import BOOTED, QUESTION, enters_the_root, is_refused, write_down
from tpm_sim.boot_directory import pack_initramfs
from tpm_sim.demo_laptop import rebuilt

pytestmark = pytest.mark.tpm


def test_a_file_more_in_the_initramfs_keeps_the_secret_in(world: BootWorld) -> None:
    with world.files.initramfs.open("ab") as image:
        image.write(pack_initramfs({"etc/evil": b"maid\n"}))
    with world.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 17 differs.")
        write_down(pc, "changed-initramfs")


def test_another_kernel_keeps_the_secret_in(world: BootWorld) -> None:
    world.files.kernel.write_bytes(rebuilt(world.files.kernel.read_bytes()))
    with world.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 17 differs.")


def test_without_a_dynamic_launch_the_secret_stays_in(world: BootWorld) -> None:
    with world.pc(launched=False) as pc:
        is_refused(pc, "This boot was not measured: there was no dynamic launch.")
        write_down(pc, "unmeasured")


def test_who_types_the_words_goes_on_blindly_and_is_told_so_after_login(
    world: BootWorld,
) -> None:
    world.change_menu("dom0_max_vcpus=1", "dom0_max_vcpus=1 flask=disabled")
    with world.pc() as pc:
        pc.wait_for("This boot is not one that you accepted: PCR 17 differs.", BOOTED)
        pc.wait_for(QUESTION, 30)
        pc.type("boot it blindly")
        pc.wait_for("Nothing proves that this machine is still yours.", 30)
        record = enters_the_root(pc)
        assert SECRET not in pc.console
        assert VERDICT in pc.console
        write_down(pc, "overridden")
    world.pretend_boot(record)
    (world.root / "run/aemseal/overridden").write_text("overridden\n")
    explained = world.aemseal("explain")
    assert explained.code == 6
    assert explained.out.startswith(
        "The boot hook refused this boot, and somebody typed the words to start it all "
        "the same. Do not type the passphrase"
    )
