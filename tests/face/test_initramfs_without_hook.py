# SPDX-License-Identifier: GPL-2.0-or-later
"""An update that builds the initramfs without the hook: the next boot shows nothing."""

from __future__ import annotations

from laptop import MakeLaptop
from tpm_sim.boot_directory import INITRAMFS_TREE, pack_initramfs
from tpm_sim.initramfs import IMAGE, build_initramfs
from tpm_sim.machines import TBOOT_DA


def test_an_initramfs_without_the_hooks_files_is_not_staged(own: MakeLaptop) -> None:
    laptop = own(TBOOT_DA)
    tree = {**INITRAMFS_TREE, "usr/lib/new": b"a new file"}
    laptop.write(IMAGE, pack_initramfs(tree))
    before = laptop.kept
    refused = laptop.aemseal("reseal", "--accept", "initramfs")
    assert refused.code == 4
    assert "the hook's files are no longer in /boot/initramfs.img" in refused.error
    assert "build the initramfs anew" in refused.hint
    assert laptop.kept == before
    build_initramfs(laptop.root)
    assert laptop.aemseal("reseal").code == 0
