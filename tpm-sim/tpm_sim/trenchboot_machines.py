# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that TrenchBoot launches.

`trenchboot-skinit` is a laptop with an AMD processor, `trenchboot-txt` one of Intel's;
with `-uefi` behind the name Xen is started as a UEFI program. Without a version they
have the GRUB and the Xen of TrenchBoot's Anti Evil Maid 0.5. The memory maps are made
up, small below 4 GiB so that a copy of the memory is a small file.

[HP] is an HP EliteDesk 800 G2, i5-6500T, TPM 2.0, Anti Evil Maid 0.3, its log as
TrenchBoot published it; its SINIT module is Intel's, the one here is made up.
"""

from __future__ import annotations

from dataclasses import replace

from aemseal.words.events import (
    TXT_MLE_HASH,
    TXT_OSSINITDATA_CAP_HASH,
    TXT_PCR_MAPPING,
    TXT_SINIT_PUBKEY_HASH,
)
from tpm_sim.acm import Acm, Platform
from tpm_sim.memory import MemoryRange
from tpm_sim.models import (
    SHA1,
    SHA256,
    Firmware,
    Generation,
    LogPlace,
    Processor,
    ReservingLine,
    SinitEvent,
    SklHeader,
    TrenchbootModel,
)
from tpm_sim.sinit_figures import (
    BIOSAC_REG_DATA,
    CPU_SCRTM_STAT,
    LCP_AUTHORITIES_HASH,
    LCP_CONTROL_HASH,
    LCP_DETAILS_HASH,
    NO_PCR,
    NV_INFO,
    NV_INFO_HASH,
    STM_HASH,
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

# BIOS ACM identity, and the numbers that SINIT hashes with it [HP].
_BIOS_ACM = bytes.fromhex("000000002905192006b000000002").ljust(32, b"\0")
_SCRTM = bytes(4)
_LCP_CONTROL = bytes.fromhex("02000000")
_ABSENT = b"\0"

# Order and presence [HP]; of the NV indexes only the length is known there (100 bytes),
# so these are the Dell E5470's.
_SINIT_EVENTS = (
    SinitEvent(NO_PCR, TXT_PCR_MAPPING, bytes.fromhex("01000000")),
    SinitEvent(17, BIOSAC_REG_DATA, _BIOS_ACM),
    SinitEvent(17, CPU_SCRTM_STAT, _SCRTM),
    SinitEvent(17, LCP_CONTROL_HASH, _LCP_CONTROL),
    SinitEvent(17, LCP_DETAILS_HASH, _ABSENT),
    SinitEvent(17, STM_HASH, _ABSENT),
    SinitEvent(17, TXT_OSSINITDATA_CAP_HASH),
    SinitEvent(17, TXT_MLE_HASH),
    SinitEvent(17, NV_INFO_HASH, NV_INFO),
    SinitEvent(18, TXT_SINIT_PUBKEY_HASH),
    SinitEvent(18, CPU_SCRTM_STAT, _SCRTM),
    SinitEvent(18, TXT_OSSINITDATA_CAP_HASH),
    SinitEvent(18, LCP_CONTROL_HASH, _LCP_CONTROL),
    SinitEvent(18, LCP_AUTHORITIES_HASH, _ABSENT),
    SinitEvent(18, NV_INFO_HASH, NV_INFO),
)

# The chipset's number is made up; the processor is the i5-6500T's generation.
_SKYLAKE = Platform(device=0xB003, signature=0x506E3)
_COFFEE_LAKE = Platform(device=0xB006, signature=0x906EA)
_SKYLAKE_SINIT = Acm(_SKYLAKE)
_COFFEE_LAKE_SINIT = Acm(_COFFEE_LAKE, build=2)

TRENCHBOOT_TXT = TrenchbootModel(
    name="trenchboot-txt",
    banks=(SHA1, SHA256),
    processor=Processor.INTEL,
    firmware=Firmware.LEGACY,
    generation=Generation.V0_5,
    memory=_MEMORY,
    loader_name="GRUB 2.13",
    sinit=_SINIT_EVENTS,
    platform=_SKYLAKE,
    # Every *SINIT*.BIN in /boot is listed, in the order of the names.
    sinit_files=(
        ("CFL_SINIT_MADE_UP.bin", _COFFEE_LAKE_SINIT),
        ("SKL_SINIT_MADE_UP.bin", _SKYLAKE_SINIT),
    ),
)

_TXT_MACHINES = (
    TRENCHBOOT_TXT,
    *(
        replace(
            TRENCHBOOT_TXT,
            name=f"trenchboot-txt-{generation.value}",
            generation=generation,
            loader_name="GRUB 2.06",
        )
        for generation in (Generation.V0_3, Generation.V0_4, Generation.V0_4_1)
    ),
    replace(
        TRENCHBOOT_TXT,
        name="trenchboot-txt-firmware-sinit",
        firmware_sinit=replace(_SKYLAKE_SINIT, date=0x20220301, build=3),
    ),
    replace(
        TRENCHBOOT_TXT,
        name="trenchboot-txt-old-firmware-sinit",
        firmware_sinit=replace(_SKYLAKE_SINIT, date=0x20190301, build=4),
    ),
    replace(TRENCHBOOT_TXT, name="trenchboot-txt-mask-fix", has_mask_fix=True),
    replace(TRENCHBOOT_TXT, name="trenchboot-txt-file", log_place=LogPlace.FILE),
)

TRENCHBOOT_SKINIT_UEFI = replace(
    TRENCHBOOT_SKINIT, name="trenchboot-skinit-uefi", firmware=Firmware.UEFI
)
TRENCHBOOT_TXT_UEFI = replace(
    TRENCHBOOT_TXT, name="trenchboot-txt-uefi", firmware=Firmware.UEFI
)

_UEFI_MACHINES = (
    TRENCHBOOT_SKINIT_UEFI,
    TRENCHBOOT_TXT_UEFI,
    *(
        replace(
            model,
            name=f"{model.name}-v0.5.3",
            generation=Generation.V0_5_3,
            reserving_line=ReservingLine.SQUARE,
        )
        for model in (TRENCHBOOT_SKINIT_UEFI, TRENCHBOOT_TXT_UEFI)
    ),
)

TRENCHBOOT_MACHINES = (*_SKINIT_MACHINES, *_TXT_MACHINES, *_UEFI_MACHINES)
