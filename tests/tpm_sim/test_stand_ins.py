# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands for files that no archive ships, and what is not taken for one."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from tpm_sim import efi_image, xen_image
from tpm_sim.acm import Acm, AcmHeader, Platform, SinitModule
from tpm_sim.cache import Cache
from tpm_sim.disk import Disk
from tpm_sim.errors import SimulationError
from tpm_sim.grub import LoadedFile
from tpm_sim.machine import Machine
from tpm_sim.memory import Memory, MemoryRange
from tpm_sim.models import MachineModel, SklHeader
from tpm_sim.quirk_machines import TBOOT_SINIT_FILE
from tpm_sim.slr import Skl, make_skl
from tpm_sim.tboot_image import TbootImage, of_version
from tpm_sim.tboot_policy import LaunchPolicy, default_policy
from tpm_sim.xen_image import XenImage

Make = Callable[[MachineModel], Machine]
PLATFORM = Platform(device=0xB006, signature=0x506E3)


def patched(content: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


class TestASinitModule:
    @pytest.mark.parametrize("header", list(AcmHeader))
    def test_says_what_its_recipe_says(self, header: AcmHeader) -> None:
        acm = Acm(PLATFORM, header=header, capabilities=0x77E, date=0x20220301)
        module = SinitModule.of(acm.content)
        assert module is not None
        assert (module.date, module.capabilities) == (0x20220301, 0x77E)
        assert module.platforms == (PLATFORM,)
        assert len(module.modulus) == header.value[2]

    def test_of_another_build_differs_in_what_is_measured_alone(self) -> None:
        one, other = (Acm(PLATFORM, build=number).content for number in (1, 2))
        first, second = SinitModule.of(one), SinitModule.of(other)
        assert first is not None
        assert second is not None
        assert first.modulus == second.modulus
        assert first.measured != second.measured
        assert len(one) == len(other)

    def test_with_lists_beyond_its_end_is_for_no_machine(self) -> None:
        content = Acm(PLATFORM).content
        table = (161 + 143) * 4
        module = SinitModule.of(patched(content, table + 20, "<I", 0x7FFFFFF0))
        assert module is not None
        assert not module.matches(PLATFORM)

    def test_needs_a_table(self) -> None:
        content = Acm(PLATFORM).content
        assert SinitModule.of(patched(content, 124, "<I", 0xFFFF)) is None
        assert SinitModule.of(content[:1000]) is None

    def test_must_be_for_the_machine_or_nothing_is_measured(self, laptop: Make) -> None:
        model = replace(TBOOT_SINIT_FILE, sinit_files=TBOOT_SINIT_FILE.sinit_files[:1])
        assert not laptop(model).boot().launch.is_measured


class TestSkl:
    @pytest.mark.parametrize("header", list(SklHeader))
    def test_is_what_grub_takes_for_one(self, header: SklHeader) -> None:
        content = make_skl(header)
        skl = Skl.of(content, header)
        assert skl is not None
        assert (len(skl.measured), skl.slrt_size) == (0xC4D4, 0x1B2C)
        other = next(each for each in SklHeader if each is not header)
        assert Skl.of(content, other) is None

    @pytest.mark.parametrize(
        ("at", "value"),
        [(0, 0xFFFF), (2, 0xFFFF), (2, 0x10), (4, 0xFFFF), (6, 0xF001), (6, 0x1000)],
        ids=["entry", "length", "too short", "information", "no room", "overlap"],
    )
    def test_with_a_wrong_offset_is_none(self, at: int, value: int) -> None:
        content = patched(make_skl(SklHeader.SHORT), at, "<H", value)
        assert Skl.of(content, SklHeader.SHORT) is None

    def test_is_not_made_with_a_wrong_one(self) -> None:
        with pytest.raises(SimulationError, match="would not take this"):
            make_skl(SklHeader.SHORT, bootloader_data=0xF800)


class TestTboot:
    def test_of_another_version_says_so(self, cache: Cache) -> None:
        content = cache.tboot.read_bytes()
        made = TbootImage.of(of_version(content, "1.9.5"))
        assert made is not None
        assert (made.version, made.capabilities) == ("1.9.5", 0x27)
        assert made.os_sinit_capabilities(0x36E, is_tpm2=True) == 0x2

    def test_of_a_longer_version_cannot_be_made(self, cache: Cache) -> None:
        with pytest.raises(SimulationError, match="no room for the version"):
            of_version(cache.tboot.read_bytes(), "1.11.12")

    def test_is_made_of_tboot_alone(self) -> None:
        with pytest.raises(SimulationError, match="no tboot"):
            of_version(b"no tboot", "1.9.12")
        assert TbootImage.of(b"no tboot") is None


class TestAPolicy:
    def test_without_the_control_bit_hides_its_bytes(self) -> None:
        policy = default_policy((1, 10, 5), is_tpm12=False, others_pcr=17)
        quiet = LaunchPolicy.of(patched(policy.content, 3, "<I", 0))
        other = LaunchPolicy.of(patched(quiet.content, 2, "<B", 4))
        sha256 = next(iter(TBOOT_SINIT_FILE.tboot_banks))
        assert quiet.digest(sha256, sha256) == other.digest(sha256, sha256)
        assert policy.digest(sha256, sha256) != quiet.digest(sha256, sha256)

    def test_may_leave_a_module_out(self) -> None:
        empty = LaunchPolicy.of(struct.pack("<BBBIIB", 2, 0, 11, 1, 0, 0))
        assert empty.entry(0) is None

    @pytest.mark.parametrize("content", [b"", bytes(12), b"\x02" + bytes(10) + b"\x05"])
    def test_that_is_none_is_refused(self, content: bytes) -> None:
        with pytest.raises(SimulationError):
            LaunchPolicy.of(content)


class TestXen:
    def elf(self, cache: Cache) -> bytes:
        return gzip.decompress(cache.xen_old.read_bytes())

    def test_gets_its_header_behind_the_multiboot2_header(self, cache: Cache) -> None:
        made = xen_image.launchable(self.elf(cache))
        image = XenImage.of(made).content
        at = image.index(xen_image.MLE_UUID)
        assert at % 16 == 0
        assert at < 4096
        assert image.index(struct.pack("<I", 0xE85250D6)) < at
        assert struct.unpack_from("<II", image, at + 16) == (0x34, 0x20002)
        assert made != self.elf(cache)

    def test_cannot_get_two(self, cache: Cache) -> None:
        with pytest.raises(SimulationError, match="no room"):
            xen_image.launchable(xen_image.launchable(self.elf(cache)))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "cut short"),
            (bytes(4096), "no 32-bit ELF"),
            (b"\x7fELF\x01\x01".ljust(4096, b"\0"), "nothing to load"),
        ],
    )
    def test_must_be_one(self, content: bytes, words: str) -> None:
        with pytest.raises(SimulationError, match=words):
            XenImage.of(content)

    def test_without_multiboot2_cannot_be_launched(self, cache: Cache) -> None:
        elf = self.elf(cache).replace(struct.pack("<I", 0xE85250D6), bytes(4))
        with pytest.raises(SimulationError, match="no multiboot2 header"):
            xen_image.launchable(elf)

    def test_without_a_header_has_no_entry_point(self, cache: Cache) -> None:
        with pytest.raises(SimulationError, match="no MLE header"):
            _ = XenImage.of(self.elf(cache)).entry_point


