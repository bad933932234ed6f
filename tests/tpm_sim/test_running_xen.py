# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id that the simulated dom0 is told of the Xen that runs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tpm_sim.build_id import build_id_of
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.models import MachineModel
from tpm_sim.tboot_machines import TBOOT_DA
from tpm_sim.trenchboot_machines import TRENCHBOOT_SKINIT, TRENCHBOOT_SKINIT_UEFI
from tpm_sim.unpacked import unpacked

Make = Callable[[MachineModel], Machine]
GUID = bytes(range(16))
needs_binutils = pytest.mark.skipif(
    shutil.which("readelf") is None, reason="no readelf here"
)


def told(machine: Machine) -> str | None:
    path = machine.root / "sys/hypervisor/buildid"
    return path.read_text(encoding="ascii") if path.exists() else None


@needs_binutils
def test_of_an_elf_image_is_what_readelf_finds(cache: Cache, tmp_path: Path) -> None:
    xen = unpacked(cache.xen_old.read_bytes())
    file = tmp_path / "xen"
    file.write_bytes(xen)
    run = subprocess.run(
        ["readelf", "-n", file], check=True, capture_output=True, text=True
    )
    found = build_id_of(xen)
    assert found is not None
    assert f"Build ID: {found}" in run.stdout


def test_of_a_pe_image_is_the_guid_of_its_section() -> None:
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHH12xHH", b"PE\0\0", 0x8664, 1, 0, 0)
    section = struct.pack("<8sIIII16x", b".buildid", 64, 0x1000, 64, 0x100)
    image = (header + coff + section).ljust(0x100, b"\0")
    assert build_id_of(image + b"head" + b"RSDS" + GUID + b"age.") == GUID.hex()
    assert build_id_of(image + b"RSDX" + GUID) is None
    assert build_id_of(b"\x7fELF and no note") is None


def test_is_told_after_a_launch_by_grub_alone(laptop: Make) -> None:
    legacy, efi, tboots = map(
        laptop, (TRENCHBOOT_SKINIT, TRENCHBOOT_SKINIT_UEFI, TBOOT_DA)
    )
    for machine in (legacy, efi, tboots):
        machine.boot()
    xen = unpacked((legacy.root / "boot/xen.gz").read_bytes())
    assert told(legacy) == f"{build_id_of(xen)}\n"
    assert len((told(efi) or "").strip()) == 32
    assert told(tboots) is None
    legacy.power_off()
    legacy.boot(unmeasured=True)
    assert told(legacy) is None
