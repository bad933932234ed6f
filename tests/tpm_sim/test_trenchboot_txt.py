# SPDX-License-Identifier: GPL-2.0-or-later
"""TrenchBoot on Intel TXT: which SINIT module is launched, and what is measured."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from tpm_sim.acm import Acm, AcmHeader, Platform, SinitModule
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import Generation, MachineModel, TrenchbootModel
from tpm_sim.slr import ProcessorState, intel_info, os_mle_data
from tpm_sim.trenchboot_machines import TRENCHBOOT_TXT
from trenchboot_logs import booted, change_entry, measured, records_of, sha256

Make = Callable[[MachineModel], Machine]
FILE = "SKL_SINIT_MADE_UP.bin"


def hash_start_data(acm: bytes) -> bytes:
    """Intel's rule: the header's front and what is behind the scratch area, and EDX."""
    header, size = (struct.unpack_from("<I", acm, at)[0] for at in (4, 24))
    (scratch,) = struct.unpack_from("<I", acm, 124)
    return sha256(acm[:128] + acm[(header + scratch) * 4 : size * 4]) + bytes(4)


def data_of(machine: Machine, kind: int) -> list[bytes]:
    return [data for _, each, _, data in records_of(machine) if each == kind]


def test_sinits_events_come_before_xens(laptop: Make) -> None:
    machine = laptop(TRENCHBOOT_TXT)
    booted(machine)
    seventeen = (0x402, 0x40A, 0x40B, 0x40C, 0x412, 0x40E, 0x40F, 0x404, 0x414)
    assert [
        (pcr, kind, data if kind == 0x502 else b"")
        for pcr, kind, _, data in records_of(machine)
        if pcr != 255
    ] == [
        *((17, kind, b"") for kind in seventeen),
        *((18, kind, b"") for kind in (0x410, 0x40B, 0x40F, 0x40C, 0x413, 0x414)),
        *((18, 0x502, b""), (18, 0x502, b""), (18, 0x502, b"Measured TXT OS-MLE data")),
        *((17, 0x502, b"Measured MB2 module"), (17, 0x502, b"Measured MB2 module")),
    ]


class TestTheSinitModule:
    def test_is_hashed_without_key_signature_and_scratch(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT)
        booted(machine)
        acm = (machine.root / "boot" / FILE).read_bytes()
        assert data_of(machine, 0x402) == [hash_start_data(acm)]
        [key] = [each[2] for each in records_of(machine) if each[1] == 0x410]
        modulus = sha256(acm[128:384])
        assert key == {
            "sha1": hashlib.sha1(modulus).digest(),
            "sha256": sha256(modulus),
        }

    def test_of_another_build_changes_pcr_17_alone(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT)
        before = booted(machine)["sha256"]
        acm = replace(dict(TRENCHBOOT_TXT.sinit_files)[FILE], build=9)
        (machine.root / "boot" / FILE).write_bytes(acm.content)
        after = booted(machine)["sha256"]
        assert [pcr for pcr in range(24) if before[pcr] != after[pcr]] == [17]

    def test_signed_with_another_key_changes_pcr_18_alone(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT)
        before = booted(machine)["sha256"]
        acm = replace(dict(TRENCHBOOT_TXT.sinit_files)[FILE], key=9)
        (machine.root / "boot" / FILE).write_bytes(acm.content)
        after = booted(machine)["sha256"]
        assert [pcr for pcr in range(24) if before[pcr] != after[pcr]] == [18]

    def test_for_another_machine_does_not_count(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT)
        before = booted(machine)
        (machine.root / "boot/CFL_SINIT_MADE_UP.bin").write_bytes(b"no module")
        assert booted(machine) == before
        change_entry(machine, f"\tslaunch_module\t/{FILE}\n", "")
        assert set(booted(machine)["sha256"][17]) == {0xFF}

    def test_that_matches_last_is_taken(self, laptop: Make) -> None:
        machine = laptop(TRENCHBOOT_TXT)
        acm = replace(dict(TRENCHBOOT_TXT.sinit_files)[FILE], build=7).content
        (machine.root / "boot/CFL_SINIT_MADE_UP.bin").write_bytes(acm)
        first = booted(machine)
        (machine.root / "boot/CFL_SINIT_MADE_UP.bin").rename(
            machine.root / "boot/ZZ_SINIT.bin"
        )
        line = f"\tslaunch_module\t/{FILE}\n"
        change_entry(machine, "\tslaunch_module\t/CFL_SINIT_MADE_UP.bin\n", "")
        change_entry(machine, line, f"{line}\tslaunch_module\t/ZZ_SINIT.bin\n")
        assert booted(machine) != first
        assert data_of(machine, 0x402) == [hash_start_data(acm)]

    @pytest.mark.parametrize(
        ("name", "is_firmwares"),
        [
            ("trenchboot-txt-firmware-sinit", True),
            ("trenchboot-txt-old-firmware-sinit", False),
        ],
    )
    def test_of_the_firmware_wins_when_it_is_not_older(
        self, laptop: Make, name: str, is_firmwares: bool
    ) -> None:
        model = MACHINES[name]
        assert isinstance(model, TrenchbootModel)
        assert model.firmware_sinit is not None
        machine = laptop(model)
        booted(machine)
        file = (machine.root / "boot" / FILE).read_bytes()
        launched = model.firmware_sinit.content if is_firmwares else file
        assert data_of(machine, 0x402) == [hash_start_data(launched)]

    def test_of_header_3_is_read_too(self) -> None:
        platform = Platform(device=0xB00C, signature=0x906A2)
        acm = Acm(platform, header=AcmHeader.V3_0, capabilities=0x77E)
        module = SinitModule.of(acm.content)
        assert module is not None
        assert len(module.modulus) == 384
        assert module.matches(platform)
        assert not module.matches(Platform(device=0xB00C, signature=0x906A3))
        assert sha256(module.measured) + bytes(4) == hash_start_data(acm.content)


@pytest.mark.parametrize(
    ("module", "mask_fix", "asked"),
    [
        (0x36E, False, 0x226),
        (0x36E, True, 0x326),
        (0x77E, True, 0x736),
        (0x36C, False, 0x225),
        (0x2E, True, 0x226),
    ],
)
def test_capabilities_are_what_grub_asks_of_what_the_module_can(
    laptop: Make, module: int, mask_fix: bool, asked: int
) -> None:
    machine = laptop(replace(TRENCHBOOT_TXT, has_mask_fix=mask_fix))
    acm = replace(dict(TRENCHBOOT_TXT.sinit_files)[FILE], capabilities=module)
    (machine.root / "boot" / FILE).write_bytes(acm.content)
    booted(machine)
    assert data_of(machine, 0x40F) == [asked.to_bytes(4, "little")] * 2


@pytest.mark.parametrize("generation", list(Generation), ids=lambda each: each.value)
def test_xen_measures_the_platform_and_the_heap(
    laptop: Make, generation: Generation
) -> None:
    machine = laptop(replace(TRENCHBOOT_TXT, generation=generation))
    booted(machine)
    is_new = generation in (Generation.V0_5, Generation.V0_5_3)
    info = intel_info(ProcessorState(), generation)
    assert len(info) == (560 if is_new else 540)
    assert struct.unpack_from("<I" if is_new else "<H", info) == (4,)
    assert measured(machine, b"")[1] == sha256(info)
    heap = os_mle_data(generation, information=1, table=2, info=3, wake=4)
    assert len(heap) == (96 if is_new else 88)
    assert measured(machine, b"Measured TXT OS-MLE data") not in ([], [sha256(heap)])
    elsewhere = os_mle_data(generation, information=9, table=2, info=3, wake=4)
    # Until v0.4 it tells where the multiboot2 information is.
    assert (elsewhere == heap) == is_new
