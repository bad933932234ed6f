# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB will load, in order, as the launcher will see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from aemseal.words.wanted import View, Wanted


class Role(Enum):
    """What a measurement is of; the words of the command line's JSON."""

    SINIT = "sinit"
    MLE = "mle"
    POLICY = "policy"
    XEN = "xen"
    KERNEL = "kernel"
    INITRAMFS = "initramfs"
    MODULE = "module"
    LUKS = "luks"
    PLATFORM = "platform"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class BootModule:
    """A file that GRUB loads, and the command line it hands over with it.

    `path` is absolute below the host's root ("/boot/xen-4.17.gz"). `cmdline` is
    as GRUB rebuilds it: file name dropped, arguments joined and quoted, no NUL.
    """

    path: str
    cmdline: bytes
    decompress: bool = True

    @property
    def wanted(self) -> Wanted:
        """The file's bytes as the launcher finds them in memory."""
        return Wanted(self.path, View.GRUB if self.decompress else View.RAW)


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A measured boot: the multiboot kernel (tboot) and its modules, in order.

    `luks_uuids` are the devices whose headers the hook measures into PCR 13, from
    the dom0 kernel's command line (rd.luks.uuid, sorted, without doubles).
    """

    title: str
    kernel: BootModule
    modules: tuple[BootModule, ...]
    luks_uuids: tuple[str, ...] = ()

    @property
    def mle_wanted(self) -> Wanted:
        """The measured launch environment: tboot with its command line inside."""
        return Wanted(self.kernel.path, View.MLE, self.kernel.cmdline)

    @property
    def luks_wanted(self) -> tuple[Wanted, ...]:
        """The LUKS headers, in the order in which the hook extends them."""
        return tuple(luks_wanted(uuid) for uuid in self.luks_uuids)


def luks_wanted(uuid: str) -> Wanted:
    """Return the LUKS header of the device with this UUID."""
    return Wanted(f"/dev/disk/by-uuid/{uuid}", View.LUKS)


def wanted(entry: BootEntry) -> tuple[Wanted, ...]:
    """Return everything to be hashed before a boot of this entry can be predicted."""
    modules = (module.wanted for module in entry.modules)
    return tuple(dict.fromkeys((entry.mle_wanted, *modules, *entry.luks_wanted)))
