# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB will load, in order, as the launcher will see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from aemseal.formats import xen_config
from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import GrubEntry, GrubLoad
from aemseal.formats.grub_loaders import (
    CHAINLOADER,
    MULTIBOOT,
    SLAUNCH,
    SLAUNCH_MODULE,
    TRENCHBOOT,
)
from aemseal.formats.slaunch_mle import VIEWS, MleRule
from aemseal.words.errors import EvidenceError, GrubError
from aemseal.words.wanted import View, Wanted

MOST_LUKS_DEVICES = 16
"""As many headers as the hook measures."""

_ESP = "/efi"
"""Where GRUB's paths on the EFI system partition lie on the file system of /boot.

Qubes OS and Anti Evil Maid mount it there; 19_linux_xen_trenchboot takes xen.efi from
/boot/efi/EFI/qubes and sets $root to that partition for chainloader.
"""

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


_ROLES = (Role.XEN, Role.KERNEL, Role.INITRAMFS)
"""By position: tboot's modules, or Xen and its own modules."""

_CHAINED_ROLES = {"kernel": Role.KERNEL, "ramdisk": Role.INITRAMFS}
"""By xen.efi's key; what it loads besides is a module."""


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


def boot_entry_from(
    entry: GrubEntry,
    resolve: Callable[[str], str],
    read: Callable[[str], bytes | None] | None = None,
) -> BootEntry:
    """Read what a menu entry of GRUB's loads as a measured boot.

    That is tboot by multiboot, or Xen by multiboot2 or chainloader after `slaunch`.
    `resolve` turns a path of GRUB's, on the file system of /boot, into the host's;
    `read` returns the bytes of one, None for no file, and is needed for xen.efi alone.
    Roles are positional: modules of tboot are Xen, dom0's kernel, its initramfs.
    GrubError, naming the line, for another loader, for files that are not on the
    kernel's device, for a xen.efi whose configuration cannot be followed, and for an
    rd.luks.uuid that the hook would not measure.
    """
    if any(load.command in TRENCHBOOT for load in entry.loads):
        return _launched_by_grub(entry, resolve, read)
    _require_multiboot(entry, entry.loads)
    kernel, *modules = _modules(entry.loads, resolve, (Role.MLE, *_ROLES))
    return BootEntry(
        title=entry.path,
        kernel=kernel,
        modules=tuple(modules),
        luks_uuids=_luks_uuids(entry.loads[2:], modules[1:]),
        loader=Loader(entry.loads[0].command),
    )


def _modules(
    loads: Sequence[GrubLoad], resolve: Callable[[str], str], roles: Sequence[Role]
) -> list[BootModule]:
    """Return what multiboot commands load; more than there are roles are modules."""
    rest = [Role.MODULE] * max(len(loads) - len(roles), 0)
    return [
        BootModule(resolve(load.path), join(_arguments(load)), not load.nounzip, role)
        for load, role in zip(loads, (*roles, *rest), strict=False)
    ]


def _arguments(load: GrubLoad) -> list[bytes]:
    return [each.encode("utf-8", "surrogateescape") for each in load.arguments]


def _require_multiboot(entry: GrubEntry, loads: Sequence[GrubLoad]) -> None:
    command = MULTIBOOT.get(loads[0].command) if loads else None
    if command is None:
        raise GrubError(f"the entry {entry.path!r} loads no multiboot kernel")
    for load in loads[1:]:
        if load.command != command:
            raise GrubError(f"{_line(load)}: {load.command!r} after a multiboot kernel")
        _require_device(load, loads[0])


def _require_device(load: GrubLoad, kernel: GrubLoad) -> None:
    if load.device != kernel.device:
        raise GrubError(
            f"{_line(load)}: {load.path} is on {load.device!r}, the "
            f"kernel on {kernel.device!r}",
            "put every file of the entry on one file system",
        )


def _line(load: GrubLoad) -> str:
    return f"grub.cfg line {load.line}"


