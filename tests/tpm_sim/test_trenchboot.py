# SPDX-License-Identifier: GPL-2.0-or-later
"""TrenchBoot's launches: the TPM holds what the log says, and what the files are."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tpm_sim.machine import Machine
from tpm_sim.models import (
    Firmware,
    Generation,
    MachineModel,
    Processor,
    TrenchbootModel,
)
from tpm_sim.slr import make_skl
from tpm_sim.trenchboot_machines import TRENCHBOOT_MACHINES, TRENCHBOOT_SKINIT
from tpm_sim.xen_image import install_launchable
from trenchboot_logs import (
    DYNAMIC,
    booted,
    change_entry,
    console_of,
    log_of,
    measured,
    records_of,
    sha256,
)
from written_logs import replay

Make = Callable[[MachineModel], Machine]
LEGACY = [each for each in TRENCHBOOT_MACHINES if each.firmware is Firmware.LEGACY]
SKINIT = [each for each in LEGACY if each.processor is Processor.AMD]


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
