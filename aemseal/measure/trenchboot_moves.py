# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the next boot moves what TrenchBoot hashes but no file gives.

The multiboot information holds the command lines, where each module lies and how long
it is, Xen's sections and the memory map; addresses follow sizes. Xen's image under UEFI
holds what Xen found and where. The OS to MLE data of Intel TXT hold the addresses of
the resource table and of the block where other processors wait: GRUB gets memory for
these below what it has loaded, under UEFI below Xen's image. None of the three can be
computed, so each is taken to stay as it is only when nothing it is made of has moved.

What the running boot was made of is evidence of different strength: Xen and modules are
in PCR 17 with their bytes, so their sizes are proven; the command lines of a multiboot
boot are not. Those of Xen and dom0 are what the running system says they were, any
other module's what grub.cfg says and what is on record of a boot that measured the
same: a word added by hand in GRUB's menu to these, in the first boot that is looked at,
is not seen.
Source: GRUB loader/multiboot_mbi2.c (grub_multiboot2_make_mbi), loader/multiboot.c,
loader/slaunch/x86_efi.c (what lies below the image); Xen efi/efi-boot.h and arch/x86/
setup.c (cmdline_cook, create_dom0, __start_xen: what becomes of command lines).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from aemseal.measure.beside import whole_files
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import Calibrated, Measurement, Source
from aemseal.measure.launch import FileDigest, RunningSystem
from aemseal.measure.trenchboot_files import NOTE_XEN_CONFIGS
from aemseal.words.wanted import (
    NOTE_SKL_SLRT_SIZE,
    NOTE_XEN_BUILD_ID,
    FileFacts,
)

_XEN_ADDS = (b"noapic", b"acpi=", b"acpi_skip_timer_override")
"""Words that Xen puts behind dom0's command line, of those on its own."""

_ACPI_OFF = b"acpi=off"
"""The only one that Xen adds of itself, where it finds no ACPI."""

_DOM0_OPTIONS = b" -- "
"""Behind it Xen's command line is dom0's, and Xen no longer tells of it."""

_MOST_TOLD = 1022
"""Bytes of dom0's command line that Xen keeps whole: MAX_GUEST_CMDLINE of 1024."""


def moved_under_multiboot(
    calibration: Calibration,
    system: RunningSystem,
    entry: BootEntry,
    files: Sequence[FileDigest],
    beside: Sequence[Source],
) -> tuple[str, ...]:
    """Say what of the multiboot information's inputs is not what it was.

    `files` are the next boot's, `beside` what is loaded with them (measure/beside.py).
    Nothing moved: empty.
    """
    return (
        *_other_loader(calibration, files),
        *_other_xen(calibration, files, beside),
        *_other_sizes(calibration, files),
        *_other_cmdlines(calibration, system, entry),
        *moved_beside(calibration, beside),
    )


def moved_under_efi(
    calibration: Calibration,
    system: RunningSystem,
    xen: FileFacts | None,
    files: Sequence[FileDigest],
    beside: Sequence[Source],
) -> tuple[str, ...]:
    """Say what of the inputs of Xen's image under UEFI is not what it was.

    `xen` is what is known of the next xen.efi, `files` are the next boot's; their
    command lines are measured, and so proven. `beside` is as above.
    """
    return (
        *_other_loader(calibration, files),
        *_other_build(calibration, system, xen, beside),
        *_other_sizes(calibration, files),
        *_other_strings(calibration, files),
        *_other_configs(calibration, files),
        *moved_beside(calibration, beside),
    )


