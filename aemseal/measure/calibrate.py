# SPDX-License-Identifier: GPL-2.0-or-later
"""Calibration: whether our rules give what this machine measured just now.

Every extend of the running boot is explained: by a file (recomputed from the files of
an entry that may have booted, or, where an update has overwritten them, from what the
baseline kept of them), by a constant of the launcher's, or as carried (SINIT's own).

What "calibrated" says of a predicted measurement: the same formula, bank and PCR map
gave, on this machine, what the verified log holds for the same role (for a module
beyond the initramfs and for a role the running boot lacks: for any module). "now": from
files that are there; "baseline": from path, command line and file digests kept on the
encrypted root, to which the formula is applied afresh: a digest is never believed just
because it was kept.

What it does not say: that GRUB treats as we do what the running entry does not use
(--nounzip, quoting, another packing). Those rules are GRUB's, the same on every
machine, and tested against GRUB itself; each first use is a caution of the prediction.
Were one wrong, we would predict a digest that no boot gives: the secret stays in, the
boot of before stays accepted, and nobody else's boot fits, since a digest names its
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aemseal.measure.baseline import Baseline
from aemseal.measure.beside import files_beside, sinit_facts
from aemseal.measure.boot_entry import BootEntry, Role, luks_wanted
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.measure.launch import (
    UNTOLD,
    Facts,
    Launch,
    LoggedExtend,
    MeasuredFile,
    RunningSystem,
    carried,
    from_source,
)
from aemseal.measure.luks import LUKS_PCR, LuksExtends
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.sinit_part import explain_sinit
from aemseal.measure.stack import identify
from aemseal.words.digest import DYNAMIC_PCRS, Digest, HashAlgorithm
from aemseal.words.errors import BootFileError


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may have booted, with the facts of its files as they are now.

    A file that is gone is absent from the facts.
    """

    entry: BootEntry
    facts: Facts


@dataclass(frozen=True, slots=True)
class Calibration:
    """The running boot, explained.

    `entry` is the candidate whose files, as they are now, give every measurement of
    the log, or None. `measured` is every extend in order, the LUKS headers last, each
    with its source and whether that was calibrated. `rivals` are other readings of the
    log that explain as much.

    `known_as` is the earlier boot that measured the very same, None where none is
    known. `beside` are the files that decided without being measured: as that boot
    has them on record, else as they are now, which a file replaced since the boot
    would falsify: `is_beside_kept` tells the two apart. None where neither is known.
    """

    launch: Launch
    entry: BootEntry | None
    measured: tuple[Measurement, ...]
    rivals: tuple[Launch, ...] = ()
    known_as: Baseline | None = None
    beside: tuple[Source, ...] | None = None
    is_beside_kept: bool = False

    @property
    def is_calibrated(self) -> bool:
        """Every measurement of the running boot is explained."""
        return all(each.calibrated is not Calibrated.NO for each in self.measured)

    @property
    def modules(self) -> tuple[Measurement, ...]:
        """What was measured of the running boot's modules."""
        roles = self.launch.module_roles
        return tuple(each for each in self.measured if each.role in roles)

    def rule(self, role: Role) -> Calibrated:
        """Say whether the rule for a role was seen to hold in the running boot."""
        same = [each for each in self.measured if each.role is role]
        if role in self.launch.module_roles and (role is Role.MODULE or not same):
            same = list(self.modules)
        return _strongest(same)

    def baseline(self, title: str) -> Baseline:
        """Return what to keep of this boot; `title` names the entry that booted."""
        launch = self.launch
        return Baseline(title, launch.stack, launch.map, self.measured, self.beside)


def calibrate(
    verified: VerifiedLog,
    candidates: Sequence[Candidate],
    baseline: Baseline | None = None,
    luks: LuksExtends = (),
    system: RunningSystem = UNTOLD,
    others: Sequence[Baseline] = (),
) -> Calibration:
    """Explain every extend of the running boot.

    `baseline` is the last boot that was verified, `others` are boots that may run
    since: the one that runs is found by what it measured. `luks` is the hook's record,
    held against PCR 13 before (luks.require_luks). Where a launcher's versions differ
    in a rule that the log does not tell, the reading that explains most is taken.
    PredictionError when no launcher's rules fit the log, BootFileError for a SINIT
    module kept in a form that none has.
    """
    known = (*(() if baseline is None else (baseline,)), *others)
    kept = tuple(each for boot in known for each in boot.measurements)
    readings = [
        _explain_launch(launch, candidates, kept)
        for launch in identify(verified, system)
    ]
    best = max(readings, key=_explained)
    rivals = tuple(
        each.launch
        for each in readings
        if each is not best and _explained(each) == _explained(best)
    )
    best = _with_beside(replace(best, rivals=rivals), candidates, known)
    headers = _explain_luks(candidates, kept, luks, best.launch.algorithm)
    return replace(best, measured=(*best.measured, *headers))


def _explain_launch(
    launch: Launch, candidates: Sequence[Candidate], kept: tuple[Measurement, ...]
) -> Calibration:
    """Explain a launch by one reading of its log."""
    logged = launch.of_files
    known = [(each, launch.files(each.entry, each.facts)) for each in candidates]
    known.sort(key=lambda pair: -_count_reproduced(pair[1], logged))
    files = [
        _explain_file(launch, number, [files for _, files in known], kept)
        for number in range(len(logged))
    ]
    by_event = {each.event.number: files[n] for n, each in enumerate(logged)}
    return Calibration(
        launch=launch,
        entry=next(
            (
                candidate.entry
                for candidate, made in known
                if len(made) == len(logged) == _count_reproduced(made, logged)
            ),
            None,
        ),
        measured=tuple(
            by_event.get(each.event.number) or launch.explain(each, files)
            for each in launch.extends
        ),
    )


