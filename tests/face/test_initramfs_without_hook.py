# SPDX-License-Identifier: GPL-2.0-or-later
"""An update that builds the initramfs without the hook: the next boot shows nothing."""

from __future__ import annotations

import json

from laptop import CARRIED, MakeLaptop
from tpm_sim.boot_directory import INITRAMFS_TREE, pack_initramfs
from tpm_sim.initramfs import IMAGE, build_command, build_initramfs
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


def test_a_build_that_leaves_the_hook_out_is_not_enrolled(own: MakeLaptop) -> None:
    laptop = own(TBOOT_DA, enrolled=False)
    image = pack_initramfs({**INITRAMFS_TREE, "usr/lib/aemseal/aemseal-unseal": b"x"})
    laptop.write("/root/without", image)
    command = ["cp", laptop.path("/root/without"), laptop.path(f"/{IMAGE}")]
    words = json.dumps([str(each) for each in command])
    laptop.write("/etc/aemseal.yaml", f"initramfs_command: {words}\n{CARRIED}")
    refused = laptop.enrol()
    assert refused.code == 4
    assert "that was built lacks usr/lib/aemseal/aemseal-boot, " in refused.error
    assert "90aemseal" in refused.hint
    assert not laptop.path("/var/lib/aemseal/state.json").exists()
    laptop.reboot()
    own_command = json.dumps(build_command(laptop.root))
    laptop.write("/etc/aemseal.yaml", f"initramfs_command: {own_command}\n{CARRIED}")
    assert laptop.enrol().code == 0