def moved_beside(calibration: Calibration, beside: Sequence[Source]) -> tuple[str, ...]:
    """Name each file of slaunch_module that is longer or shorter, or their number.

    GRUB keeps each of them in memory of its own while it looks for room for what it
    loads next, on AMD a SINIT module, too. Source: GRUB slaunch.c
    (grub_cmd_slaunch_module).
    """
    running = calibration.beside
    if running is None:
        return ("what GRUB loaded besides is not known",)
    before, after = whole_files(running)[1:], whole_files(beside)[1:]
    if len(before) != len(after):
        number = f"{len(after)} files of slaunch_module instead of {len(before)}"
        return (f"the entry has {number}",)
    pairs = zip(before, after, strict=True)
    return tuple(
        _grew(f"{other.path}", one.size, other.size)
        for one, other in pairs
        if one.size != other.size
    )


def moved_with_loader(
    calibration: Calibration, files: Sequence[FileDigest]
) -> tuple[str, ...]:
    """Say that the secure kernel loader is another one."""
    running = [each.digests for each in _running(calibration, Role.SKL)]
    return tuple(
        f"the secure kernel loader ({file.source.path}) is another one"
        for file, digest in files
        if file.role is Role.SKL and all(digest not in e.values() for e in running)
    )


def _running(calibration: Calibration, *roles: Role) -> list[Measurement]:
    return [each for each in calibration.measured if each.role in roles]


def _other_loader(
    calibration: Calibration, files: Sequence[FileDigest]
) -> Iterator[str]:
    """Name the secure kernel loader when it leaves other room; see moved_beside, too.

    Only its header, which is measured, is believed of the running one: the rest of the
    file may have been replaced since.
    """
    running = _running(calibration, Role.SKL)
    following = [file.source for file, _ in files if file.role is Role.SKL]
    for one, other in zip(running, following, strict=False):
        if _slrt_size(one.source) != _slrt_size(other):
            yield f"{other.path} leaves other room for the table"


def _slrt_size(loader: Source) -> str | None:
    return loader.notes.get(NOTE_SKL_SLRT_SIZE)


def _other_xen(
    calibration: Calibration, files: Sequence[FileDigest], beside: Sequence[Source]
) -> Iterator[str]:
    """Name Xen when it is another one: its sections are in the information.

    What is measured of it is not the whole file, which is compared by itself.
    """
    running = _running(calibration, Role.XEN)
    for file, digest in files:
        if file.role is not Role.XEN:
            continue
        if digest not in running[0].digests.values():
            yield f"Xen ({file.source.path}) is another one"
        elif _is_other_file(calibration, beside):
            yield f"{file.source.path} differs in what is not measured of it"


def _is_other_file(calibration: Calibration, beside: Sequence[Source]) -> bool:
    """Whether the next Xen is not the same file; true where that is not known."""
    running, following = whole_files(calibration.beside or ())[:1], whole_files(beside)
    algorithm = calibration.launch.algorithm
    return not running or running[0].file_digests.get(algorithm) != following[
        0
    ].file_digests.get(algorithm)


def _other_sizes(
    calibration: Calibration, files: Sequence[FileDigest]
) -> Iterator[str]:
    """Name each module that is longer or shorter, and another number of them."""
    running = list(calibration.modules)
    following = [
        file for file, _ in files if file.role in calibration.launch.module_roles
    ]
    if len(running) != len(following):
        yield f"the entry loads {len(following)} modules instead of {len(running)}"
    for one, other in zip(running, following, strict=False):
        before, after = one.source.size, other.source.size
        if one.calibrated is Calibrated.NO or before is None or after is None:
            yield f"how long the running {one.role} is, is not known"
        elif before != after:
            yield _grew(f"the {other.role}", before, after)