def _with_beside(
    found: Calibration, candidates: Sequence[Candidate], boots: Sequence[Baseline]
) -> Calibration:
    """Add the files beside the running boot, and the SINIT module among its sources."""
    launch = found.launch
    known_as = next((boot for boot in boots if _is_same(boot, launch)), None)
    kept = known_as.beside if known_as else None
    now = [(each.entry, _beside_now(each)) for each in candidates]
    running = (files for entry, files in now if entry == found.entry)
    measured = explain_sinit(
        found.measured,
        launch.extends,
        [file for _, files in now for file in sinit_facts(files or ())],
        [file for boot in boots for file in sinit_facts(boot.beside or ())],
    )
    return replace(
        found,
        measured=measured,
        known_as=known_as,
        beside=next(running, None) if kept is None else kept,
        is_beside_kept=kept is not None,
    )


def _is_same(boot: Baseline, launch: Launch) -> bool:
    """Whether a boot's launch measured what this one did, in the same order."""
    launched = [each for each in boot.measurements if each.pcr in DYNAMIC_PCRS]
    digests = [(each.pcr, each.digests.get(launch.algorithm)) for each in launched]
    return digests == [(each.pcr, each.digest) for each in launch.extends]


def _beside_now(candidate: Candidate) -> tuple[Source, ...] | None:
    """Return the files beside a candidate; None where one of them cannot be read."""
    try:
        return files_beside(candidate.entry, candidate.facts)
    except BootFileError:
        return None


def _explained(calibration: Calibration) -> tuple[int, int]:
    """Rank a reading: by what files explain now, then by what any do."""
    seen = [each.calibrated for each in calibration.measured]
    return seen.count(Calibrated.NOW), -seen.count(Calibrated.NO)


def _strongest(measured: Sequence[Measurement]) -> Calibrated:
    seen = {each.calibrated for each in measured}
    for answer in (Calibrated.NOW, Calibrated.BASELINE):
        if answer in seen:
            return answer
    return Calibrated.NO


def _count_reproduced(
    files: tuple[MeasuredFile, ...], logged: tuple[LoggedExtend, ...]
) -> int:
    pairs = zip(files, logged, strict=False)
    return sum(file.digest == extend.digest for file, extend in pairs)


def _explain_file(
    launch: Launch,
    number: int,
    candidates: list[tuple[MeasuredFile, ...]],
    kept: tuple[Measurement, ...],
) -> Measurement:
    """Find the file behind an extend: one there now, else one of the baseline."""
    extend = launch.of_files[number]
    for files in candidates:
        if number < len(files) and files[number].digest == extend.digest:
            return from_source(extend, files[number].source, Calibrated.NOW)
    for each in kept:
        if each.role is extend.role and _gives(launch, each, extend.digest):
            return from_source(extend, each.source, Calibrated.BASELINE)
    return carried(extend, Calibrated.NO)


def _gives(launch: Launch, kept: Measurement, digest: Digest) -> bool:
    """Whether the role's rule, applied to what was kept of a file, gives the digest."""
    if kept.source.kind not in (SourceKind.FILE, SourceKind.CMDLINE):
        return False
    try:
        return launch.digest_of(kept.role, kept.source) == digest
    except KeyError:
        return False


def _explain_luks(
    candidates: Sequence[Candidate],
    kept: tuple[Measurement, ...],
    extends: LuksExtends,
    algorithm: HashAlgorithm,
) -> list[Measurement]:
    """Find the header behind each extend of the hook's.

    Ours is the order of Anti Evil Maid (sort -u): with another one in the record the
    rule does not hold, whatever the headers are.
    """
    uuids = [uuid for uuid, _ in extends]
    in_order = uuids == sorted(set(uuids))
    measured = []
    for uuid, digest in extends:
        if digest.algorithm is not algorithm:
            raise ValueError(f"the hook's record is of the {digest.algorithm} bank")
        each = _explain_header(uuid, digest, candidates, kept)
        measured.append(each if in_order else replace(each, calibrated=Calibrated.NO))
    return measured


def _explain_header(
    uuid: str,
    digest: Digest,
    candidates: Sequence[Candidate],
    kept: tuple[Measurement, ...],
) -> Measurement:
    wanted = luks_wanted(uuid)
    source = Source(SourceKind.FILE, path=wanted.path, view=wanted.view)
    calibrated = Calibrated.NO
    for each in kept:
        same_device = each.role is Role.LUKS and each.source.path == wanted.path
        given = each.source.file_digests.get(digest.algorithm)
        if same_device and given == digest:
            source, calibrated = each.source, Calibrated.BASELINE
    for candidate in candidates:
        facts = candidate.facts.get(wanted)
        if facts and facts.digests.get(digest.algorithm) == digest:
            source = replace(source, file_digests=facts.digests)
            calibrated = Calibrated.NOW
    digests = {digest.algorithm: digest}
    return Measurement(LUKS_PCR, digests, Role.LUKS, source, calibrated)
