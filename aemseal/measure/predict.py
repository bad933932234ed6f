# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next boot will measure: the verified log with the files' part put anew.

SINIT's events are repeated as they are; the MLE, tboot's policy and the modules are
those of the next entry's files, and the LUKS headers those of now.
Rules: tboot policy.c and txt.c (OsSinitData.Capabilities); where an event depends on
what has changed in a way that files do not tell, its PCR is refused.
"""

from __future__ import annotations

from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Prediction,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.luks import LUKS_PCR
from aemseal.measure.tboot import (
    STACK,
    Facts,
    LoggedExtend,
    MeasuredFile,
    TbootLaunch,
    measured_files,
    require_digests,
)
from aemseal.measure.tboot_tables import (
    FIRST_SUPPORTED,
    MOST_MEASUREMENTS,
    parse_version,
    policy_digests,
)
from aemseal.words.digest import Digest
from aemseal.words.errors import BootFileError, PredictionError
from aemseal.words.events import TXT_COMBINED_HASH, TXT_OSSINITDATA_CAP_HASH
from aemseal.words.wanted import View

_TXT_RANDOM_VALUE = 0x4FE
_QUOTING = b"\\'\""

FileDigest = tuple[MeasuredFile, Digest]


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
    for a file without facts in the bank, PredictionError for an entry without modules
    or with more than tboot measures.
    """
    launch = calibration.launch
    mle, *modules = require_digests(
        measured_files(entry, facts, launch.algorithm), launch.algorithm
    )
    _require_count(launch, entry, len(modules))
    policy, refusals = _next_policy(calibration, mle)
    measurements = [
        _of_file(each.pcr, mle, calibration)
        if each.role is Role.MLE
        else _carried(each)
        for each in launch.before_tboot
    ]
    measurements += policy
    measurements += [
        _of_file(launch.pcr_map.module(number), module, calibration)
        for number, module in enumerate(modules)
    ]
    if hook_measures_luks:
        measurements += _luks(calibration, entry, facts)
    refusals += _refused_events(calibration, mle)
    return Prediction(
        stack=STACK,
        map=launch.pcr_map.name,
        entry=entry.title,
        measurements=tuple(measurements),
        refusals=tuple(refusals),
        cautions=tuple(_cautions(calibration, modules)),
    )


def _require_count(launch: TbootLaunch, entry: BootEntry, modules: int) -> None:
    if not modules:
        raise PredictionError(f"the entry {entry.title!r} loads no module: no Xen")
    count = len(launch.pcr_map.policy) + modules
    if count > MOST_MEASUREMENTS:
        raise PredictionError(
            f"the entry {entry.title!r} gives tboot {count} measurements to make, more "
            f"than the {MOST_MEASUREMENTS} it can"
        )


def _of_file(pcr: int, measured: FileDigest, calibration: Calibration) -> Measurement:
    file, digest = measured
    digests = {digest.algorithm: digest}
    rule = calibration.rule(file.role)
    return Measurement(pcr, digests, file.role, file.source, rule)


def _carried(extend: LoggedExtend) -> Measurement:
    source = Source(SourceKind.CARRIED, event=extend.event.number)
    digests = {extend.digest.algorithm: extend.digest}
    return Measurement(extend.pcr, digests, extend.role, source, Calibrated.NOW)


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


def _is_same_mle(calibration: Calibration, mle: FileDigest) -> bool:
    return calibration.launch.mle.digest == mle[1]


def _next_policy(
    calibration: Calibration, mle: FileDigest
) -> tuple[list[Measurement], list[Refusal]]:
    """Return the policy's measurements, or why they cannot be known."""
    digest = _policy_digest(calibration, mle)
    launch = calibration.launch
    if isinstance(digest, str):
        event = launch.policy[0].event.number
        return [], [Refusal(pcr, digest, event) for pcr in launch.pcr_map.pcrs]
    same = digest == launch.policy[0].digest
    return [
        Measurement(
            pcr=each.pcr,
            digests={launch.algorithm: digest},
            role=Role.POLICY,
            source=Source(
                SourceKind.CONSTANT,
                event=each.event.number if same else None,
                version=mle[0].source.version,
            ),
            calibrated=Calibrated.NOW,
        )
        for each in launch.policy
    ], []


