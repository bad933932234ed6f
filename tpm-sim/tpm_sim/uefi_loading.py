# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen is started as a UEFI program and loads its own modules, for a dynamic launch.

Sources: xen/common/efi/boot.c (get_argv, efi_start: which word is what, which files are
loaded, in which order), arch/x86/efi/efi-boot.h (efi_arch_handle_cmdline), TrenchBoot's
GRUB loader/efi/chainloader.c (the load options are the command's words).

Xen takes the first word for its own name, so the only word of TrenchBoot's entries
names no section: the default one is read, or the first that has a kernel.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.disk import Disk
from tpm_sim.efi_image import EfiXen
from tpm_sim.errors import SimulationError
from tpm_sim.grub import LoadedEntry
from tpm_sim.memory import PAGE, Memory
from tpm_sim.models import Processor, TrenchbootModel
from tpm_sim.slaunch_log import LOG_SIZE
from tpm_sim.slr import SLB_SIZE
from tpm_sim.xen_config import XenConfig

_WAKE_SIZE = 0x4000
_IMAGE_ALIGN = 2 << 20


@dataclass(frozen=True, slots=True)
class BootModule:
    """A module that Xen loaded: the file, and the string that goes with it."""

    path: Path
    text: bytes
    words: bytes


@dataclass(frozen=True, slots=True)
class StartedXen:
    """Xen as it is when it asks for the launch."""

    measured: bytes
    entry_point: int
    cmdline: bytes
    modules: tuple[BootModule, ...]
    wake_address: int
    log_address: int


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What Xen makes of its load options: its name, a section, options of its own."""

    name: bytes
    section: bytes
    options: bytes

    @classmethod
    def of(cls, entry: LoadedEntry) -> LoadOptions:
        """Split an entry's words; those with a dash or slash are for the loader."""
        words, _, options = entry.kernel.cmdline.partition(b" -- ")
        name, *others = words.split() or [b""]
        named = [each for each in others if not each.startswith((b"-", b"/"))]
        return cls(name, named[-1] if named else b"", options)

    def cmdline(self, configured: bytes, *, has_name: bool) -> bytes:
        """Return Xen's command line; the load options' own come last, and win."""
        name = self.name or b"xen"
        parts = (name if has_name else b"", configured, self.options)
        return b" ".join(part for part in parts if part)


def configuration(disk: Disk, entry: LoadedEntry) -> tuple[Path, XenConfig]:
    """Return the configuration's file, beside xen.efi, and what Xen reads in it."""
    path = disk.resolve(entry.kernel.path).with_suffix(".cfg")
    if not path.is_file():
        raise SimulationError(
            f"Xen cannot find {path.name}: this machine does not boot"
        )
    return path, XenConfig.of(path.read_bytes(), LoadOptions.of(entry).section)


def boot_modules(path: Path, config: XenConfig) -> tuple[BootModule, ...]:
    """Return the modules, whose files lie beside the configuration."""
    found = []
    for named in config.modules:
        file = path.parent / named.name.decode().replace("\\", "/")
        if not file.is_file():
            raise SimulationError(
                f"Xen cannot find {named.name.decode()}: this machine does not boot"
            )
        found.append(BootModule(file, named.text, named.words))
    return tuple(found)


def start_xen(
    model: TrenchbootModel, disk: Disk, entry: LoadedEntry
) -> StartedXen | None:
    """Let Xen load everything; None when it has no MLE header."""
    xen = EfiXen.of(disk.resolve(entry.kernel.path).read_bytes())
    path, config = configuration(disk, entry)
    modules = boot_modules(path, config)
    if xen is None:
        return None
    cmdline = LoadOptions.of(entry).cmdline(
        config.options, has_name=model.generation.has_image_name
    )
    memory = Memory(model.memory)
    log_address = memory.take(LOG_SIZE, PAGE, high=True)
    is_intel = model.processor is Processor.INTEL
    memory.take(SLB_SIZE, SLB_SIZE, high=True)
    wake_address = memory.take(_WAKE_SIZE, PAGE, high=True) if is_intel else 0
    numbers = [memory.take(xen.memory_size, _IMAGE_ALIGN, high=True)]
    for file in (path, *(module.path for module in modules)):
        size = file.stat().st_size
        numbers += [memory.take(size, PAGE, high=True), size]
    numbers += [len(cmdline), *(len(module.text) for module in modules)]
    numbers.append(_map_checksum(model))
    variables = struct.pack(f"<{len(numbers)}Q", *numbers)
    return StartedXen(
        xen.live(variables),
        xen.entry_point,
        cmdline,
        modules,
        wake_address,
        log_address,
    )


def _map_checksum(model: TrenchbootModel) -> int:
    """Stand for the memory map that Xen keeps."""
    text = "".join(f"{each}" for each in model.memory)
    return zlib.crc32(text.encode())