def _grew(what: str, before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return f"how long {what} was is not known"
    verb = "grew" if after > before else "shrank"
    return f"{what} {verb} by {abs(after - before)} bytes"


def _other_cmdlines(
    calibration: Calibration, system: RunningSystem, entry: BootEntry
) -> Iterator[str]:
    """Name each command line that is not known to be what it was."""
    kernel, *others = entry.modules
    xen, dom0 = system.xen_cmdline, system.dom0_cmdline
    if _DOM0_OPTIONS in entry.kernel.cmdline:
        yield "Xen, whose command line has options of dom0's, does not tell all of it"
    else:
        yield from _cmdline("Xen", xen, entry.kernel.cmdline)
    if dom0 is not None and len(dom0) > _MOST_TOLD:
        dom0 = None
    if dom0 is not None:
        dom0 = _without_xens_words(dom0, kernel.cmdline, xen or b"")
    yield from _cmdline("the kernel", dom0, kernel.cmdline)
    for number, module in enumerate(others, start=1):
        if _strings_of(calibration, number) != {module.cmdline}:
            yield f"the command line of {module.path} may have changed"


def _cmdline(whose: str, running: bytes | None, following: bytes) -> Iterator[str]:
    if running is None:
        yield f"the command line that {whose} runs with is not known"
    elif running != following:
        yield f"the command line of {whose} changed"


def _without_xens_words(running: bytes, expected: bytes, xen: bytes) -> bytes:
    """Drop what Xen put behind dom0's command line, and nothing else.

    `xen` is Xen's own: it hands on some of its words.
    """
    if not running.startswith(expected + b" "):
        return running
    added = running[len(expected) + 1 :].split(b" ")
    own = {_ACPI_OFF, *(w for w in xen.split(b" ") if w.startswith(_XEN_ADDS))}
    return expected if own.issuperset(added) else running


def _strings_of(calibration: Calibration, number: int) -> set[bytes]:
    """Return what was told of a running module's command line.

    By grub.cfg as it is now, and by the record of a boot that measured the same.
    """
    running = calibration.modules[number : number + 1]
    told = [each.source.cmdline or b"" for each in running]
    if calibration.known_as is not None:
        roles = calibration.launch.module_roles
        kept = [e for e in calibration.known_as.measurements if e.role in roles]
        told += [e.source.cmdline or b"" for e in kept[number : number + 1]]
    return set(told)


def _other_build(
    calibration: Calibration,
    system: RunningSystem,
    xen: FileFacts | None,
    beside: Sequence[Source],
) -> Iterator[str]:
    """Say that xen.efi is not, or may not be, the one that runs.

    Its build id tells the program, and not what is put behind it, a signature say.
    """
    build_id = xen.notes.get(NOTE_XEN_BUILD_ID) if xen else None
    if build_id is None or system.xen_build_id is None:
        yield "whether xen.efi is the Xen that runs is not known"
    elif build_id != system.xen_build_id:
        yield "xen.efi is another Xen"
    elif _is_other_file(calibration, beside):
        yield "xen.efi is not the file that it was"


def _other_strings(
    calibration: Calibration, files: Sequence[FileDigest]
) -> Iterator[str]:
    running = _running(calibration, Role.CMDLINE)
    following = [(file, digest) for file, digest in files if file.role is Role.CMDLINE]
    for one, other in zip_longest(running, following):
        if one is None or other is None:
            return
        file, digest = other
        if digest not in one.digests.values():
            shown = (file.source.cmdline or b"").decode("utf-8", "backslashreplace")
            yield f"a command line changed (now {shown!r})"


def _other_configs(
    calibration: Calibration, files: Sequence[FileDigest]
) -> Iterator[str]:
    """Name xen.efi's configuration when it is not as long as it was.

    Whatever its name: Xen keeps the length of the last file it read.
    """
    known_as = calibration.known_as
    kept = known_as.measurements if known_as else calibration.measured
    running = {_config_sizes(each.source) for each in kept if each.role is Role.CMDLINE}
    for file, _ in files:
        sizes = _config_sizes(file.source)
        if file.role is Role.CMDLINE and running - {None, sizes}:
            chained = ", or a file it chains to," if " " in (sizes or "") else ""
            yield f"{file.source.path}{chained} has another length"
            return


def _config_sizes(source: Source) -> str | None:
    """Return the lengths of all files read for a command line; None if unknown."""
    size = None if source.size is None else str(source.size)
    return source.notes.get(NOTE_XEN_CONFIGS, size)
