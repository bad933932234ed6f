# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB will load, in order, as the launcher will see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.grub_loaders import CHAINLOADER
from aemseal.formats.slaunch_mle import VIEWS, MleRule
from aemseal.words.wanted import View, Wanted


class Role(Enum):
    """What a measurement is of; the words of the command line's JSON."""

    SINIT = "sinit"
    SKL = "skl"
    MLE = "mle"
    POLICY = "policy"
    XEN = "xen"
    KERNEL = "kernel"
    INITRAMFS = "initramfs"
    MODULE = "module"
    CMDLINE = "cmdline"
    BOOT_INFO = "boot-info"
    LUKS = "luks"
    PLATFORM = "platform"

    def __str__(self) -> str:
        return self.value


class Launcher(Enum):
    """Who performs the dynamic launch."""

    TBOOT = "tboot"
    """tboot, the multiboot kernel: on Intel TXT."""

    SLAUNCH = "slaunch"
    """GRUB itself, of TrenchBoot: on Intel TXT or on AMD SKINIT, as the CPU is."""


class Loader(Enum):
    """The command by which GRUB loads the kernel."""

    MULTIBOOT = "multiboot"
    MULTIBOOT2 = "multiboot2"
    CHAINLOADER = CHAINLOADER


@dataclass(frozen=True, slots=True)
class BootModule:
    """A file that is loaded, and the command line that goes with it.

    `path` is absolute below the host's root ("/boot/xen-4.17.gz"). `cmdline` is, from
    GRUB, as it rebuilds it: file name dropped, arguments joined and quoted, no NUL;
    of a module that xen.efi loads it is the string that Xen hashes, name and options.
    """

    path: str
    cmdline: bytes
    decompress: bool = True
    role: Role = Role.MODULE

    @property
    def wanted(self) -> Wanted:
        """The file's bytes as the launcher finds them in memory."""
        return Wanted(self.path, View.GRUB if self.decompress else View.RAW)


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A measured boot: what the launcher starts, and its modules, in order.

    `kernel` is tboot, or Xen where GRUB launches. With Loader.CHAINLOADER it is
    xen.efi, which loads `modules` itself: `kernel.cmdline` is Xen's from 4.21 on,
    `named_cmdline` that of 4.17, and `configs` are the files that said so.
    `slaunch_modules` are SINIT modules and Secure Kernel Loaders, of which GRUB keeps
    the last that fits the processor. `luks_uuids` are the devices whose headers the
    hook measures into PCR 13, from the dom0 kernel's command line (rd.luks.uuid,
    sorted, without doubles).
    """

    title: str
    kernel: BootModule
    modules: tuple[BootModule, ...]
    luks_uuids: tuple[str, ...] = ()
    launcher: Launcher = Launcher.TBOOT
    loader: Loader = Loader.MULTIBOOT2
    slaunch_modules: tuple[str, ...] = ()
    named_cmdline: bytes | None = None
    configs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        chained = self.loader is Loader.CHAINLOADER
        if self.launcher is Launcher.TBOOT and (chained or self.slaunch_modules):
            raise ValueError("tboot is loaded by multiboot and takes no slaunch_module")
        if self.launcher is Launcher.SLAUNCH and self.loader is Loader.MULTIBOOT:
            raise ValueError("GRUB launches what multiboot2 or chainloader loaded")
        if chained != (self.named_cmdline is not None) or chained != bool(self.configs):
            raise ValueError("xen.efi has a configuration, and no other kernel has one")

    @property
    def mle_wanted(self) -> Wanted:
        """The measured launch environment: tboot with its command line inside."""
        return Wanted(self.kernel.path, View.MLE, self.kernel.cmdline)

    @property
    def luks_wanted(self) -> tuple[Wanted, ...]:
        """The LUKS headers, in the order in which the hook extends them."""
        return tuple(luks_wanted(uuid) for uuid in self.luks_uuids)

    def slaunch_mle_wanted(self, rule: MleRule) -> Wanted:
        """Xen's measured launch environment by one rule: of multiboot2's Xen alone."""
        return Wanted(self.kernel.path, VIEWS[rule])

    @property
    def slaunch_entry_wanted(self) -> Wanted:
        """The entry point of Xen, where GRUB launches it."""
        return Wanted(self.kernel.path, View.SLAUNCH_ENTRY)

    @property
    def slaunch_modules_wanted(self) -> tuple[Wanted, ...]:
        """Each file of slaunch_module, as a SINIT module and as a loader for SKINIT."""
        views = (View.ACM, View.SKL)
        return tuple(Wanted(path, v) for path in self.slaunch_modules for v in views)

    @property
    def launched_wanted(self) -> tuple[Wanted, ...]:
        """All that is hashed of what is launched, and of what launches it."""
        if self.launcher is Launcher.TBOOT:
            return (self.mle_wanted,)
        rules = () if self.loader is Loader.CHAINLOADER else tuple(MleRule)
        return (
            *map(self.slaunch_mle_wanted, rules),
            self.slaunch_entry_wanted,
            *self.slaunch_modules_wanted,
            *(Wanted(path, View.RAW) for path in self.configs),
            *self.whole_wanted,
        )

    @property
    def sinit_wanted(self) -> tuple[Wanted, ...]:
        """The files that may be SINIT modules for the launcher, in GRUB's order.

        tboot looks behind the first module. A kernel or an initramfs that GRUB leaves
        packed is not unpacked to find out.
        """
        paths: Iterable[str] = self.slaunch_modules
        if self.launcher is Launcher.TBOOT:
            paths = (
                module.path
                for module in self.modules[1:]
                if module.decompress or module.role is Role.MODULE
            )
        return tuple(Wanted(path, View.ACM) for path in paths)

    @property
    def whole_wanted(self) -> tuple[Wanted, ...]:
        """Files whose length decides where TrenchBoot's GRUB puts things.

        They are Xen, measured in part at most, then each file of slaunch_module; none
        where tboot launches, which measures no address.
        """
        if self.launcher is Launcher.TBOOT:
            return ()
        paths = (self.kernel.path, *self.slaunch_modules)
        return tuple(Wanted(path, View.GRUB) for path in paths)

    def of_role(self, role: Role) -> BootModule | None:
        """Return the first file of this role, the kernel or a module; None for none."""
        files = (self.kernel, *self.modules)
        return next((each for each in files if each.role is role), None)


def luks_wanted(uuid: str) -> Wanted:
    """Return the LUKS header of the device with this UUID."""
    return Wanted(f"/dev/disk/by-uuid/{uuid}", View.LUKS)


def wanted(entry: BootEntry) -> tuple[Wanted, ...]:
    """Return everything to be hashed before a boot of this entry can be predicted."""
    modules = (module.wanted for module in entry.modules)
    everything = (
        *entry.launched_wanted,
        *modules,
        *entry.sinit_wanted,
        *entry.luks_wanted,
    )
    return tuple(dict.fromkeys(everything))
