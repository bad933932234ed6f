# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a boot was accepted or not: which known boot it is, or what differs first.

Everything after the first differing measurement may be a consequence of it, so that
one is named. What a launcher derives from files it measures besides is named only where
none of these differs. Whether to type the passphrase is said in one sentence
(advice.py), chosen here for every verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from aemseal.measure import advice
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, SourceKind
from aemseal.measure.differences import (
    Difference,
    Seen,
    first_difference,
    fits,
    in_order,
)
from aemseal.measure.foreseen import Held
from aemseal.measure.known_files import Recognised
from aemseal.measure.luks import LUKS_PCR, LuksExtends
from aemseal.measure.trenchboot_tables import DATA_PCR
from aemseal.words.digest import Digest
from aemseal.words.wanted import View


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
    """A boot that the vault knows by name, with its measurements in order.

    `fallback` says that it is one of an entry beside the usual one.
    """

    name: str
    status: BootStatus
    measurements: tuple[Measurement, ...]
    fallback: bool = False

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
        words = [] if is_accepted else [self.status.value]
        words += ["a fallback"] if self.fallback else []
        return f"{name} ({', '.join(words)})" if words else name


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and the first measurement that differs from the closest known boot.

    `expected` is that boot's measurement, None where one was added; `measured` what
    came instead, None where one is missing. `known_as` names the known state that the
    boot is, or, when it is none, that this one measurement is of. `differences` counts
    the measurements that differ from the closest boot; `others` are the roles of
    those besides the first, added ones apart. `held` is a blind boot held against what
    could be predicted of it, None where nothing of it is on record. `outcome` is the
    word of the boot hook's record (docs/slot-format.md), None where there is none;
    `overridden` says that the hook refused, and that somebody went on all the same.
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
    others: tuple[Role, ...] = ()
    held: Held | None = None
    outcome: str | None = None
    overridden: bool = False


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
    return Explanation(Verdict.UNMEASURED, advice.UNMEASURED)


def shut() -> Explanation:
    """Return the explanation of a vault whose counter went on without us."""
    return Explanation(Verdict.SHUT, advice.SHUT)


def not_shown(explanation: Explanation, outcome: str) -> Explanation:
    """Say of an accepted boot why its hook did not show the secret.

    `outcome` is the word of the hook's record (docs/slot-format.md).
    """
    why = advice.OUTCOMES.get(outcome, f"the hook said {outcome}")
    sentence = advice.NOT_SHOWN.format(explanation.known_as, why)
    return replace(explanation, advice=sentence)


def after_hook(
    explanation: Explanation, outcome: str | None, *, overridden: bool
) -> Explanation:
    """Add what the hook said of this boot, and whether somebody went on against it."""
    sentence = explanation.advice
    if overridden:
        sentence = advice.OVERRIDDEN.format(sentence)
    return replace(explanation, advice=sentence, outcome=outcome, overridden=overridden)


def recognised(explanation: Explanation, known: Recognised) -> Explanation:
    """Say of a changed boot what known state its first difference is of."""
    if known.entry is not None:
        sentence = advice.AN_ENTRY.format(known.entry)
    else:
        what = explanation.path or f"{explanation.role} measurement"
        sentence = advice.SAME_BYTES.format(what, known.name)
    return replace(explanation, advice=sentence, known_as=known.name)


def held_against(explanation: Explanation, held: Held) -> Explanation:
    """Say of a blind boot whether what could be predicted of it came as predicted.

    It is not accepted for that: what nobody could know may be anything.
    """
    difference = held.difference
    if held.is_as_foreseen:
        sentence = advice.FORESEEN.format(held.known_words, held.unproven_words)
    elif difference.expected is None:
        pcr = difference.seen[0] if difference.seen else LUKS_PCR
        sentence = advice.UNFORESEEN_OTHER.format(pcr)
    else:
        expected = difference.expected
        what = expected.source.path or f"the {expected.role} measurement"
        sentence = advice.UNFORESEEN.format(what)
    return replace(explanation, advice=sentence, held=held)


def tpm_changed() -> Explanation:
    """Return the explanation of a TPM that was cleared or lost a key of ours."""
    return Explanation(Verdict.TPM_CHANGED, advice.TPM_CHANGED)


def _rank(boot: KnownBoot, difference: Difference) -> tuple[int, int]:
    return difference.count, list(BootStatus).index(boot.status)


