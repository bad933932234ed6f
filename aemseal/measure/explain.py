# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a boot was accepted or not: which known boot it is, or what differs first.

Everything after the first differing measurement may be a consequence of it, so that
one is named. Whether to type the passphrase is said in one sentence, made here for
every verdict and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement
from aemseal.measure.luks import LUKS_PCR, LuksExtends
from aemseal.measure.replay import VerifiedLog
from aemseal.words.digest import Digest

Seen = tuple[int, Digest]
"""One extend of the boot in question: its PCR and its digest."""


class BootStatus(Enum):
    """What a known boot is to the vault."""

    ACCEPTED = "accepted"
    STAGED = "staged"
    RETIRED = "retired"


class Verdict(Enum):
    """What this boot is; the words of the command line's JSON."""

    ACCEPTED = "accepted"
    RETIRED = "retired"
    CHANGED = "changed"
    UNMEASURED = "unmeasured"
    TPM_CHANGED = "tpm-changed"
    SHUT = "shut"


@dataclass(frozen=True, slots=True)
class KnownBoot:
    """A boot that the vault knows by name, with its measurements in order."""

    name: str
    status: BootStatus
    measurements: tuple[Measurement, ...]

    @property
    def xen_version(self) -> str | None:
        """Xen's own version string, where it was recorded."""
        versions = (e.source.version for e in self.measurements if e.role is Role.XEN)
        return next(versions, None)

    @property
    def label(self) -> str:
        """The name with Xen's version, and what the boot is unless it is accepted."""
        version = self.xen_version
        is_told = version is None or version in self.name
        name = self.name if is_told else f"{self.name}, Xen {version}"
        is_accepted = self.status is BootStatus.ACCEPTED
        return name if is_accepted else f"{name} ({self.status.value})"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and the first measurement that differs from the closest known boot.

    `expected` is that boot's measurement, None where one was added; `measured` what
    came instead, None where one is missing. `known_as` names the known state that the
    boot is, or, when it is none, that this one measurement is of. `differences` counts
    the measurements that differ from the closest boot.
    """

    verdict: Verdict
    advice: str
    pcr: int | None = None
    role: Role | None = None
    path: str | None = None
    expected: Measurement | None = None
    measured: Digest | None = None
    known_as: str | None = None
    differences: int = 0


@dataclass(frozen=True, slots=True)
class _Difference:
    """Where a boot parts from a known one, and by how many measurements."""

    expected: Measurement | None
    seen: Seen | None
    count: int


def seen_in(verified: VerifiedLog) -> tuple[Seen, ...]:
    """Return the launch's extends of a verified log."""
    algorithm = verified.algorithm
    return tuple((event.pcr, digests[algorithm]) for event, digests in verified.extends)


def explain(
    launch: Sequence[Seen],
    known: Sequence[KnownBoot],
    luks: LuksExtends | None = None,
) -> Explanation:
    """Hold a boot against the boots that are known.

    `launch` are its extends of PCR 17 to 22 in order, `luks` the hook's of PCR 13;
    None where there is no record of them, then PCR 13 is not compared. A boot equal to
    an accepted or staged one is accepted, one equal to a retired one retired.
    """
    seen = list(launch)
    if luks is not None:
        seen += [(LUKS_PCR, digest) for _, digest in luks]
    compared = [(each, _compare(seen, each, luks is not None)) for each in known]
    ranked = sorted(compared, key=lambda pair: _rank(*pair))
    for boot, difference in ranked:
        if difference.count == 0 and boot.status is not BootStatus.RETIRED:
            return _accepted(boot)
    current = [pair for pair in ranked if pair[0].status is not BootStatus.RETIRED]
    closest = current[0][1] if current else None
    retired = [
        boot
        for boot, difference in ranked
        if difference.count == 0 and boot.status is BootStatus.RETIRED
    ]
    if retired:
        return _differing(Verdict.RETIRED, closest, retired[0].label)
    known_as = _known_as(closest.seen, known) if closest and closest.seen else None
    return _differing(Verdict.CHANGED, closest, known_as)


def unmeasured() -> Explanation:
    """Return the explanation of a boot without a dynamic launch."""
    return Explanation(Verdict.UNMEASURED, _UNMEASURED)


def shut() -> Explanation:
    """Return the explanation of a vault whose counter went on without us."""
    return Explanation(Verdict.SHUT, _SHUT)


def not_shown(explanation: Explanation, outcome: str) -> Explanation:
    """Say of an accepted boot why its hook did not show the secret.

    `outcome` is the word of the hook's record (docs/slot-format.md).
    """
    why = _OUTCOMES.get(outcome, f"the hook said {outcome}")
    advice = _NOT_SHOWN.format(explanation.known_as, why)
    return replace(explanation, advice=advice)


def tpm_changed() -> Explanation:
    """Return the explanation of a TPM that was cleared or lost a key of ours."""
    return Explanation(Verdict.TPM_CHANGED, _TPM_CHANGED)


def _rank(boot: KnownBoot, difference: _Difference) -> tuple[int, int]:
    return difference.count, list(BootStatus).index(boot.status)


def _compare(seen: list[Seen], boot: KnownBoot, with_luks: bool) -> _Difference:
    """Find the first difference; what is equal at the end tells an added one apart."""
    expected = [each for each in boot.measurements if each.pcr != LUKS_PCR]
    if with_luks:
        expected += [each for each in boot.measurements if each.pcr == LUKS_PCR]
    start = 0
    while start < min(len(seen), len(expected)) and _fits(seen[start], expected[start]):
        start += 1
    end = 0
    while end < min(len(seen), len(expected)) - start and _fits(
        seen[-1 - end], expected[-1 - end]
    ):
        end += 1
    came = seen[start : len(seen) - end]
    missed = expected[start : len(expected) - end]
    return _Difference(
        expected=missed[0] if missed else None,
        seen=came[0] if came else None,
        count=max(len(came), len(missed)),
    )


