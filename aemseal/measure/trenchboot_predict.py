# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by TrenchBoot measures, and what of it nobody can know.

Three records are made from more than files. The multiboot information (PCR 18) holds
every command line, every module's address and size, the layout of Xen and the memory
map; Xen's image after it has run as a UEFI program (PCR 17) holds what it found and
where; the OS to MLE data of Intel TXT (PCR 18) hold addresses. Each is carried over
where everything it is made from stays as it is, and refused otherwise, saying which
input moved (trenchboot_moves.py). Other firmware, another GRUB, another disk order or
video mode change them too: that is no file of the boot entry, and is said as a caution
where something changes.
Source: GRUB loader/multiboot_mbi2.c and i386/txt.c; Xen efi/efi-boot.h.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from aemseal.measure.amd_table import next_table
from aemseal.measure.beside import files_beside
from aemseal.measure.boot_entry import BootEntry, Launcher, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    ANOTHER_LAUNCHER,
    Calibrated,
    Measurement,
    Refusal,
    Source,
)
from aemseal.measure.launch import (
    Facts,
    FileDigest,
    LoggedExtend,
    NextLaunch,
    carried,
    require_digests,
)
from aemseal.measure.sinit import MleChange, is_tpm2
from aemseal.measure.sinit_capabilities import GrubRule
from aemseal.measure.sinit_part import (
    SinitPart,
    how_explained,
    logged_of,
    predict_sinit,
)
from aemseal.measure.trenchboot import TrenchBootLaunch
from aemseal.measure.trenchboot_moves import (
    moved_beside,
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
    following = _Following(launch, calibration, entry, facts, files)
    front, modules = following.front, files[len(following.front) :]
    sinit = following.sinit()
    measurements: list[Measurement] = []
    refusals: list[Refusal] = []
    for part, extend in launch.parts:
        if part in (Part.MODULE, Part.MODULE_STRING):
            continue
        if part in front:
            measurements.append(_of_file(extend.pcr, front[part], calibration))
            continue
        if part is Part.FIRMWARE:
            measurements.append(sinit.measurements[extend.event.number])
            continue
        table = _next_table(launch, calibration, part, extend, front)
        if table is not None:
            measurements.append(table)
            continue
        reason = following.why_not(part)
        if reason is not None:
            refusals.append(Refusal(extend.pcr, reason, extend.event.number))
        measurements.append(carried(extend, Calibrated.NOW))
    measurements += [
        _of_file(
            DATA_PCR if file[0].role is Role.CMDLINE else LAUNCH_PCR, file, calibration
        )
        for file in modules
    ]
    refusals += following.doubts()
    return NextLaunch(
        measurements=tuple(measurements),
        refusals=(*sinit.refusals, *refusals),
        modules=tuple(each for each in modules if each[0].role is not Role.CMDLINE),
        cautions=(
            *sinit.cautions,
            *_cautions(launch, measurements, (*sinit.refusals, *refusals)),
        ),
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
            ANOTHER_LAUNCHER,
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


@dataclass(frozen=True, slots=True)
class _Following:
    """The next boot, held against the running one."""

    launch: TrenchBootLaunch
    calibration: Calibration
    entry: BootEntry
    facts: Facts
    files: Sequence[FileDigest]

    @property
    def front(self) -> Mapping[Part, FileDigest]:
        """The parts in front of the modules that files give."""
        order = self.launch.rules.parts_of_files
        return dict(zip(order, self.files, strict=False))

    @property
    def beside(self) -> tuple[Source, ...]:
        """The files that decide without being measured."""
        return files_beside(self.entry, self.facts)

    def sinit(self) -> SinitPart:
        """Predict SINIT's events; nothing where AMD's SKINIT launches."""
        extends = self.launch.all_of(Part.FIRMWARE)
        [running] = self.launch.all_of(Part.IMAGE)
        following = self.front.get(Part.IMAGE)
        return predict_sinit(
            extends,
            before=self.calibration.beside,
            is_before_kept=self.calibration.is_beside_kept,
            after=self.beside,
            mle=MleChange(
                running.digest, running.digest if following is None else following[1]
            ),
            rule=GrubRule(is_tpm2(logged_of(extends))),
            calibrated=how_explained(self.calibration.measured),
        )

    def why_not(self, part: Part) -> str | None:
        """Say why a part that no file makes will not be what it was, None if it will.

        Intel's table is the processor's and the firmware's, and stays.
        """
        stack, is_efi = self.launch.rules.stack, self.launch.rules.is_efi
        if part is Part.BOOT_INFO:
            return _holds(DATA_PCR, "the multiboot information", self._in_multiboot())
        if part is Part.IMAGE:
            return _holds(LAUNCH_PCR, "Xen as it lies in memory", self._in_efi())
        if part is Part.OS_MLE:
            moved = (
                self._in_efi()
                if is_efi
                else moved_beside(self.calibration, self.beside)
            )
            return _holds(DATA_PCR, "the OS to MLE data", moved)
        if part is Part.PLATFORM and stack == SKINIT:
            moved = moved_with_loader(self.calibration, self.files)
            return _holds(DATA_PCR, "AMD's table", moved)
        return None

    def doubts(self) -> list[Refusal]:
        """Refuse what a reading that explains as much would have measured otherwise."""
        return [
            Refusal(
                LAUNCH_PCR if ours.role is Role.XEN else DATA_PCR,
                f"which generation's rule for {ours.role} ({ours.source.path}) holds "
                "here is not told by the running boot",
            )
            for rival in self.calibration.rivals
            for (ours, digest), theirs in zip(
                self.files, rival.files(self.entry, self.facts), strict=False
            )
            if digest != theirs.digest
        ]

    def _in_multiboot(self) -> tuple[str, ...]:
        return moved_under_multiboot(
            self.calibration, self.launch.system, self.entry, self.files, self.beside
        )

    def _in_efi(self) -> tuple[str, ...]:
        xen = self.facts.get(self.entry.slaunch_entry_wanted)
        return moved_under_efi(
            self.calibration, self.launch.system, xen, self.files, self.beside
        )


def _cautions(
    launch: TrenchBootLaunch,
    following: Sequence[Measurement],
    refusals: Collection[Refusal],
) -> tuple[str, ...]:
    """Say what no file tells, where anything else than the running boot comes.

    Nothing of a PCR that is refused: that boot is blind anyway.
    """
    algorithm = launch.algorithm
    if [each.digests[algorithm] for each in following] == [
        each.digest for each in launch.extends
    ]:
        return ()
    parts = {Part.BOOT_INFO, Part.OS_MLE}
    if launch.rules.is_efi:
        parts.add(Part.IMAGE)
    held = {extend.pcr for part, extend in launch.parts if part in parts}
    pcrs = sorted(held - {each.pcr for each in refusals})
    if not pcrs:
        return ()
    caution = (
        "the next boot will be blind if GRUB, the firmware, the order of disks or the "
        f"video mode changes: PCR {' and '.join(map(str, pcrs))} holds addresses that "
        "they choose"
    )
    return (caution,)


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
