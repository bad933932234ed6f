# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by tboot measures.

SINIT's events are repeated as they are; the MLE, tboot's policy and the modules are
those of the next entry's files, the modules in the PCRs that the next policy gives.
Where an event depends on what has changed in a way that files do not tell, its PCR is
refused. Rules: tboot policy.c and txt.c (OsSinitData.Capabilities).
"""

from __future__ import annotations

from aemseal.formats.tboot_policy import TbootPolicy
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
from aemseal.measure.tboot import TbootLaunch, launched_places
from aemseal.measure.tboot_files import measured_files
from aemseal.measure.tboot_next_policy import NextPolicy, next_policy, running_tboot
from aemseal.measure.tboot_places import places
from aemseal.measure.tboot_tables import MOST_MEASUREMENTS
from aemseal.measure.tboot_verdict import judge_modules
from aemseal.words.digest import DYNAMIC_PCRS
from aemseal.words.errors import PredictionError
from aemseal.words.events import TXT_COMBINED_HASH, TXT_OSSINITDATA_CAP_HASH

_TXT_RANDOM_VALUE = 0x4FE


def next_launch(
    launch: TbootLaunch, calibration: Calibration, entry: BootEntry, facts: Facts
) -> NextLaunch:
    """Predict a launch of this entry; raises as predict.predict does."""
    files = measured_files(entry, facts, launch.algorithm)
    mle, *modules = require_digests(files, launch.algorithm)
    found = next_policy(launch, calibration, mle)
    policy = launch.logged_policy.policy if isinstance(found, str) else found.policy
    _require_count(launch, policy, entry, len(modules))
    verdict = judge_modules(launch, policy, mle[0].source, modules)
    measurements = [
        _of_file(each.pcr, mle, calibration)
        if each.role is Role.MLE
        else carried(each, Calibrated.NOW)
        for each in launch.before_tboot
    ]
    if not isinstance(found, str):
        measurements += _policy_measurements(launch, found, mle[0].source)
    measurements += [
        _of_file(pcr, modules[number], calibration)
        for number, pcr in launched_places(policy, launch.pcr_map, len(modules))
    ]
    refusals = [
        *(_refused_policy(launch, found) if isinstance(found, str) else ()),
        *verdict.refusals,
        *_refused_events(launch, calibration, mle),
    ]
    return NextLaunch(
        tuple(measurements), tuple(refusals), tuple(modules), verdict.cautions
    )


def _require_count(
    launch: TbootLaunch, policy: TbootPolicy, entry: BootEntry, modules: int
) -> None:
    if not modules:
        raise PredictionError(f"the entry {entry.title!r} loads no module: no Xen")
    made = places(policy, launch.pcr_map, modules)
    count = len(launch.pcr_map.policy) + len(made)
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


def _policy_measurements(
    launch: TbootLaunch, following: NextPolicy, mle: Source
) -> list[Measurement]:
    """Return the policy's extends: a constant of tboot's version, or one carried over.

    A custom policy is not tboot's: what the TPM or a file holds of it was found to be
    what the event measured.
    """
    is_custom = launch.logged_policy.is_custom
    return [
        Measurement(
            pcr=each.pcr,
            digests={launch.algorithm: following.digest},
            role=Role.POLICY,
            source=Source(
                SourceKind.CARRIED if is_custom else SourceKind.CONSTANT,
                event=each.event.number
                if is_custom or following.digest == each.digest
                else None,
                version=None if is_custom else mle.version,
            ),
            calibrated=Calibrated.NOW,
        )
        for each in launch.policy
    ]


def _refused_policy(launch: TbootLaunch, reason: str) -> list[Refusal]:
    """Refuse every PCR of tboot's: modules go where a policy says."""
    event = launch.policy[0].event.number
    pcrs = launch.default_pcrs | {each.pcr for each in launch.modules}
    return [Refusal(pcr, reason, event) for pcr in sorted(pcrs & set(DYNAMIC_PCRS))]


def _refused_events(
    launch: TbootLaunch, calibration: Calibration, mle: FileDigest
) -> list[Refusal]:
    """Refuse the PCRs of SINIT's events that will not be what they were."""
    changed = launch.mle.digest != mle[1]
    running = running_tboot(calibration)
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
