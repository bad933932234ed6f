# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that TrenchBoot launches.

`trenchboot-skinit` is a laptop with an AMD processor, `trenchboot-txt` one of Intel's;
`-uefi` behind it: Xen is started as a UEFI program. The memory maps are made up, small
below 4 GiB so that a copy of the memory is a small file. Versions: [v0.5] GRUB 2.13 and
Xen 4.17 of TrenchBoot's Anti Evil Maid 0.5, [v0.4] GRUB 2.06 of 0.4.
"""

from __future__ import annotations

from dataclasses import replace

from tpm_sim.models import (
    SHA1,
    SHA256,
    Firmware,
    Generation,
    LogPlace,
    MemoryRange,
    Processor,
    ReservingLine,
    SklHeader,
    TrenchbootModel,
)

_RESERVED = 2
_ACPI = 3
_MEMORY = (
    MemoryRange(0, 0x9FC00),
    MemoryRange(0x9FC00, 0x400, _RESERVED),
    MemoryRange(0xF0000, 0x10000, _RESERVED),
    MemoryRange(0x100000, 0x3FDD7000),
    MemoryRange(0x3FED7000, 0x29000, _ACPI),
    MemoryRange(0x3FF00000, 0x100000, _RESERVED),
    MemoryRange(0xFED00000, 0x100000, _RESERVED),
    MemoryRange(0x100000000, 0x1C0000000),
)

TRENCHBOOT_SKINIT = TrenchbootModel(
    name="trenchboot-skinit",
    banks=(SHA1, SHA256),
    processor=Processor.AMD,
    firmware=Firmware.LEGACY,
    generation=Generation.V0_5,
    memory=_MEMORY,
    loader_name="GRUB 2.13",
)

_SKINIT_MACHINES = (
    TRENCHBOOT_SKINIT,
    replace(
        TRENCHBOOT_SKINIT,
        name="trenchboot-skinit-v0.4",
        generation=Generation.V0_4,
        loader_name="GRUB 2.06",
    ),
    replace(
        TRENCHBOOT_SKINIT,
        name="trenchboot-skinit-v0.4.1",
        generation=Generation.V0_4_1,
        loader_name="GRUB 2.06",
    ),
    replace(
        TRENCHBOOT_SKINIT,
        name="trenchboot-skinit-square",
        reserving_line=ReservingLine.SQUARE,
    ),
    replace(
        TRENCHBOOT_SKINIT,
        name="trenchboot-skinit-specified-header",
        skl_header=SklHeader.SPECIFIED,
    ),
    replace(TRENCHBOOT_SKINIT, name="trenchboot-skinit-file", log_place=LogPlace.FILE),
)

TRENCHBOOT_MACHINES = (*_SKINIT_MACHINES,)
