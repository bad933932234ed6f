# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB will load, in order, as the launcher will see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import GrubEntry, GrubLoad
from aemseal.formats.grub_loaders import MULTIBOOT
from aemseal.words.errors import GrubError
from aemseal.words.wanted import View, Wanted

MOST_LUKS_DEVICES = 16
"""As many headers as the hook measures."""

_DOM0_KERNEL = 1
"""Among the modules: the first is Xen, the second its dom0's kernel."""

_LUKS_WORD = b"rd.luks.uuid="
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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


def boot_entry_from(entry: GrubEntry, resolve: Callable[[str], str]) -> BootEntry:
    """Read what a menu entry of GRUB's loads as a boot by a multiboot kernel.

    `resolve` turns a path of GRUB's, on the file system of /boot, into the host's.
    The roles are positional: kernel tboot, modules Xen, dom0's kernel, its initramfs.
    GrubError, naming the line, for another loader, for files of more than one
    device, and for an rd.luks.uuid that the hook would not measure.
    """
    loads = entry.loads
    _require_multiboot(entry, loads)
    kernel, *modules = (_module(load, resolve) for load in loads)
    return BootEntry(
        title=entry.path,
        kernel=kernel,
        modules=tuple(modules),
        luks_uuids=_luks_uuids(loads[1:], modules),
    )


def _module(load: GrubLoad, resolve: Callable[[str], str]) -> BootModule:
    cmdline = join([each.encode("utf-8", "surrogateescape") for each in load.arguments])
    return BootModule(resolve(load.path), cmdline, decompress=not load.nounzip)


def _require_multiboot(entry: GrubEntry, loads: Sequence[GrubLoad]) -> None:
    command = MULTIBOOT.get(loads[0].command) if loads else None
    if command is None:
        raise GrubError(f"the entry {entry.path!r} loads no multiboot kernel")
    for load in loads[1:]:
        if load.command != command:
            raise GrubError(
                f"grub.cfg line {load.line}: {load.command!r} after a multiboot kernel"
            )
        if load.device != loads[0].device:
            raise GrubError(
                f"grub.cfg line {load.line}: {load.path} is on {load.device!r}, the "
                f"kernel on {loads[0].device!r}",
                "put every file of the entry on one file system",
            )


def _luks_uuids(
    loads: Sequence[GrubLoad], modules: Sequence[BootModule]
) -> tuple[str, ...]:
    """Return the UUIDs of rd.luks.uuid= words as the hook finds and sorts them.

    Words end at a space or tab of the first line, one "luks-" in front of the UUID is
    dropped; sort -u. Source: docs/slot-format.md; Anti Evil Maid's unseal script.
    """
    if len(modules) <= _DOM0_KERNEL:
        return ()
    line, cmdline = loads[_DOM0_KERNEL].line, modules[_DOM0_KERNEL].cmdline
    uuids = set()
    for word in re.split(rb"[ \t]", cmdline.split(b"\n")[0]):
        if not word.startswith(_LUKS_WORD):
            continue
        uuid = word.removeprefix(_LUKS_WORD).removeprefix(b"luks-")
        if _UUID.fullmatch(uuid) is None:
            shown = word.decode("utf-8", "backslashreplace")
            raise GrubError(
                f"grub.cfg line {line}: {shown!r} names no LUKS device by its UUID"
            )
        uuids.add(uuid.decode("ascii"))
    if len(uuids) > MOST_LUKS_DEVICES:
        raise GrubError(
            f"grub.cfg line {line}: {len(uuids)} LUKS devices, more than the hook "
            "measures"
        )
    return tuple(sorted(uuids))
