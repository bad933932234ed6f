# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB loads Xen and its modules by multiboot2, for a dynamic launch.

Sources: grub-core/loader/multiboot.c, multiboot_elfxx.c and multiboot_mbi2.c of
TrenchBoot's GRUB: what is placed, in which order, high or low, and how aligned.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tpm_sim.disk import Disk
from tpm_sim.grub import LoadedEntry
from tpm_sim.memory import PAGE, Memory
from tpm_sim.models import Processor, TrenchbootModel
from tpm_sim.multiboot2 import PlacedModule, PlacedSections, multiboot2_information
from tpm_sim.slaunch_log import LOG_SIZE
from tpm_sim.xen_image import XenImage, is_launchable

_XEN_ALIGN = 2 << 20
_XEN_LEAST = 0x200000
_LOG_LEAST = 0x1000000
_MODULE_LEAST = 0x100000
_WAKE_SIZE = 0x4000
_ADDRESS_FIELD = 12
"""Bytes before the address in an ELF section header."""


@dataclass(frozen=True, slots=True)
class LoadedXen:
    """Xen in memory: what is launched, and what it is told.

    `information` is the multiboot2 information; the addresses are those of it, of the
    place where Intel's other processors wait, and of the log to be.
    """

    measured: bytes
    entry_point: int
    information: bytes
    information_address: int
    wake_address: int
    log_address: int


def load_xen(
    model: TrenchbootModel, disk: Disk, entry: LoadedEntry
) -> LoadedXen | None:
    """Load a multiboot2 entry; None when its kernel has no MLE header."""
    image = XenImage.of(disk.content(entry.kernel))
    if not is_launchable(image):
        return None
    memory = Memory(model.memory)
    load_base = memory.take(len(image.content), _XEN_ALIGN, high=True, least=_XEN_LEAST)
    is_intel = model.processor is Processor.INTEL
    if is_intel:
        _take_page_tables(memory, len(image.content))
    sections = _place_sections(memory, image)
    log_address = memory.take(LOG_SIZE, PAGE, high=True, least=_LOG_LEAST)
    modules = []
    for module in entry.modules:
        size = len(disk.content(module))
        start = memory.take(size, PAGE, least=_MODULE_LEAST)
        modules.append(PlacedModule(start, size, module.cmdline))
    information = multiboot2_information(
        load_base=load_base,
        cmdline=entry.kernel.cmdline,
        loader_name=model.loader_name,
        modules=modules,
        memory=model.memory,
        sections=sections,
    )
    return LoadedXen(
        image.measured(model.generation),
        image.entry_point,
        information,
        memory.take(len(information), 8),
        memory.take(_WAKE_SIZE, PAGE, high=True) if is_intel else 0,
        log_address,
    )


def _take_page_tables(memory: Memory, size: int) -> None:
    """Keep room for the MLE's page tables, in units of 2 MiB."""
    tables = (size // PAGE * 8 // PAGE + 3) * PAGE
    memory.take(tables + -tables % _XEN_ALIGN, _XEN_ALIGN, high=True)


def _place_sections(memory: Memory, image: XenImage) -> PlacedSections:
    """Load the sections that are not part of the image, and note where they are."""
    headers = bytearray(image.sections)
    for section in image.loose_sections():
        address = memory.take(section.size, section.align)
        at = section.number * image.section_size + _ADDRESS_FIELD
        struct.pack_into("<I", headers, at, address)
    return PlacedSections(bytes(headers), image.section_size, image.names_section)
