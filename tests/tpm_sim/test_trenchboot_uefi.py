# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen as a UEFI program: what it reads, what it measures, what its live image is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tpm_sim.efi_image import install_launchable_efi
from tpm_sim.errors import SimulationError
from tpm_sim.machine import Machine
from tpm_sim.memory import MemoryRange
from tpm_sim.models import Generation, MachineModel
from tpm_sim.trenchboot_machines import (
    TRENCHBOOT_SKINIT,
    TRENCHBOOT_SKINIT_UEFI,
    TRENCHBOOT_TXT_UEFI,
)
from tpm_sim.xen_config import NamedFile, XenConfig
from trenchboot_logs import DYNAMIC, booted, change_entry, measured, records_of, sha256

Make = Callable[[MachineModel], Machine]
FOLDER = "boot/efi/EFI/qubes"


def config_of(machine: Machine) -> Path:
    return machine.root / FOLDER / "xen-4.17.cfg"


def change_config(machine: Machine, old: str, new: str) -> None:
    path = config_of(machine)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def value_of(machine: Machine, item: str) -> bytes:
    text = config_of(machine).read_text(encoding="utf-8")
    [line] = [each for each in text.splitlines() if each.strip().startswith(item)]
    return line.split("=", 1)[1].encode()


class TestWhatIsMeasured:
    def test_on_amd_is_the_live_image_the_words_and_the_raw_files(
        self, laptop: Make
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        events = [(pcr, text) for pcr, _, _, text in records_of(machine)]
        module = [(18, b"MB module string"), (17, b"MB module")]
        assert events == [
            *((17, b"SKINIT"), (17, b"DLME entry offset"), (17, b"DLME")),
            *((18, b""), (18, b"Xen's command line")),
            *module,
            *module,
        ]

    def test_on_intel_has_the_heap_too(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT_UEFI)
        booted(machine)
        events = [
            (pcr, text) for pcr, kind, _, text in records_of(machine) if kind == 0x502
        ]
        assert events[:3] == [
            *((18, b""), (18, b"Measured TXT OS-MLE data")),
            (18, b"Xen's command line"),
        ]
        assert len(events) == 7

    def test_of_the_modules_are_names_with_words_and_files_as_they_are(
        self, laptop: Make
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        folder = machine.root / FOLDER
        assert measured(machine, b"MB module string") == [
            sha256(value_of(machine, "kernel")),
            sha256(value_of(machine, "ramdisk")),
        ]
        assert measured(machine, b"MB module") == [
            sha256((folder / "aem-vmlinuz").read_bytes()),
            sha256((folder / "aem-initramfs.img").read_bytes()),
        ]

    @pytest.mark.parametrize(
        ("generation", "first"),
        [(Generation.V0_5, b"vmlinuz "), (Generation.V0_5_3, b"")],
    )
    def test_of_the_command_line_begins_with_the_name_in_xen_4_17(
        self, laptop: Make, generation: Generation, first: bytes
    ) -> None:
        machine = laptop(replace(TRENCHBOOT_SKINIT_UEFI, generation=generation))
        booted(machine)
        options = value_of(machine, "options")
        assert options.startswith(b"placeholder console=none")
        assert options.endswith(b"no-real-mode edd=off")
        digest = sha256(first + options)
        assert measured(machine, b"Xen's command line") == [digest]

    def test_with_microcode_and_policy_comes_in_xens_order(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        change_config(
            machine, "    ramdisk=", "    ucode=uc\n    xsm=policy\n    ramdisk="
        )
        for name in ("uc", "policy"):
            (machine.root / FOLDER / name).write_bytes(name.encode())
        booted(machine)
        texts = measured(machine, b"MB module string")
        assert texts[2:] == [sha256(b"policy"), sha256(b"uc")]
        assert measured(machine, b"MB module")[2:] == texts[2:]


class TestTheLiveImage:
    @pytest.mark.parametrize(
        "change",
        [
            lambda machine: change_config(machine, "quiet", "quieter"),
            lambda machine: change_config(machine, "ucode=scan", "ucode=no"),
            lambda machine: change_config(machine, "    ramdisk", "#\n    ramdisk"),
            lambda machine: (machine.root / FOLDER / "aem-initramfs.img").write_bytes(
                bytes(77)
            ),
        ],
        ids=["a longer string", "other options", "a longer file", "another size"],
    )
    def test_changes_with_lengths_and_sizes(
        self, laptop: Make, change: Callable[[Machine], None]
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        before = measured(machine, b"DLME")
        change(machine)
        booted(machine)
        assert measured(machine, b"DLME") != before

    def test_stays_with_other_bytes_of_the_same_length(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        before = measured(machine, b"DLME")
        change_config(machine, "quiet", "quiel")
        kernel = machine.root / FOLDER / "aem-vmlinuz"
        kernel.write_bytes(bytes(kernel.stat().st_size))
        booted(machine)
        assert measured(machine, b"DLME") == before

    def test_changes_with_the_memory_map_and_with_xen(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        before = measured(machine, b"DLME")
        memory = (*TRENCHBOOT_SKINIT.memory, MemoryRange(0x2C0000000, 0x1000, 2))
        other = laptop(replace(TRENCHBOOT_SKINIT_UEFI, memory=memory))
        booted(other)
        assert measured(other, b"DLME") != before
        if machine.cache.has_two_xens:
            install_launchable_efi(
                machine.cache.xen_new_efi, machine.root / FOLDER / "xen-4.17.efi"
            )
            booted(machine)
            assert measured(machine, b"DLME") != before

    def test_has_the_entry_point_of_its_header(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        booted(machine)
        xen = (machine.root / FOLDER / "xen-4.17.efi").read_bytes()
        header = xen.index(bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642"))
        (entry,) = struct.unpack_from("<4s", xen, header + 24)
        assert measured(machine, b"DLME entry offset") == [sha256(entry)]


class TestTheEntry:
    def test_needs_slaunch(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        change_entry(machine, "\tslaunch\n", "")
        values = booted(machine)["sha256"]
        assert all(set(values[pcr]) == {0xFF} for pcr in DYNAMIC)

    def test_needs_a_xen_with_the_header(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        xen = machine.root / FOLDER / "xen-4.17.efi"
        xen.write_bytes(machine.cache.xen_old_efi.read_bytes())
        assert set(booted(machine)["sha256"][17]) == {0xFF}

    def test_boots_in_the_way_of_the_firmware_only(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        change_entry(machine, "chainloader\t/EFI/qubes/", "multiboot2 /EFI/qubes/")
        with pytest.raises(SimulationError, match="does not boot this entry"):
            machine.boot()

    def test_names_the_section_by_its_second_word(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        config = config_of(machine)
        text = config.read_text(encoding="utf-8")
        other = text.replace("[vmlinuz]", "[other]").replace("console=none", "vga")
        config.write_text(other + text, encoding="utf-8")
        options = {
            each: given.split("options=")[1].splitlines()[0].encode()
            for each, given in (("vmlinuz", text), ("other", other))
        }
        # The only word is Xen's own name: the first section that has a kernel counts.
        for words, section in (
            ("vmlinuz", "other"),
            ("vmlinuz vmlinuz", "vmlinuz"),
            ("vmlinuz -x other vmlinuz", "vmlinuz"),
        ):
            change_entry(machine, "xen-4.17.efi vmlinuz\n", f"xen-4.17.efi {words}\n")
            booted(machine)
            assert measured(machine, b"Xen's command line") == [
                sha256(b"vmlinuz " + options[section])
            ]
            change_entry(machine, f"xen-4.17.efi {words}\n", "xen-4.17.efi vmlinuz\n")

    @pytest.mark.parametrize(
        ("words", "first", "last"),
        [("x vmlinuz -- a b", b"x ", b" a b"), ("", b"xen ", b"")],
    )
    def test_may_give_xen_options_and_no_name(
        self, laptop: Make, words: str, first: bytes, last: bytes
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        change_entry(machine, "xen-4.17.efi vmlinuz", f"xen-4.17.efi {words}")
        booted(machine)
        digest = sha256(first + value_of(machine, "options") + last)
        assert measured(machine, b"Xen's command line") == [digest]

    @pytest.mark.parametrize("missing", ["xen-4.17.cfg", "aem-vmlinuz"])
    def test_does_not_boot_without_its_files(self, laptop: Make, missing: str) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        (machine.root / FOLDER / missing).unlink()
        with pytest.raises(SimulationError, match=f"Xen cannot find {missing}"):
            machine.boot()

    def test_gives_the_kernel_its_words(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT_UEFI)
        machine.boot()
        cmdline = (machine.root / "proc/cmdline").read_text(encoding="ascii")
        assert cmdline.startswith("placeholder root=/dev/mapper/")


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        (b"[a]\nkernel=k x y\n", b"a", ((b"k", b"x y"),)),
        (b"[b]\nkernel=n\n[a]\n \t kernel=  k  x \n", b"a", ((b"k", b"x "),)),
        (b"[global]\ndefault=a\n[a]\nkernel=k # no\n", b"", ((b"k", b""),)),
        (b"[b]\nkernel=n\n", b"", ((b"n", b""),)),
        (b"[a]\nkernel=k\nkernel=l\nramdisk=r s\n", b"a", ((b"k", b""), (b"r s", b""))),
        (b"[global]\nucode=u v\n[a]\nkernel=k\n", b"a", ((b"k", b""), (b"u", b""))),
        (b"; [a]\n[a]\n#kernel=n\nkernel=k\nramdisk=ignored", b"a", ((b"k", b""),)),
    ],
    ids=[
        *("words", "space", "default", "no section", "first counts", "microcode"),
        "comments",
    ],
)
def test_the_configuration_is_read_as_xen_reads_it(
    text: bytes, section: bytes, expected: tuple[tuple[bytes, bytes], ...]
) -> None:
    found = XenConfig.of(text, section).modules
    assert found == tuple(NamedFile(*each) for each in expected)


@pytest.mark.parametrize("text", [b"", b"[a]\n[b]\nkernel=k\n", b"[a]\nkernel=k"])
def test_a_configuration_without_a_kernel_stops_xen(text: bytes) -> None:
    with pytest.raises(SimulationError, match="no kernel"):
        XenConfig.of(text, b"a")