class TestXenEfi:
    def test_must_be_one(self, cache: Cache) -> None:
        content = cache.xen_old_efi.read_bytes()
        for bad, words in (
            (b"", "cut short"),
            (bytes(4096), "no PE file"),
            (content.replace(b".init\0", b".tini\0", 1), "no section .init"),
            (content.replace(struct.pack("<I", 0xE85250D6), bytes(4)), "multiboot2"),
        ):
            with pytest.raises(SimulationError, match=words):
                efi_image.launchable(bad)


class TestMemory:
    def test_is_given_out_low_or_high(self) -> None:
        memory = Memory((MemoryRange(0, 0x8000), MemoryRange(0x100000, 0x100000)))
        assert memory.take(0x1000) == 0x1000
        assert memory.take(0x1000, high=True) == 0x1FF000
        assert memory.take(1, 1) == 0x2000
        assert memory.take(0x1000) == 0x3000
        assert memory.take(0x1000, least=0x100000) == 0x100000
        assert memory.take(0) == 0

    def test_ends(self) -> None:
        memory = Memory((MemoryRange(0, 0x3000), MemoryRange(1 << 32, 1 << 30)))
        with pytest.raises(SimulationError, match="no memory"):
            memory.take(0x3000)


def test_a_file_that_grub_unpacks_in_its_own_way_is_refused(
    cache: Cache, laptop: Make
) -> None:
    machine = laptop(TBOOT_SINIT_FILE)
    twice = gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0)
    (machine.root / "boot/odd").write_bytes(twice)
    disk = Disk(machine.root, cache)
    with pytest.raises(SimulationError):
        disk.content(LoadedFile("/odd", b"", decompress=True))
    assert disk.content(LoadedFile("/odd", b"", decompress=False)) == twice
