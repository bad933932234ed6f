# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a boot parts from one that is known: the first measurement that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aemseal.measure.claims import Measurement
from aemseal.measure.luks import LUKS_PCR
from aemseal.measure.replay import VerifiedLog
from aemseal.words.digest import Digest

Seen = tuple[int, Digest]
"""One extend of the boot in question: its PCR and its digest."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a boot parts from a known one, and by how many measurements.

    `expected` is None where a measurement was added, `seen` where one is missing; both
    are where the two are the same. `differing` are all that were expected and did not
    come, in order.
    """

    expected: Measurement | None
    seen: Seen | None
    count: int
    differing: tuple[Measurement, ...] = ()


def seen_in(verified: VerifiedLog) -> tuple[Seen, ...]:
    """Return the launch's extends of a verified log."""
    algorithm = verified.algorithm
    return tuple((event.pcr, digests[algorithm]) for event, digests in verified.extends)


def in_order(
    measurements: Sequence[Measurement], *, with_luks: bool
) -> list[Measurement]:
    """Return a boot's measurements as it is held against: the LUKS headers last."""
    expected = [each for each in measurements if each.pcr != LUKS_PCR]
    if with_luks:
        expected += [each for each in measurements if each.pcr == LUKS_PCR]
    return expected


def first_difference(
    seen: Sequence[Seen],
    expected: Sequence[Measurement],
    fit: Callable[[Seen, Measurement], bool],
) -> Difference:
    """Find the first difference; what is equal at the end tells an added one apart.

    Where as many came as were expected, those that differ are counted; else all that
    lie between what is equal at both ends.
    """
    start = 0
    while start < min(len(seen), len(expected)) and fit(seen[start], expected[start]):
        start += 1
    end = 0
    while end < min(len(seen), len(expected)) - start and fit(
        seen[-1 - end], expected[-1 - end]
    ):
        end += 1
    came = seen[start : len(seen) - end]
    missed = expected[start : len(expected) - end]
    count = max(len(came), len(missed))
    differing = tuple(
        other for other in missed if not any(fit(one, other) for one in came)
    )
    if len(came) == len(missed):
        pairs = zip(came, missed, strict=True)
        differing = tuple(other for one, other in pairs if not fit(one, other))
        count = len(differing)
    return Difference(
        expected=missed[0] if missed else None,
        seen=came[0] if came else None,
        count=count,
        differing=differing,
    )


def fits(seen: Seen, expected: Measurement) -> bool:
    """Whether this extend is the measurement that was expected."""
    pcr, digest = seen
    return pcr == expected.pcr and expected.digests.get(digest.algorithm) == digest
