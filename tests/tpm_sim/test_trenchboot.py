# SPDX-License-Identifier: GPL-2.0-or-later
"""TrenchBoot's launches: the TPM holds what the log says, and what the files are."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tpm2_tools import read_pcrs
from tpm_sim.machine import Machine
from tpm_sim.models import (
    Firmware,
    Generation,
    LogPlace,
    MachineModel,
    MemoryRange,
    Processor,
    TrenchbootModel,
)
from tpm_sim.slr import make_skl
from tpm_sim.trenchboot_machines import TRENCHBOOT_MACHINES, TRENCHBOOT_SKINIT
from tpm_sim.xen_image import install_launchable
from written_logs import Record, read_log, replay

Make = Callable[[MachineModel], Machine]
DYNAMIC = range(17, 23)
LEGACY = [each for each in TRENCHBOOT_MACHINES if each.firmware is Firmware.LEGACY]
SKINIT = [each for each in LEGACY if each.processor is Processor.AMD]


def model_of(machine: Machine) -> TrenchbootModel:
    assert isinstance(machine.model, TrenchbootModel)
    return machine.model


def booted(
    machine: Machine, *, unmeasured: bool = False
) -> dict[str, dict[int, bytes]]:
    """Boot and return what tpm2_pcrread reads; the machine is off again then."""
    machine.boot(unmeasured=unmeasured)
    values = read_pcrs(machine.tcti)
    machine.power_off()
    return values


def console_of(machine: Machine) -> str:
    path = machine.root / "var/log/xen/console/hypervisor.log"
    return path.read_text(encoding="utf-8")


def log_of(machine: Machine) -> bytes:
    """Read the log as a person finds it: where Xen's last line says it is."""
    if model_of(machine).log_place is LogPlace.FILE:
        return machine.log_path.read_bytes()
    ranges = re.findall(
        r"reserving event log [\[(](0x\w+)(?: -|,) (0x\w+)[\])]", console_of(machine)
    )
    start, end = (int(each, 16) for each in ranges[-1])
    with open(machine.root / "dev/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)


def records_of(machine: Machine) -> list[Record]:
    return read_log("tcg-agile", log_of(machine))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def measured(machine: Machine, text: bytes) -> list[bytes]:
    """The SHA-256 digests of the events with this text."""
    return [each[2]["sha256"] for each in records_of(machine) if each[3] == text]


def change_entry(machine: Machine, old: str, new: str) -> None:
    path = machine.root / "boot/grub/grub.cfg"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("model", TRENCHBOOT_MACHINES, ids=lambda model: model.name)
def test_the_log_replays_to_what_the_tpm_holds(
    laptop: Make, model: TrenchbootModel
) -> None:
    machine = laptop(model)
    live = booted(machine)
    assert set(live) == {"sha1", "sha256"}
    for bank, values in live.items():
        launched = {pcr: values[pcr] for pcr in DYNAMIC}
        assert replay(records_of(machine), bank, "ext") == launched
        assert set(values[17]) not in ({0}, {0xFF})
        assert not any(values[19])
    log = log_of(machine)
    assert len(log) == 0x8000
    assert booted(machine) == live
    assert log_of(machine) == log


@pytest.mark.parametrize("model", SKINIT, ids=lambda model: model.name)
def test_skinit_measures_skl_then_skl_measures_xen_then_xen_the_rest(
    laptop: Make, model: TrenchbootModel
) -> None:
    machine = laptop(model)
    booted(machine)
    events = [(pcr, kind, text) for pcr, kind, _, text in records_of(machine)]
    xens = [(18, 0x502, b"")] * (2 if model.generation is Generation.V0_5 else 1)
    assert events == [
        (17, 0x502, b"SKINIT"),
        (17, 0x502, b"DLME entry offset"),
        (17, 0x502, b"DLME"),
        *xens,
        (17, 0x502, b"Measured MB2 module"),
        (17, 0x502, b"Measured MB2 module"),
    ]


class TestSkinit:
    def test_measures_what_the_header_of_skl_says(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        skl = (machine.root / "boot/skl.bin").read_bytes()
        (length,) = struct.unpack_from("<H", skl, 2)
        assert measured(machine, b"SKINIT") == [sha256(skl[:length])]

    def test_leaves_out_what_follows_in_the_file(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        first = booted(machine)
        skl = machine.root / "boot/skl.bin"
        skl.write_bytes(skl.read_bytes() + b"not measured")
        assert booted(machine) == first
        skl.write_bytes(make_skl(TRENCHBOOT_SKINIT.skl_header, version=2))
        assert booted(machine)["sha256"][17] != first["sha256"][17]

    def test_the_room_for_the_table_is_measured_by_xen(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        info = struct.pack(
            "<IIQIIQQQHHHH", 5, 56, 0, 10, 56, 0x10000 - 0xE4D4, 0, 0, 0, 0, 0, 0
        )
        assert measured(machine, b"")[1] == sha256(info)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("\tslaunch\n", ""),
            ("\tslaunch\n", "\techo slaunch\n"),
            ("\tslaunch_module\t/skl.bin\n", ""),
            ("slaunch_module\t/skl.bin", "slaunch_module\t/vmlinuz"),
        ],
        ids=["no slaunch", "slaunch in words", "no skl.bin", "no skl.bin in it"],
    )
    def test_does_not_take_place_without_its_parts(
        self, laptop: Make, old: str, new: str
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        change_entry(machine, old, new)
        values = booted(machine)["sha256"]
        assert all(set(values[pcr]) == {0xFF} for pcr in DYNAMIC)
        assert "reserving" not in console_of(machine)
        assert not (machine.root / "dev/mem").exists()

    def test_does_not_take_place_with_the_distributions_own_xen(
        self, laptop: Make
    ) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        (machine.root / "boot/xen.gz").write_bytes(machine.cache.xen_old.read_bytes())
        assert set(booted(machine)["sha256"][17]) == {0xFF}


class TestTheLaunchedXen:
    @pytest.mark.parametrize("generation", [Generation.V0_4_1, Generation.V0_5])
    def test_is_hashed_as_tboots_tool_does_it(
        self, laptop: Make, generation: Generation, tmp_path: Path
    ) -> None:
        machine = laptop(replace(TRENCHBOOT_SKINIT, generation=generation))
        booted(machine)
        elf = tmp_path / "xen"
        elf.write_bytes(gzip.decompress((machine.root / "boot/xen.gz").read_bytes()))
        printed = subprocess.run(
            [machine.cache.lcp2_mlehash, "--create", "--alg", "sha256", elf],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert measured(machine, b"DLME") == [bytes.fromhex(printed)]

    def test_is_filled_up_to_two_mebibytes_before_v0_4_1(self, laptop: Make) -> None:
        machine = laptop(replace(TRENCHBOOT_SKINIT, generation=Generation.V0_4))
        booted(machine)
        elf = gzip.decompress((machine.root / "boot/xen.gz").read_bytes())
        offset, size = (struct.unpack_from("<8I", elf, 52)[each] for each in (1, 4))
        image = elf[offset : offset + size].ljust(4 << 20, b"\0")
        assert measured(machine, b"DLME") == [sha256(image)]

    def test_has_its_header_rewritten_in_v0_3(self, laptop: Make) -> None:
        machine = laptop(replace(TRENCHBOOT_SKINIT, generation=Generation.V0_3))
        booted(machine)
        elf = gzip.decompress((machine.root / "boot/xen.gz").read_bytes())
        offset, size = (struct.unpack_from("<8I", elf, 52)[each] for each in (1, 4))
        image = bytearray(elf[offset : offset + size].ljust(4 << 20, b"\0"))
        header = image.index(bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642"))
        struct.pack_into("<I", image, header + 36, 4 << 20)
        assert measured(machine, b"DLME") == [sha256(bytes(image))]

    def test_is_another_after_an_update(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        before = measured(machine, b"DLME"), measured(machine, b"DLME entry offset")
        if not machine.cache.has_two_xens:
            pytest.skip("the archives offer one Xen only")
        install_launchable(machine.cache.xen_new, machine.root / "boot/xen.gz")
        booted(machine)
        after = measured(machine, b"DLME"), measured(machine, b"DLME entry offset")
        assert all(old != new for old, new in zip(before, after, strict=True))


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


class TestTheLogInMemory:
    def test_is_gone_with_the_power(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        booted(machine, unmeasured=True)
        assert not (machine.root / "dev/mem").exists()
        console = console_of(machine)
        assert console.count("Logfile Opened") == 2
        assert console.count("reserving") == 1

    def test_of_amd_says_where_it_ends(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        log = log_of(machine)
        (size,) = struct.unpack_from("<I", log, 28)
        vendor = log[32 + size - 20 : 32 + size]
        address, allocated, first, end = struct.unpack("<QIII", vendor)
        assert f"({address:#x} - {address + allocated:#x})" in console_of(machine)
        assert (allocated, first) == (0x8000, 0)
        assert not log[end:].strip(b"\0")
        assert log[:end].endswith(b"Measured MB2 module")

    def test_takes_little_of_the_disk(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_SKINIT)
        booted(machine)
        status = (machine.root / "dev/mem").stat()
        assert status.st_size > 0x1000000
        assert status.st_blocks * 512 < 0x20000


def test_the_kernel_gets_its_command_line(laptop: Make) -> None:
    machine = laptop(TRENCHBOOT_SKINIT)
    machine.boot()
    cmdline = (machine.root / "proc/cmdline").read_text(encoding="ascii")
    assert cmdline.startswith("placeholder root=/dev/mapper/")
