# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT's part of a launch as measurements: of the running boot, and of the next one.

What sinit.py tells of events and modules is here given its sources and its words for
people. Both launchers of Intel TXT use it, each with its own rule for what it asks of
SINIT (sinit_capabilities.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aemseal.measure.beside import sinit_facts, sinit_source
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.launch import LoggedExtend, carried, from_source
from aemseal.measure.sinit import MleChange, NextExtend, next_sinit
from aemseal.measure.sinit_capabilities import CapabilitiesRule
from aemseal.measure.sinit_choice import (
    Logged,
    hash_start_of,
    is_key_of,
    launched_file,
)
from aemseal.words.digest import Digest
from aemseal.words.events import TXT_HASH_START, TXT_SINIT_PUBKEY_HASH
from aemseal.words.wanted import FileFacts

_TXT_RANDOM_VALUE = 0x4FE

_FIRMWARES = (
    "no SINIT module of the entry is the one that was launched: it is taken for the "
    "firmware's own, which is wrong if one of them was replaced since this boot"
)

Beside = Sequence[Source]
"""The files beside a boot: measure/beside.py."""


@dataclass(frozen=True, slots=True)
class SinitPart:
    """SINIT's part of the next boot.

    `measurements` are by the number of the logged event that each stands in for; the
    refused ones among them repeat it.
    """

    measurements: Mapping[int, Measurement]
    refusals: tuple[Refusal, ...]
    cautions: tuple[str, ...]


def predict_sinit(
    extends: Iterable[LoggedExtend],
    *,
    before: Beside | None,
    after: Beside,
    is_before_kept: bool,
    mle: MleChange,
    rule: CapabilitiesRule,
    calibrated: Calibrated,
) -> SinitPart:
    """Predict what SINIT extends; `extends` are its own of the running boot, in order.

    `before` are the files beside the running boot, None where they are not known; as
    they were then if `is_before_kept`, else as they are now, which earns a caution
    where the firmware's module seems to have been launched. `after` are those of the
    next entry. `calibrated` says how the running
    boot's SINIT module was explained. The MLE's own extend may be among them, and is
    repeated. BootFileError for kept facts that no SINIT module gives.
    """
    found = {each.event.number: each for each in extends}
    after_modules = sinit_facts(after)
    following = next_sinit(
        logged_of(found.values()),
        before=None if before is None else sinit_facts(before),
        after=after_modules,
        mle=mle,
        rule=rule,
    )
    refusals = []
    measurements = {}
    for each in following.extends:
        extend = found[each.logged[0].number]
        measurements[extend.event.number] = _measurement(extend, each, calibrated)
        reason = _random(extend) or each.reason
        if reason is not None:
            refusals.append(Refusal(extend.pcr, reason, extend.event.number))
    cautions = following.cautions
    if found and after_modules and following.launched is None and not is_before_kept:
        cautions = (*cautions, _FIRMWARES)
    return SinitPart(measurements, tuple(refusals), cautions)


def explain_sinit(
    measured: Sequence[Measurement],
    extends: Sequence[LoggedExtend],
    now: Sequence[FileFacts],
    kept: Sequence[FileFacts],
) -> tuple[Measurement, ...]:
    """Put the launched SINIT module in as the source of the events that it gives.

    `measured` are the explained `extends`; `now` are the facts of modules that are
    there, `kept` of those that were. Without the module's file nothing changes.
    BootFileError as sinit_choice.sinit_files raises it.
    """
    logged = logged_of(extends)
    file, calibrated = launched_file(logged, now), Calibrated.NOW
    if file is None:
        file, calibrated = launched_file(logged, kept), Calibrated.BASELINE
    if file is None:
        return tuple(measured)
    source = sinit_source(file)
    return tuple(
        from_source(extend, source, calibrated)
        if _is_of_module((extend.event, extend.digest), file)
        else each
        for each, extend in zip(measured, extends, strict=True)
    )


def how_explained(measured: Iterable[Measurement]) -> Calibrated:
    """Say how the running boot's SINIT module was explained; carried is now."""
    of_files = (each for each in measured if each.source.kind is SourceKind.FILE)
    seen = (each.calibrated for each in of_files if each.role is Role.SINIT)
    return next(seen, Calibrated.NOW)


def logged_of(extends: Iterable[LoggedExtend]) -> tuple[Logged, ...]:
    """Return extends as sinit.py takes them."""
    return tuple((each.event, each.digest) for each in extends)


def _is_of_module(logged: Logged, file: FileFacts) -> bool:
    kind = logged[0].untrusted_type
    if kind == TXT_HASH_START:
        return hash_start_of(logged, file) is not None
    return kind == TXT_SINIT_PUBKEY_HASH and is_key_of(logged, file)


def _measurement(
    extend: LoggedExtend, following: NextExtend, calibrated: Calibrated
) -> Measurement:
    """Return an event of the next boot with its source.

    What the launcher asks of SINIT is a constant of both files where it is computed.
    """
    digest = following.digest
    if digest is None or (following.is_carried and following.file is None):
        return carried(extend, Calibrated.NOW)
    if following.file is not None:
        source = sinit_source(following.file)
    else:
        source, calibrated = Source(SourceKind.CONSTANT), Calibrated.NOW
    return from_source(_with_digest(extend, digest), source, calibrated)


def _with_digest(extend: LoggedExtend, digest: Digest) -> LoggedExtend:
    return LoggedExtend(extend.event, digest, extend.role)


def _random(extend: LoggedExtend) -> str | None:
    if extend.event.untrusted_type != _TXT_RANDOM_VALUE:
        return None
    return f"event {extend.event.number} is a random value, another one in each boot"