def _launched_by_grub(
    entry: GrubEntry,
    resolve: Callable[[str], str],
    read: Callable[[str], bytes | None] | None,
) -> BootEntry:
    """Read an entry with `slaunch`; the launch is prepared as the kernel is loaded."""
    first, *others = entry.loads
    if first.command != SLAUNCH:
        raise GrubError(f"{_line(first)}: {first.command!r} before {SLAUNCH!r}")
    for load in entry.loads:
        if load.command == SLAUNCH:
            _require_no_platform(load)
    files = [load for load in others if load.command not in TRENCHBOOT]
    launchers = [load for load in others if load.command == SLAUNCH_MODULE]
    if not files:
        raise GrubError(f"the entry {entry.path!r} launches nothing")
    if files[0].command == CHAINLOADER:
        return _chainloaded(entry, files, launchers, resolve, read)
    if files[0].command != Loader.MULTIBOOT2.value:
        raise GrubError(
            f"{_line(files[0])}: {SLAUNCH!r} does not launch what "
            f"{files[0].command!r} loads"
        )
    _require_multiboot(entry, files)
    for load in launchers:
        _require_device(load, files[0])
    kernel, *modules = _modules(files, resolve, _ROLES)
    if not modules:
        raise GrubError(f"{_line(files[0])}: {files[0].path} is loaded without modules")
    return BootEntry(
        title=entry.path,
        kernel=kernel,
        modules=tuple(modules),
        luks_uuids=_luks_uuids(files[1:], modules),
        launcher=Launcher.SLAUNCH,
        slaunch_modules=tuple(resolve(load.path) for load in launchers),
    )


def _require_no_platform(load: GrubLoad) -> None:
    """Refuse arguments but "txt" and "skinit", which choose nothing any more.

    A processor has only one of the two, and old builds launch by no other. They look
    at the first characters alone. Source: GRUB, loader/i386/slaunch.c of 2019.
    """
    words = load.arguments
    if words and not (len(words) == 1 and words[0].startswith(("txt", "skinit"))):
        raise GrubError(
            f"{_line(load)}: what {SLAUNCH!r} does with {' '.join(words)!r} depends on "
            "the build of GRUB"
        )


def _chainloaded(
    entry: GrubEntry,
    files: Sequence[GrubLoad],
    launchers: Sequence[GrubLoad],
    resolve: Callable[[str], str],
    read: Callable[[str], bytes | None] | None,
) -> BootEntry:
    """Read an entry whose xen.efi loads its modules from the EFI system partition."""
    image = files[0]
    if len(files) > 1:
        raise GrubError(f"{_line(files[1])}: {files[1].command!r} after xen.efi")
    if read is None:
        raise GrubError(f"{_line(image)}: nothing reads {image.path}'s configuration")
    folder, _, name = image.path.rpartition("/")
    options = b" ".join(_arguments(image))
    try:
        boot = xen_config.read_boot(
            name, options, lambda each: read(f"{_ESP}{folder}/{each}")
        )
    except EvidenceError as error:
        raise GrubError(f"{_line(image)}: {error.message}", error.hint) from None
    modules = tuple(
        BootModule(
            resolve(f"{_ESP}{folder}/{file.name}"),
            file.string,
            decompress=False,
            role=_CHAINED_ROLES.get(key, Role.MODULE),
        )
        for key, file in boot.modules.items()
    )
    return BootEntry(
        title=entry.path,
        kernel=BootModule(resolve(_ESP + image.path), boot.options, role=Role.XEN),
        modules=modules,
        luks_uuids=_luks_uuids(files, modules),
        launcher=Launcher.SLAUNCH,
        loader=Loader.CHAINLOADER,
        slaunch_modules=tuple(
            resolve(load.path if load.device != image.device else _ESP + load.path)
            for load in launchers
        ),
        named_cmdline=boot.named_options,
        configs=tuple(resolve(f"{_ESP}{folder}/{each}") for each in boot.configs),
    )


def _luks_uuids(
    loads: Sequence[GrubLoad], modules: Sequence[BootModule]
) -> tuple[str, ...]:
    """Return the UUIDs of rd.luks.uuid= words as the hook finds and sorts them.

    `modules` are dom0's kernel and what follows, `loads` where the first comes from.
    Words end at a space or tab of the first line, one "luks-" in front of the UUID is
    dropped; sort -u. Source: docs/slot-format.md; Anti Evil Maid's unseal script.
    """
    if not modules:
        return ()
    uuids = set()
    for word in re.split(rb"[ \t]", modules[0].cmdline.split(b"\n")[0]):
        if not word.startswith(_LUKS_WORD):
            continue
        uuid = word.removeprefix(_LUKS_WORD).removeprefix(b"luks-")
        if _UUID.fullmatch(uuid) is None:
            shown = word.decode("utf-8", "backslashreplace")
            raise GrubError(
                f"{_line(loads[0])}: {shown!r} names no LUKS device by its UUID"
            )
        uuids.add(uuid.decode("ascii"))
    if len(uuids) > MOST_LUKS_DEVICES:
        raise GrubError(
            f"{_line(loads[0])}: {len(uuids)} LUKS devices, more than the hook measures"
        )
    return tuple(sorted(uuids))