def _fits(seen: Seen, expected: Measurement) -> bool:
    pcr, digest = seen
    return pcr == expected.pcr and expected.digests.get(digest.algorithm) == digest


def _known_as(seen: Seen, known: Sequence[KnownBoot]) -> str | None:
    """Name the known state that one measurement is of, the accepted ones first."""
    for boot in sorted(known, key=lambda each: list(BootStatus).index(each.status)):
        for each in boot.measurements:
            if not _fits(seen, each):
                continue
            product = _PRODUCTS.get(each.role)
            if product is not None and each.source.version is not None:
                return f"{product} {each.source.version} ({boot.status.value})"
            return boot.label
    return None


def _accepted(boot: KnownBoot) -> Explanation:
    return Explanation(
        Verdict.ACCEPTED, _ACCEPTED.format(boot.label), known_as=boot.label
    )


def _differing(
    verdict: Verdict, difference: _Difference | None, known_as: str | None
) -> Explanation:
    expected = difference.expected if difference else None
    seen = difference.seen if difference else None
    role = expected.role if expected else None
    path = expected.source.path if expected else None
    pcr = expected.pcr if expected else seen[0] if seen else None
    if verdict is Verdict.RETIRED:
        advice = _RETIRED.format(known_as)
    else:
        advice = _advice(difference, known_as)
    return Explanation(
        verdict=verdict,
        advice=advice,
        pcr=pcr,
        role=role,
        path=path,
        expected=expected,
        measured=seen[1] if seen else None,
        known_as=known_as,
        differences=difference.count if difference else 0,
    )


def _advice(difference: _Difference | None, known_as: str | None) -> str:
    """Choose the sentence for a boot that is no known one."""
    if difference is None:
        return _NOTHING_KNOWN
    expected = difference.expected
    if expected is None:
        pcr = difference.seen[0] if difference.seen else LUKS_PCR
        return (_ADDED_HEADER if pcr == LUKS_PCR else _ADDED).format(pcr)
    what = expected.source.path or f"the {expected.role} measurement"
    if difference.seen is None:
        return _MISSING.format(what)
    if expected.role in (Role.SINIT, Role.PLATFORM):
        return _FIRMWARE
    if expected.role is Role.LUKS:
        return _HEADER.format(what)
    if known_as is not None:
        return _ANOTHER.format(what, known_as)
    return _CHANGED.format(what)


_PRODUCTS = {Role.XEN: "Xen", Role.MLE: "tboot"}

_ACCEPTED = (
    "This is the accepted boot {}: once you have seen your secret, it is safe to type "
    "the passphrase."
)
_RETIRED = (
    "Do not type the passphrase: this is {}, which is no longer accepted, and unless "
    "you put it back yourself someone else did."
)
_CHANGED = (
    "Do not type the passphrase unless you changed {} yourself: it is not what was "
    "accepted."
)
_ANOTHER = (
    "Do not type the passphrase unless you put it there yourself: instead of the "
    "accepted {} this is {}."
)
_ADDED = (
    "Do not type the passphrase unless you added it yourself: something was measured "
    "into PCR {} that the accepted boot does not have."
)
_ADDED_HEADER = (
    "Do not type the passphrase unless you added a disk yourself: a LUKS header was "
    "measured into PCR {} that the accepted boot does not have."
)
_MISSING = (
    "Do not type the passphrase unless you took it out yourself: {} belongs to the "
    "accepted boot and was not measured."
)
_FIRMWARE = (
    "Do not type the passphrase unless you have just changed the firmware, its "
    "settings or the SINIT file: what was measured before tboot is not what is "
    "accepted."
)
_HEADER = (
    "Do not type the passphrase unless you changed a key of that disk yourself: the "
    "LUKS header of {} is not the accepted one, and the disk may be another one."
)
_NOT_SHOWN = (
    "Do not type the passphrase before you know why the secret did not appear: this is "
    "the accepted boot {}, but {}."
)
_OUTCOMES = {
    "no-medium": "there was no vault on the medium",
    "stale": "the medium holds no acceptance for the TPM's counter",
    "bad-medium": "the medium's files were damaged or tampered with",
    "not-accepted": "the TPM refused what is on the medium",
    "lockout": "the TPM was in lockout",
    "tpm-changed": "the TPM had lost our key or counter",
    "no-tpm": "the TPM did not answer the hook",
    "no-luks": "the header of an encrypted disk could not be measured",
    "cap-failed": "PCR 13 could not be capped",
    "failed": "the hook was interrupted",
}
"""The outcomes of docs/slot-format.md that an accepted boot can have."""

_SHUT = (
    "Do not type the passphrase: the TPM's counter has gone on, so this disk is an "
    "older copy that somebody put back, or somebody counted to shut the vault."
)
_NOTHING_KNOWN = (
    "Do not type the passphrase because of this tool: no accepted boot is on record to "
    "hold this one against."
)
_UNMEASURED = (
    "Do not type the passphrase: no measured launch took place, so nothing about this "
    "boot is proven; start the entry that runs tboot."
)
_TPM_CHANGED = (
    "Do not type the passphrase before you know why the TPM changed: it was cleared or "
    "lost our key, which says nothing good or bad about the boot files."
)
