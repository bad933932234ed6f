# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by tboot measures.

SINIT's events are repeated as they are; the MLE, tboot's policy and the modules are
those of the next entry's files. Where an event depends on what has changed in a way
that files do not tell, its PCR is refused.
Rules: tboot policy.c and txt.c (OsSinitData.Capabilities).
"""

from __future__ import annotations

from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.launch import (
    Facts,
    FileDigest,
    LoggedExtend,
    NextLaunch,
    carried,
    require_digests,
)
from aemseal.measure.tboot import TbootLaunch
from aemseal.measure.tboot_tables import (
    FIRST_SUPPORTED,
    MOST_MEASUREMENTS,
    parse_version,
    policy_digests,
)
from aemseal.words.digest import Digest
from aemseal.words.errors import PredictionError
from aemseal.words.events import TXT_COMBINED_HASH, TXT_OSSINITDATA_CAP_HASH

_TXT_RANDOM_VALUE = 0x4FE


def next_launch(
    launch: TbootLaunch, calibration: Calibration, entry: BootEntry, facts: Facts
) -> NextLaunch:
    """Predict a launch of this entry; raises as predict.predict does."""
    mle, *modules = require_digests(launch.files(entry, facts), launch.algorithm)
    _require_count(launch, entry, len(modules))
    policy, refusals = _next_policy(launch, calibration, mle)
    measurements = [
        _of_file(each.pcr, mle, calibration)
        if each.role is Role.MLE
        else carried(each, Calibrated.NOW)
        for each in launch.before_tboot
    ]
    measurements += policy
    measurements += [
        _of_file(launch.pcr_map.module(number), module, calibration)
        for number, module in enumerate(modules)
    ]
    refusals += _refused_events(launch, calibration, mle)
    return NextLaunch(tuple(measurements), tuple(refusals), tuple(modules))


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


def _is_same_mle(launch: TbootLaunch, mle: FileDigest) -> bool:
    return launch.mle.digest == mle[1]


def _running(calibration: Calibration) -> Source:
    """Return what is known of the running tboot."""
    mles = (each.source for each in calibration.measured if each.role is Role.MLE)
    return next(mles)


def _next_policy(
    launch: TbootLaunch, calibration: Calibration, mle: FileDigest
) -> tuple[list[Measurement], list[Refusal]]:
    """Return the policy's measurements, or why they cannot be known."""
    digest = _policy_digest(launch, _running(calibration).version, mle)
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


def _policy_digest(
    launch: TbootLaunch, running: str | None, mle: FileDigest
) -> Digest | str:
    """Return what the next tboot extends for its policy, or the reason for not saying.

    `running` is the running tboot's version. Modules go where the policy says, so
    without it no PCR of tboot's is known.
    """
    source, logged = mle[0].source, launch.policy[0]
    fitting = launch.fitting_policies(running)
    version = parse_version(source.version)
    if not fitting:
        which = running or "its version is not known"
        return (
            f"event {logged.event.number}, a policy with {logged.digest.hex[:8]}.., is "
            f"not the default one of the running tboot ({which}): custom "
            "verified-launch policies are not supported"
        )
    if version is not None and version < FIRST_SUPPORTED:
        return (
            f"{source.path} is tboot {source.version}, which drops the first word of "
            "every command line: not supported"
        )
    if _is_same_mle(launch, mle):
        return logged.digest
    if version is None:
        return f"{source.path} has changed and does not tell its version"
    kinds = {row.kind for row in fitting}
    name, algorithm = launch.pcr_map.name, launch.algorithm
    digests = policy_digests(kinds, name, algorithm, version)
    if len(digests) != 1:
        what = "more than one may be its" if digests else "none is known"
        return (
            f"the default policy of tboot {source.version} on the {name} map in the "
            f"{algorithm} bank: {what}"
        )
    return digests[0]


def _refused_events(
    launch: TbootLaunch, calibration: Calibration, mle: FileDigest
) -> list[Refusal]:
    """Refuse the PCRs of SINIT's events that will not be what they were."""
    changed = not _is_same_mle(launch, mle)
    running = _running(calibration)
    refusals = []
    for each in launch.before_tboot:
        reason = _random(each)
        if changed and reason is None:
            reason = _capabilities(running, mle, each) or _combined(launch, each)
        if reason is not None:
            refusals.append(Refusal(each.pcr, reason, each.event.number))
    return refusals


def _random(extend: LoggedExtend) -> str | None:
    if extend.event.untrusted_type != _TXT_RANDOM_VALUE:
        return None
    return f"event {extend.event.number} is a random value, another one in each boot"


def _capabilities(running: Source, mle: FileDigest, extend: LoggedExtend) -> str | None:
    """Say why an event that holds the MLE's capabilities is not known.

    0x40f is their hash, 0x403 has them inside where the launch control policy says so.
    """
    if extend.event.untrusted_type not in (TXT_OSSINITDATA_CAP_HASH, TXT_COMBINED_HASH):
        return None
    before, after = running.capabilities, mle[0].source.capabilities
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
