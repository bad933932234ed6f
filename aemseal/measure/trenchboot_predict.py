# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by TrenchBoot measures, and what of it nobody can know.

Two records are made from more than files. The multiboot information (PCR 18) holds
every command line, every module's address and size, the layout of Xen and the memory
map; Xen's image after it has run as a UEFI program (PCR 17) holds what it found and
where. Each is carried over where everything it is made from stays as it is, and
refused otherwise, saying which input moved. Other firmware or another GRUB changes
them too: that is no file of the boot entry, and is said as a caution.
Source: GRUB loader/multiboot_mbi2.c; Xen efi/efi-boot.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aemseal.measure.amd_table import next_table
from aemseal.measure.boot_entry import BootEntry, Launcher, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Refusal,
)
from aemseal.measure.launch import (
    Facts,
    FileDigest,
    LoggedExtend,
    NextLaunch,
    carried,
    require_digests,
)
from aemseal.measure.trenchboot import TrenchBootLaunch
from aemseal.measure.trenchboot_moves import (
    moved_under_efi,
    moved_under_multiboot,
    moved_with_loader,
)
from aemseal.measure.trenchboot_tables import (
    DATA_PCR,
    LAUNCH_PCR,
    MOST_POLICY_ENTRIES,
    SKINIT,
    Part,
)
from aemseal.words.errors import PredictionError

_TXT_RANDOM_VALUE = 0x4FE
_FIXED_ENTRIES = 3
"""Slots of GRUB's policy that are not modules: see MOST_POLICY_ENTRIES."""


def next_launch(
    launch: TrenchBootLaunch, calibration: Calibration, entry: BootEntry, facts: Facts
) -> NextLaunch:
    """Predict a launch of this entry; raises as predict.predict does.

    PredictionError also where the entry is launched in another way than the running
    boot was: then nothing of this log says what the next one will hold.
    """
    _require_same_way(launch, entry)
    files = require_digests(launch.files(entry, facts), launch.algorithm)
    front = dict(zip(launch.rules.parts_of_files, files, strict=False))
    following = files[len(front) :]
    measurements: list[Measurement] = []
    refusals: list[Refusal] = []
    for part, extend in launch.parts:
        if part in (Part.MODULE, Part.MODULE_STRING):
            continue
        if part in front:
            measurements.append(_of_file(extend.pcr, front[part], calibration))
            continue
        table = _next_table(launch, calibration, part, extend, front)
        if table is not None:
            measurements.append(table)
            continue
        reason = _why_not(launch, calibration, entry, facts, files, part, extend)
        if reason is not None:
            refusals.append(Refusal(extend.pcr, reason, extend.event.number))
        measurements.append(carried(extend, Calibrated.NOW))
    measurements += [
        _of_file(
            DATA_PCR if file[0].role is Role.CMDLINE else LAUNCH_PCR, file, calibration
        )
        for file in following
    ]
    return NextLaunch(
        measurements=tuple(measurements),
        refusals=tuple(refusals),
        modules=tuple(each for each in following if each[0].role is not Role.CMDLINE),
    )


def _require_same_way(launch: TrenchBootLaunch, entry: BootEntry) -> None:
    if (
        entry.launcher is not Launcher.SLAUNCH
        or entry.loader is not launch.rules.loader
    ):
        raise PredictionError(
            f"the entry {entry.title!r} is launched by {entry.launcher.value} and "
            f"{entry.loader.value}, the running boot by {Launcher.SLAUNCH.value} and "
            f"{launch.rules.loader.value}",
            "what another launcher measures is not known before its first boot",
        )
    if not entry.slaunch_modules and launch.rules.stack == SKINIT:
        raise PredictionError(
            f"the entry {entry.title!r} loads no secure kernel loader",
            "AMD's SKINIT needs one: slaunch_module /skl.bin",
        )
    if len(entry.modules) + _FIXED_ENTRIES > MOST_POLICY_ENTRIES:
        raise PredictionError(
            f"the entry {entry.title!r} loads {len(entry.modules)} modules, more than "
            "GRUB has room for in its policy"
        )


def _why_not(
    launch: TrenchBootLaunch,
    calibration: Calibration,
    entry: BootEntry,
    facts: Facts,
    files: Sequence[FileDigest],
    part: Part,
    extend: LoggedExtend,
) -> str | None:
    """Say why an extend that no file makes will not be what it was, None if it will."""
    if extend.event.untrusted_type == _TXT_RANDOM_VALUE:
        number = extend.event.number
        return f"event {number} is a random value, another one in each boot"
    if part is Part.BOOT_INFO:
        moved = moved_under_multiboot(calibration, launch.system, entry, files)
        return _holds(DATA_PCR, "the multiboot information", moved)
    if part is Part.IMAGE:
        xen = facts.get(entry.slaunch_entry_wanted)
        moved = moved_under_efi(calibration, launch.system, xen, files)
        return _holds(LAUNCH_PCR, "Xen as it lies in memory", moved)
    if part is Part.PLATFORM and launch.rules.stack == SKINIT:
        moved = moved_with_loader(calibration, files)
        return _holds(DATA_PCR, "AMD's table", moved)
    return None


def _holds(pcr: int, what: str, moved: Sequence[str]) -> str | None:
    if not moved:
        return None
    return f"PCR {pcr} holds {what}, and {' and '.join(moved)}"


def _next_table(
    launch: TrenchBootLaunch,
    calibration: Calibration,
    part: Part,
    extend: LoggedExtend,
    front: Mapping[Part, FileDigest],
) -> Measurement | None:
    """Predict AMD's table from the next loader; None for what is no such table."""
    if part is not Part.PLATFORM or launch.rules.stack != SKINIT:
        return None
    explained = [each for each in calibration.measured if each.role is Role.PLATFORM]
    loader, _ = front[Part.LOADER]
    return next_table(extend, explained, loader.source)


def _of_file(pcr: int, measured: FileDigest, calibration: Calibration) -> Measurement:
    file, digest = measured
    digests = {digest.algorithm: digest}
    rule = calibration.rule(file.role)
    return Measurement(pcr, digests, file.role, file.source, rule)
