# SPDX-License-Identifier: GPL-2.0-or-later
"""The multiboot2 information: what changes it, and what does not."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tpm_sim.machine import Machine
from tpm_sim.memory import MemoryRange
from tpm_sim.models import MachineModel
from tpm_sim.trenchboot_machines import TRENCHBOOT_SKINIT
from trenchboot_logs import booted, measured

Make = Callable[[MachineModel], Machine]


def information_of(machine: Machine) -> bytes:
    """The digest of the multiboot2 information of a boot."""
    booted(machine)
    return measured(machine, b"")[0]


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"one byte more"[:1])


class TestTheMultiboot2Information:
    @pytest.mark.parametrize(
        "change",
        [
            lambda boot: append(boot / "initramfs.img"),
            lambda boot: append(boot / "vmlinuz"),
            lambda boot: (boot / "grub/grub.cfg").write_text(
                (boot / "grub/grub.cfg").read_text().replace("quiet", "quiet splash")
            ),
            lambda boot: (boot / "grub/grub.cfg").write_text(
                (boot / "grub/grub.cfg").read_text().replace("ucode=scan", "ucode=-1")
            ),
            lambda boot: (boot / "grub/grub.cfg").write_text(
                (boot / "grub/grub.cfg")
                .read_text()
                .replace("/initramfs.img\n", "/initramfs.img\n\tmodule2 /vmlinuz\n", 1)
            ),
        ],
        ids=[
            *("initramfs grown", "kernel grown", "kernel's words", "Xen's words"),
            "one module more",
        ],
    )
    def test_changes_with_words_sizes_and_number(
        self, laptop: Make, change: Callable[[Path], None]
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        before = information_of(machine)
        change(machine.root / "boot")
        assert information_of(machine) != before

    def test_stays_when_a_module_of_the_same_size_has_other_bytes(
        self, laptop: Make
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        before = information_of(machine)
        modules = measured(machine, b"Measured MB2 module")
        flip_last_byte(machine.root / "boot/initramfs.img")
        flip_last_byte(machine.root / "boot/vmlinuz")
        assert information_of(machine) == before
        assert not set(modules) & set(measured(machine, b"Measured MB2 module"))

    def test_follows_what_is_unpacked_and_not_what_is_packed(
        self, laptop: Make
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        image = machine.root / "boot/initramfs.img"
        content = image.read_bytes()
        before = booted(machine)
        image.write_bytes(gzip.compress(content, mtime=0))
        assert booted(machine) == before

    def test_follows_the_memory_map_and_the_loaders_name(self, laptop: Make) -> None:
        before = information_of(laptop(TRENCHBOOT_SKINIT))
        memory = (*TRENCHBOOT_SKINIT.memory, MemoryRange(0x2C0000000, 0x1000, 2))
        more = replace(TRENCHBOOT_SKINIT, memory=memory)
        assert information_of(laptop(more)) != before
        other = replace(TRENCHBOOT_SKINIT, loader_name="GRUB 2.14")
        assert information_of(laptop(other)) != before

    def test_follows_xens_sections(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        before = information_of(machine)
        xen = machine.root / "boot/xen.gz"
        elf = bytearray(gzip.decompress(xen.read_bytes()))
        (sections,) = struct.unpack_from("<I", elf, 32)
        struct.pack_into("<I", elf, sections + 40 + 20, 0x200000)  # .text's size
        xen.write_bytes(gzip.compress(bytes(elf), mtime=0))
        assert information_of(machine) != before
