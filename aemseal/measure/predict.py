# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next boot will measure: the verified log with the files' part put anew.

What is launched and the modules are those of the next entry's files, and the LUKS
headers those of now; SINIT's events are repeated, but for those that its file or the
launcher's gives. Where an event depends on what has changed in a way that files do not
tell, its PCR is refused. The rules are the stacks': tboot_predict, trenchboot_predict.
"""

from __future__ import annotations

from collections.abc import Sequence

from aemseal.measure import tboot_predict, trenchboot_predict
from aemseal.measure.beside import files_beside
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Prediction,
    Source,
    SourceKind,
)
from aemseal.measure.launch import Facts, FileDigest, NextLaunch
from aemseal.measure.luks import LUKS_PCR
from aemseal.measure.tboot import TbootLaunch
from aemseal.measure.trenchboot import TrenchBootLaunch
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import View

_QUOTING = b"\\'\""


def predict(
    calibration: Calibration,
    entry: BootEntry,
    facts: Facts,
    *,
    hook_measures_luks: bool,
) -> Prediction:
    """Predict the boot of an entry from the facts of its files (boot_entry.wanted).

    PCR 13 is predicted where a hook measures the LUKS headers into it. A PCR that
    cannot be known is refused, with the reason and the event. Raises BootFileError
    for a file without facts in the bank, PredictionError for an entry that the
    launcher would not measure as a boot.
    """
    launch = calibration.launch
    following = _next_launch(calibration, entry, facts)
    headers = _luks(calibration, entry, facts) if hook_measures_luks else []
    return Prediction(
        stack=launch.stack,
        map=launch.map,
        entry=entry.title,
        measurements=(*following.measurements, *headers),
        refusals=following.refusals,
        cautions=(*_cautions(calibration, following.modules), *following.cautions),
        beside=files_beside(entry, facts),
    )


def _next_launch(
    calibration: Calibration, entry: BootEntry, facts: Facts
) -> NextLaunch:
    """Ask the stack whose rules the running boot's log is read by."""
    launch = calibration.launch
    if isinstance(launch, TbootLaunch):
        return tboot_predict.next_launch(launch, calibration, entry, facts)
    if isinstance(launch, TrenchBootLaunch):
        return trenchboot_predict.next_launch(launch, calibration, entry, facts)
    raise TypeError(f"no rules for the next launch by {launch.stack}")


def _luks(
    calibration: Calibration, entry: BootEntry, facts: Facts
) -> list[Measurement]:
    algorithm = calibration.launch.algorithm
    measurements = []
    for wanted in entry.luks_wanted:
        digests = facts[wanted].digests if wanted in facts else {}
        if algorithm not in digests:
            raise BootFileError(f"{wanted.path} has no {algorithm} digest")
        source = Source(
            SourceKind.FILE, path=wanted.path, file_digests=digests, view=wanted.view
        )
        extended = {algorithm: digests[algorithm]}
        rule = calibration.rule(Role.LUKS)
        measurements.append(Measurement(LUKS_PCR, extended, Role.LUKS, source, rule))
    return measurements


def _cautions(calibration: Calibration, modules: Sequence[FileDigest]) -> list[str]:
    """Name what of GRUB's the running boot did not use: see calibrate.

    A packing is one: GRUB unpacks what it has a module loaded for (gzio, xzio).
    """
    seen = [
        each.source
        for each in calibration.modules
        if each.calibrated is not Calibrated.NO
    ]
    raw_seen = any(source.view is View.RAW for source in seen)
    quoting_seen = any(_quotes(source) for source in seen)
    packings_seen = {None, *(source.packing for source in seen)}
    cautions = []
    for file, _ in modules:
        where = f"{file.source.path} ({file.role})"
        if file.source.view is View.RAW and not raw_seen:
            cautions.append(f"{where} is the first to be loaded with --nounzip")
        if file.source.packing not in packings_seen:
            cautions.append(f"{where} is the first packed with {file.source.packing}")
        if _quotes(file.source) and not quoting_seen:
            cautions.append(f"{where} is the first with quotes in its command line")
    return cautions


def _quotes(source: Source) -> bool:
    return any(character in _QUOTING for character in source.cmdline or b"")
