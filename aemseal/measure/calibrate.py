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
from aemseal.measure.boot_entry import BootEntry, Role, luks_wanted
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.measure.luks import LUKS_PCR, LuksExtends
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.stack import identify
from aemseal.measure.tboot import (
    STACK,
    Facts,
    LoggedExtend,
    MeasuredFile,
    TbootLaunch,
    digest_of_source,
    measured_files,
)
from aemseal.measure.tboot_tables import PolicyRow, parse_version, policies_with
from aemseal.words.digest import Digest, HashAlgorithm

_MODULE_ROLES = frozenset({Role.XEN, Role.KERNEL, Role.INITRAMFS, Role.MODULE})


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
    with its source and whether that was calibrated. `policies` are the rows of the
    table that the logged tboot policy fits: none means a custom one.
    """

    launch: TbootLaunch
    entry: BootEntry | None
    measured: tuple[Measurement, ...]
    policies: tuple[PolicyRow, ...]

    @property
    def is_calibrated(self) -> bool:
        """Every measurement of the running boot is explained."""
        return all(each.calibrated is not Calibrated.NO for each in self.measured)

    @property
    def mle(self) -> Measurement:
        """The running tboot."""
        return next(each for each in self.measured if each.role is Role.MLE)

    @property
    def modules(self) -> tuple[Measurement, ...]:
        """What tboot measured of the running boot's modules."""
        return tuple(each for each in self.measured if each.role in _MODULE_ROLES)

    def rule(self, role: Role) -> Calibrated:
        """Say whether the rule for a role was seen to hold in the running boot."""
        same = [each for each in self.measured if each.role is role]
        if role in _MODULE_ROLES and (role is Role.MODULE or not same):
            same = list(self.modules)
        seen = {each.calibrated for each in same}
        for answer in (Calibrated.NOW, Calibrated.BASELINE):
            if answer in seen:
                return answer
        return Calibrated.NO

    def baseline(self, title: str) -> Baseline:
        """Return what to keep of this boot; `title` names the entry that booted."""
        return Baseline(title, STACK, self.launch.pcr_map.name, self.measured)


def calibrate(
    verified: VerifiedLog,
    candidates: Sequence[Candidate],
    baseline: Baseline | None = None,
    luks: LuksExtends = (),
) -> Calibration:
    """Explain every extend of the running boot.

    `luks` is the hook's record, held against PCR 13 before (luks.require_luks).
    PredictionError when the log is not one of tboot with its default policy's order.
    """
    launch = identify(verified)
    logged = (launch.mle, *launch.modules)
    known = [
        (each, measured_files(each.entry, each.facts, launch.algorithm))
        for each in candidates
    ]
    known.sort(key=lambda pair: -_count_reproduced(pair[1], logged))
    kept = baseline.measurements if baseline else ()
    files = [
        _explain_file(number, extend, [files for _, files in known], kept)
        for number, extend in enumerate(logged)
    ]
    policies = _fitting_policies(launch, files[0].source.version)
    explained = iter(files)
    measured = [
        next(explained) if each.role is Role.MLE else _carried(each, Calibrated.NOW)
        for each in launch.before_tboot
    ]
    measured += [_explain_policy(each, policies) for each in launch.policy]
    measured += explained
    measured += _explain_luks(candidates, kept, luks, launch.algorithm)
    return Calibration(
        launch=launch,
        entry=next(
            (
                candidate.entry
                for candidate, files in known
                if len(files) == len(logged) == _count_reproduced(files, logged)
            ),
            None,
        ),
        measured=tuple(measured),
        policies=policies,
    )


def _count_reproduced(
    files: tuple[MeasuredFile, ...], logged: tuple[LoggedExtend, ...]
) -> int:
    pairs = zip(files, logged, strict=False)
    return sum(file.digest == extend.digest for file, extend in pairs)


def _explain_file(
    number: int,
    extend: LoggedExtend,
    candidates: list[tuple[MeasuredFile, ...]],
    kept: tuple[Measurement, ...],
) -> Measurement:
    """Find the file behind an extend: one there now, else one of the baseline."""
    for files in candidates:
        if number < len(files) and files[number].digest == extend.digest:
            return _from_source(extend, files[number].source, Calibrated.NOW)
    for each in kept:
        if each.role is extend.role and _gives(each, extend.digest):
            return _from_source(extend, each.source, Calibrated.BASELINE)
    return _carried(extend, Calibrated.NO)


def _gives(kept: Measurement, digest: Digest) -> bool:
    """Whether the role's rule, applied to what was kept of a file, gives the digest."""
    if digest.algorithm not in kept.source.file_digests:
        return False
    return digest_of_source(kept.role, kept.source, digest.algorithm) == digest


def _from_source(
    extend: LoggedExtend, source: Source, calibrated: Calibrated
) -> Measurement:
    digests = {extend.digest.algorithm: extend.digest}
    return Measurement(extend.pcr, digests, extend.role, source, calibrated)


def _carried(extend: LoggedExtend, calibrated: Calibrated) -> Measurement:
    source = Source(SourceKind.CARRIED, event=extend.event.number)
    return _from_source(extend, source, calibrated)


def _fitting_policies(
    launch: TbootLaunch, version: str | None
) -> tuple[PolicyRow, ...]:
    """Return the default policies that the logged one may be.

    Those of the running tboot's version where that is known, else of any.
    """
    rows = policies_with(launch.policy[0].digest, launch.pcr_map.name)
    running = parse_version(version)
    if running is None:
        return rows
    return tuple(row for row in rows if row.covers(running))


def _explain_policy(
    extend: LoggedExtend, policies: tuple[PolicyRow, ...]
) -> Measurement:
    if not policies:
        return _carried(extend, Calibrated.NO)
    source = Source(SourceKind.CONSTANT, event=extend.event.number)
    return _from_source(extend, source, Calibrated.NOW)


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
        if same_device and _gives(each, digest):
            source, calibrated = each.source, Calibrated.BASELINE
    for candidate in candidates:
        facts = candidate.facts.get(wanted)
        if facts and facts.digests.get(digest.algorithm) == digest:
            source = replace(source, file_digests=facts.digests)
            calibrated = Calibrated.NOW
    digests = {digest.algorithm: digest}
    return Measurement(LUKS_PCR, digests, Role.LUKS, source, calibrated)
