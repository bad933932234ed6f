# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by tboot measures.

SINIT's events are those of the SINIT module that is launched next (sinit.py); the MLE,
tboot's policy and the modules are those of the next entry's files, the modules in the
PCRs that the next policy gives. Where an event depends on what has changed in a way
that files do not tell, its PCR is refused.
Rules: tboot policy.c and txt.c (OsSinitData.Capabilities, force_pmrs).
"""

from __future__ import annotations

from aemseal.formats.tboot_policy import TbootPolicy
from aemseal.measure.beside import files_beside, kept_policy_data
from aemseal.measure.boot_entry import BootEntry, Launcher, Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import (
    ANOTHER_LAUNCHER,
    Calibrated,
    Measurement,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.launch import (
    Facts,
    FileDigest,
    NextLaunch,
    require_digests,
)
from aemseal.measure.sinit import MleChange, is_tpm2
from aemseal.measure.sinit_capabilities import TbootImage, TbootRule
from aemseal.measure.sinit_part import (
    SinitPart,
    how_explained,
    logged_of,
    predict_sinit,
)
from aemseal.measure.tboot import TbootLaunch, launched_places
from aemseal.measure.tboot_files import measured_files
from aemseal.measure.tboot_next_policy import NextPolicy, next_policy, running_tboot
from aemseal.measure.tboot_places import places
from aemseal.measure.tboot_tables import MOST_MEASUREMENTS, parse_version
from aemseal.measure.tboot_verdict import judge_modules
from aemseal.words.digest import DYNAMIC_PCRS, Digest
from aemseal.words.errors import PredictionError

_FORCE_PMRS = b"force_pmrs="
_REWRITES_ITSELF = (1, 11, 11)


def next_launch(
    launch: TbootLaunch, calibration: Calibration, entry: BootEntry, facts: Facts
) -> NextLaunch:
    """Predict a launch of this entry; raises as predict.predict does."""
    _require_tboot(entry)
    files = measured_files(entry, facts, launch.algorithm)
    mle, *modules = require_digests(files, launch.algorithm)
    found = next_policy(launch, calibration, mle)
    policy = launch.logged_policy.policy if isinstance(found, str) else found.policy
    _require_count(launch, policy, entry, len(modules))
    verdict = judge_modules(launch, policy, mle[0].source, modules)
    beside = files_beside(entry, facts)
    sinit = _sinit(launch, calibration, beside, mle)
    measurements = [
        _of_file(each.pcr, mle, calibration)
        if each.role is Role.MLE
        else sinit.measurements[each.event.number]
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
    ]
    known = {each.pcr for each in refusals}
    more = (
        *_refused_policy_data(launch, calibration, beside),
        *sinit.refusals,
        *_refused_mle(launch, mle[0].source),
    )
    refusals += [each for each in more if each.pcr not in known]
    cautions = (*verdict.cautions, *sinit.cautions)
    return NextLaunch(tuple(measurements), tuple(refusals), tuple(modules), cautions)


def _require_tboot(entry: BootEntry) -> None:
    if entry.launcher is not Launcher.TBOOT:
        raise PredictionError(
            f"the entry {entry.title!r} is launched by {entry.launcher.value}, the "
            f"running boot by {Launcher.TBOOT.value}",
            ANOTHER_LAUNCHER,
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


def _refused_policy_data(
    launch: TbootLaunch, calibration: Calibration, beside: tuple[Source, ...]
) -> list[Refusal]:
    """Refuse every PCR of the launch where the LCP policy data are not what they were.

    SINIT measures what its policy takes from them, and tboot's own policy, which says
    where the modules go, may be among them. Source: tboot policy.c (set_policy,
    unwrap_lcp_policy); Intel TXT SDG 1.10 and appendix E.
    """
    before = kept_policy_data(calibration.beside or ())
    after = kept_policy_data(beside)
    known = {_bytes_of(launch, each) for each in (before, after)}
    if len(known) == 1:
        return []
    [path, *_] = [each.path for each in (after, before) if each is not None]
    change = "changed" if before and after else "is new" if after else "is gone"
    reason = (
        f"{path}, the launch control policy's data, {change}: what SINIT and tboot "
        "make of that is not known before that boot"
    )
    pcrs = launch.default_pcrs & set(DYNAMIC_PCRS)
    return [Refusal(pcr, reason) for pcr in sorted(pcrs)]


def _bytes_of(launch: TbootLaunch, file: Source | None) -> Digest | None:
    return None if file is None else file.file_digests.get(launch.algorithm)


def _sinit(
    launch: TbootLaunch,
    calibration: Calibration,
    beside: tuple[Source, ...],
    mle: FileDigest,
) -> SinitPart:
    """Predict SINIT's events, with what both tboots ask of it."""
    extends = launch.before_tboot
    rule = TbootRule(
        _image(running_tboot(calibration)),
        _image(mle[0].source),
        is_tpm2(logged_of(extends)),
    )
    return predict_sinit(
        extends,
        before=calibration.beside,
        is_before_kept=calibration.is_beside_kept,
        after=beside,
        mle=MleChange(launch.mle.digest, mle[1]),
        rule=rule,
        calibrated=how_explained(calibration.measured),
    )


def _image(tboot: Source) -> TbootImage:
    return TbootImage.of(tboot.capabilities, tboot.version, tboot.cmdline)


def _refused_mle(launch: TbootLaunch, mle: Source) -> list[Refusal]:
    """Refuse a tboot that rewrites its MLE header before SINIT measures it.

    Source: tboot common/tboot.c and cmdline.c of 1.11.11 (force_pmrs).
    """
    version = parse_version(mle.version)
    is_old = version is not None and version < _REWRITES_ITSELF
    words = [
        word for word in (mle.cmdline or b"").split() if word.startswith(_FORCE_PMRS)
    ]
    if is_old or all(word == _FORCE_PMRS + b"false" for word in words):
        return []
    reason = (
        f"tboot's option force_pmrs has {mle.path} rewrite its header before it is "
        "measured: its hash cannot be known from the file"
    )
    return [Refusal(launch.mle.pcr, reason, launch.mle.event.number)]
