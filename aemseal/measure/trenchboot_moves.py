# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the next boot moves what TrenchBoot hashes but no file gives.

The multiboot information holds the command lines, where each module lies and how long
it is, Xen's sections and the memory map; addresses follow sizes. Xen's image under UEFI
holds what Xen found and where. Neither can be computed, so both are taken to stay as
they are only when nothing they are made of has moved.

What the running boot was made of is evidence of different strength: Xen and modules are
in PCR 17 with their bytes, so their sizes are proven; the command lines of a multiboot
boot are not, and are what the running system says they were.
Source: GRUB loader/multiboot_mbi2.c (grub_multiboot2_make_mbi); Xen efi/efi-boot.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import Calibrated, Measurement, Source
from aemseal.measure.launch import FileDigest, RunningSystem
from aemseal.words.wanted import NOTE_XEN_BUILD_ID, FileFacts

_XEN_ADDS = (b"noapic", b"acpi=", b"acpi_skip_timer_override")
"""Words that Xen puts behind dom0's command line by itself (xen/arch/x86/setup.c)."""


def moved_under_multiboot(
    calibration: Calibration,
    system: RunningSystem,
    entry: BootEntry,
    files: Sequence[FileDigest],
) -> tuple[str, ...]:
    """Say what of the multiboot information's inputs is not what it was.

    `files` are the next boot's. Nothing moved: empty.
    """
    return (
        *_other_files(calibration, files, {Role.SKL}, "another length"),
        *_other_xen(calibration, files),
        *_other_sizes(calibration, files),
        *_other_cmdlines(calibration, system, entry),
    )


def moved_under_efi(
    calibration: Calibration,
    system: RunningSystem,
    xen: FileFacts | None,
    files: Sequence[FileDigest],
) -> tuple[str, ...]:
    """Say what of the inputs of Xen's image under UEFI is not what it was.

    `xen` is what is known of the next xen.efi, `files` are the next boot's; their
    command lines are measured, and so proven.
    """
    return (
        *_other_build(system, xen),
        *_other_sizes(calibration, files),
        *_other_strings(calibration, files),
        *_other_configs(calibration, files),
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


def _other_files(
    calibration: Calibration, files: Sequence[FileDigest], roles: set[Role], what: str
) -> Iterator[str]:
    """Name files of these roles whose measured length differs from the running one."""
    running = _running(calibration, *roles)
    following = [file.source for file, _ in files if file.role in roles]
    for one, other in zip(running, following, strict=False):
        if one.source.size is None or one.source.size != other.size:
            yield f"{other.path} has {what}"


def _other_xen(calibration: Calibration, files: Sequence[FileDigest]) -> Iterator[str]:
    """Name Xen when it is another one: its sections are in the information."""
    running = _running(calibration, Role.XEN)
    for file, digest in files:
        if file.role is Role.XEN and digest not in running[0].digests.values():
            yield f"Xen ({file.source.path}) is another one"


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
            verb = "grew" if after > before else "shrank"
            yield f"the {other.role} {verb} by {abs(after - before)} bytes"


def _other_cmdlines(
    calibration: Calibration, system: RunningSystem, entry: BootEntry
) -> Iterator[str]:
    """Name each command line that is not known to be what it was."""
    yield from _cmdline("Xen", system.xen_cmdline, entry.kernel.cmdline)
    kernel, *others = entry.modules
    dom0 = system.dom0_cmdline
    if dom0 is not None:
        dom0 = _without_xens_words(dom0, kernel.cmdline)
    yield from _cmdline("the kernel", dom0, kernel.cmdline)
    for number, module in enumerate(others, start=1):
        known = _strings_of(calibration, number)
        if known != {module.cmdline}:
            yield f"the command line of {module.path} may have changed"


def _cmdline(whose: str, running: bytes | None, following: bytes) -> Iterator[str]:
    if running is None:
        yield f"the command line that {whose} runs with is not known"
    elif running != following:
        yield f"the command line of {whose} changed"


def _without_xens_words(running: bytes, expected: bytes) -> bytes:
    """Drop what Xen put behind a command line, and nothing else."""
    if not running.startswith(expected + b" "):
        return running
    words = running[len(expected) + 1 :].split(b" ")
    own = all(word.startswith(_XEN_ADDS) for word in words)
    return expected if own else running


def _strings_of(calibration: Calibration, number: int) -> set[bytes]:
    """Return what was told of a running module's command line.

    By grub.cfg as it is now, and by what was kept of the same file.
    """
    running = calibration.modules[number : number + 1]
    told = [each.source.cmdline for each in running]
    for kept in calibration.kept:
        same = any(
            kept.role is each.role and kept.digests == each.digests for each in running
        )
        if same:
            told.append(kept.source.cmdline)
    return {each or b"" for each in told}


def _other_build(system: RunningSystem, xen: FileFacts | None) -> Iterator[str]:
    """Say that xen.efi is not, or may not be, the one that runs."""
    build_id = xen.notes.get(NOTE_XEN_BUILD_ID) if xen else None
    if build_id is None or system.xen_build_id is None:
        yield "whether xen.efi is the Xen that runs is not known"
    elif build_id != system.xen_build_id:
        yield "xen.efi is another Xen"


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
    """Name xen.efi's configuration when it is not as long as it was."""
    kept = (*_running(calibration, Role.CMDLINE), *calibration.kept)
    for file, _ in files:
        source = file.source
        if file.role is Role.CMDLINE and any(
            _same_config(each.source, source) for each in kept
        ):
            yield f"{source.path} has another length"
            return


def _same_config(one: Source, other: Source) -> bool:
    return one.path == other.path and one.size != other.size