def _compare(seen: list[Seen], boot: KnownBoot, with_luks: bool) -> Difference:
    expected = in_order(boot.measurements, with_luks=with_luks)
    plain = first_difference(seen, expected, fits)
    by_grub = any(each.role in _OF_TRENCHBOOT for each in expected)

    def fits_or_follows(one: Seen, other: Measurement) -> bool:
        is_derived = by_grub and _is_derived(other)
        return fits(one, other) or (is_derived and one[0] == other.pcr)

    of_files = first_difference(seen, expected, fits_or_follows)
    if of_files.count == 0:
        return plain
    return replace(of_files, count=plain.count, differing=plain.differing)


_OF_TRENCHBOOT = frozenset({Role.BOOT_INFO, Role.CMDLINE})
"""One of them is in every boot that TrenchBoot's GRUB launches, and in no other."""


def _is_derived(expected: Measurement) -> bool:
    """Whether TrenchBoot makes it from what it measures by itself besides.

    That is the multiboot information, Xen as it lies in memory under UEFI, the entry
    point of Xen, and the OS to MLE data: each comes before the files that change it.
    That last one looks as SINIT's own records do, whose causes are in PCR 17 as well.
    """
    if expected.source.kind is SourceKind.CARRIED:
        is_table = expected.role is Role.PLATFORM and expected.pcr == DATA_PCR
        return is_table or expected.role in (Role.BOOT_INFO, Role.XEN)
    return expected.source.view is View.SLAUNCH_ENTRY


def _known_as(seen: Seen, known: Sequence[KnownBoot]) -> str | None:
    """Name the known state that one measurement is of, the accepted ones first."""
    for boot in sorted(known, key=lambda each: list(BootStatus).index(each.status)):
        for each in boot.measurements:
            if not fits(seen, each):
                continue
            product = _PRODUCTS.get(each.role)
            if product is not None and each.source.version is not None:
                return f"{product} {each.source.version} ({boot.status.value})"
            return boot.label
    return None


def _accepted(boot: KnownBoot) -> Explanation:
    return Explanation(
        Verdict.ACCEPTED, advice.ACCEPTED.format(boot.label), known_as=boot.label
    )


def _differing(
    verdict: Verdict, difference: Difference | None, known_as: str | None
) -> Explanation:
    expected = difference.expected if difference else None
    seen = difference.seen if difference else None
    role = expected.role if expected else None
    path = expected.source.path if expected else None
    pcr = expected.pcr if expected else seen[0] if seen else None
    if verdict is Verdict.RETIRED:
        sentence = advice.RETIRED.format(known_as)
    else:
        sentence = _advice(difference, known_as)
    return Explanation(
        verdict=verdict,
        advice=sentence,
        pcr=pcr,
        role=role,
        path=path,
        expected=expected,
        measured=seen[1] if seen else None,
        known_as=known_as,
        differences=difference.count if difference else 0,
        others=_others(difference) if difference else (),
    )


def _others(difference: Difference) -> tuple[Role, ...]:
    """Return the roles of the measurements that differ besides the first."""
    first = difference.expected
    return tuple(each.role for each in difference.differing if each is not first)


def _advice(difference: Difference | None, known_as: str | None) -> str:
    """Choose the sentence for a boot that is no known one."""
    if difference is None:
        return advice.NOTHING_KNOWN
    expected = difference.expected
    if expected is None:
        pcr = difference.seen[0] if difference.seen else LUKS_PCR
        return (advice.ADDED_HEADER if pcr == LUKS_PCR else advice.ADDED).format(pcr)
    what = expected.source.path or f"the {expected.role} measurement"
    if difference.seen is None:
        is_header = expected.role is Role.LUKS
        return (advice.MISSING_HEADER if is_header else advice.MISSING).format(what)
    if expected.role in (Role.SINIT, Role.PLATFORM):
        return advice.FIRMWARE
    if expected.role is Role.LUKS:
        return advice.HEADER.format(what)
    if expected.role is Role.BOOT_INFO:
        return advice.BOOT_INFO
    if known_as is not None:
        return advice.ANOTHER.format(what, known_as)
    return advice.CHANGED.format(what)


_PRODUCTS = {Role.XEN: "Xen", Role.MLE: "tboot"}
