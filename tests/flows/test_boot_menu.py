# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine's grub.cfg is evaluated: from its folder, for its firmware."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_tree import machine

from aemseal.flows.boot_menu import read_menu
from aemseal.words.errors import GrubError
from aemseal.world.host import EFI_FOLDER

# The form of grub.d/19_linux_xen_tboot of Anti Evil Maid, which asks for the platform.
CONFIG = b"""
source $prefix/custom.cfg
menuentry "Qubes" {
  if [ "$grub_platform" = "pc" -o "$grub_platform" = "" ]; then
    xen_rm_opts=
  else
    xen_rm_opts="no-real-mode edd=off"
  fi
  multiboot2 /tboot.gz placeholder
  module2 /xen.gz placeholder ${title} ${xen_rm_opts}
}
"""
FILES = {
    "/boot/grub2/grub.cfg": CONFIG,
    "/boot/grub2/custom.cfg": b"set title=from-custom\nexport title\n",
    "/boot/tboot.gz": b"tboot",
    "/boot/xen.gz": b"xen",
}


def xen_arguments(root: Path, files: dict[str, bytes]) -> tuple[str, ...]:
    entry = read_menu(machine(root, files)).next_entry()
    return entry.loads[1].arguments


def test_a_bios_machine_is_grubs_platform_pc_and_sources_beside_grub_cfg(
    tmp_path: Path,
) -> None:
    assert xen_arguments(tmp_path, FILES) == ("placeholder", "from-custom")


def test_a_uefi_machine_is_grubs_platform_efi(tmp_path: Path) -> None:
    files = {**FILES, f"{EFI_FOLDER}/systab": b""}
    arguments = xen_arguments(tmp_path, files)
    assert arguments == ("placeholder", "from-custom", "no-real-mode", "edd=off")


def test_a_malformed_grub_cfg_is_named_with_its_file(tmp_path: Path) -> None:
    files = {**FILES, "/boot/grub2/grub.cfg": b"menuentry 'Qubes {\n"}
    with pytest.raises(GrubError) as told:
        read_menu(machine(tmp_path, files))
    assert told.value.hint is not None
    assert "/boot/grub2/grub.cfg" in told.value.hint
