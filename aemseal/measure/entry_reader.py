# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a menu entry of GRUB's as a measured boot, or refuses it by the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
from aemseal.measure.boot_entry import BootEntry, BootModule, Launcher, Loader, Role
from aemseal.words.errors import EvidenceError, GrubError

MOST_LUKS_DEVICES = 16
"""As many headers as the hook measures."""

_ESP = "/efi"
"""Where GRUB's paths on the EFI system partition lie on the file system of /boot.

Qubes OS and Anti Evil Maid mount it there; 19_linux_xen_trenchboot takes xen.efi from
/boot/efi/EFI/qubes and sets $root to that partition for chainloader.
"""

_LUKS_WORD = b"rd.luks.uuid="
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_ROLES = (Role.XEN, Role.KERNEL, Role.INITRAMFS)
"""By position: tboot's modules, or Xen and its own modules."""

_CHAINED_ROLES = {"kernel": Role.KERNEL, "ramdisk": Role.INITRAMFS}
"""By xen.efi's key; what it loads besides is a module."""


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
