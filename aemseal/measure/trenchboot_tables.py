# SPDX-License-Identifier: GPL-2.0-or-later
"""What a launch by TrenchBoot writes into its log: whose record is of which part.

Texts are covered by no replay. They only say what to hold a digest against; it is the
recomputed digest that proves them (measure/calibrate.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TXT = "trenchboot-txt"
SKINIT = "trenchboot-skinit"

LAUNCH_PCR = 17
DATA_PCR = 18
"""DRTM_CODE_PCR and DRTM_DATA_PCR of Xen's asm/slaunch.h."""

SLAUNCH = 0x502
"""DLE_EVTYPE_SLAUNCH of Xen's asm/slaunch.h; the secure kernel loader's type, too."""

MOST_POLICY_ENTRIES = 16
"""Slots of the policy that GRUB hands to Xen, the multiboot information, the table and
OS-MLE data among them. Source: GRUB include/grub/i386/slaunch.h (v0.5)."""


class Part(Enum):
    """What one record is of."""

    LOADER = "the secure kernel loader"
    ENTRY = "Xen's entry point"
    IMAGE = "Xen as it lies in memory"
    BOOT_INFO = "the multiboot information"
    PLATFORM = "the platform's table"
    OS_MLE = "the OS to MLE data"
    XEN_CMDLINE = "Xen's command line"
    MODULE_STRING = "a module's command line"
    MODULE = "a module"
    FIRMWARE = "the processor's or SINIT's own"


@dataclass(frozen=True, slots=True)
class TextRow:
    """A record's text: the part it is of, and the PCR that part always goes to."""

    text: bytes
    part: Part
    pcr: int
    source: str


TEXTS = (
    TextRow(b"SKINIT", Part.LOADER, 17, "secure-kernel-loader event_log.c"),
    TextRow(b"DLME entry offset", Part.ENTRY, 17, "secure-kernel-loader main.c"),
    TextRow(b"DLME", Part.IMAGE, 17, "secure-kernel-loader main.c"),
    TextRow(b"Measured MB2 module", Part.MODULE, 17, "GRUB multiboot_mbi2.c"),
    TextRow(b"MB module", Part.MODULE, 17, "Xen slaunch.c (EFI)"),
    TextRow(b"Measured MB2 information", Part.BOOT_INFO, 18, "GRUB multiboot_mbi2.c"),
    TextRow(b"Measured TXT OS-MLE data", Part.OS_MLE, 18, "GRUB i386/txt.c"),
    TextRow(b"Xen's command line", Part.XEN_CMDLINE, 18, "Xen slaunch.c (EFI)"),
    TextRow(b"MB module string", Part.MODULE_STRING, 18, "Xen slaunch.c (EFI)"),
)
"""Records that carry a text. Xen's first two, the multiboot information (not under
UEFI) and the platform's table, carry none: they are told by their place."""

EFI_PARTS = frozenset({Part.XEN_CMDLINE, Part.MODULE_STRING})
"""Parts that only a boot by xen.efi has: under multiboot the command lines are in the
multiboot information. Source: Xen slaunch.c and tpm.c (tpm_extend_mbi)."""


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A record of Anti Evil Maid v0.2 (2023), whose types tell the part."""

    type: int
    part: Part
    pcr: int


OLD_TYPES = (
    TypeRow(0x600, Part.BOOT_INFO, 18),
    TypeRow(0x601, Part.MODULE, 17),
    TypeRow(0x602, Part.MODULE, 17),
)
"""Source: TrenchBoot/xen aem_v0.2, DLE_EVTYPE_SLAUNCH_START + n; kernel, initramfs."""


def part_with_text(text: bytes, pcr: int) -> Part | None:
    """Return the part that a record with this text in this PCR is of."""
    for row in TEXTS:
        if row.text == text and row.pcr == pcr:
            return row.part
    return None


def part_of_type(type_: int, pcr: int) -> Part | None:
    """Return the part that a record of v0.2's types is of."""
    for row in OLD_TYPES:
        if row.type == type_ and row.pcr == pcr:
            return row.part
    return None