def _policy_digest(calibration: Calibration, mle: FileDigest) -> Digest | str:
    """Return what the next tboot extends for its policy, or the reason for not saying.

    Modules go where the policy says, so without it no PCR of tboot's is known.
    """
    launch, source = calibration.launch, mle[0].source
    logged = launch.policy[0]
    version = parse_version(source.version)
    if not calibration.policies:
        running = calibration.mle.source.version or "its version is not known"
        return (
            f"event {logged.event.number}, a policy with {logged.digest.hex[:8]}.., is "
            f"not the default one of the running tboot ({running}): custom "
            "verified-launch policies are not supported"
        )
    if version is not None and version < FIRST_SUPPORTED:
        return (
            f"{source.path} is tboot {source.version}, which drops the first word of "
            "every command line: not supported"
        )
    if _is_same_mle(calibration, mle):
        return logged.digest
    if version is None:
        return f"{source.path} has changed and does not tell its version"
    kinds = {row.kind for row in calibration.policies}
    name, algorithm = launch.pcr_map.name, launch.algorithm
    digests = policy_digests(kinds, name, algorithm, version)
    if len(digests) != 1:
        what = "more than one may be its" if digests else "none is known"
        return (
            f"the default policy of tboot {source.version} on the {name} map in the "
            f"{algorithm} bank: {what}"
        )
    return digests[0]


def _refused_events(calibration: Calibration, mle: FileDigest) -> list[Refusal]:
    """Refuse the PCRs of SINIT's events that will not be what they were."""
    changed = not _is_same_mle(calibration, mle)
    refusals = []
    for each in calibration.launch.before_tboot:
        reason = _random(each)
        if changed and reason is None:
            reason = _capabilities(calibration, mle, each) or _combined(
                calibration.launch, each
            )
        if reason is not None:
            refusals.append(Refusal(each.pcr, reason, each.event.number))
    return refusals


def _random(extend: LoggedExtend) -> str | None:
    if extend.event.untrusted_type != _TXT_RANDOM_VALUE:
        return None
    return f"event {extend.event.number} is a random value, another one in each boot"


def _capabilities(
    calibration: Calibration, mle: FileDigest, extend: LoggedExtend
) -> str | None:
    """Say why an event that holds the MLE's capabilities is not known.

    0x40f is their hash, 0x403 has them inside where the launch control policy says so.
    """
    if extend.event.untrusted_type not in (TXT_OSSINITDATA_CAP_HASH, TXT_COMBINED_HASH):
        return None
    before, after = calibration.mle.source.capabilities, mle[0].source.capabilities
    what = f"{extend.event.name} (event {extend.event.number})"
    if before is None or after is None:
        which = "running" if before is None else "next"
        return f"{what} may change: the {which} tboot's capabilities are not known"
    if before != after:
        return f"tboot's capabilities change from {before} to {after}, so {what} will"
    return None


def _combined(launch: TbootLaunch, extend: LoggedExtend) -> str | None:
    """Say why 0x403 is not known: it may hold the MLE's hash as the policy's.

    Seen on a ThinkPad X200: LcpPolicyHash was the MLE's hash.
    """
    event = extend.event
    if event.untrusted_type != TXT_COMBINED_HASH:
        return None
    data = event.untrusted_data
    if launch.algorithm.hash(data) != extend.digest:
        return f"event {event.number} has no data that tells whether tboot is in it"
    if launch.mle.digest.value in data:
        return f"event {event.number} holds the running tboot's hash, which changes"
    return None


def _cautions(calibration: Calibration, modules: list[FileDigest]) -> list[str]:
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
