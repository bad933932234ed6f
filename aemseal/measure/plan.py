# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed since the last verified boot, and who answers for every changed byte.

A component is one thing that is measured: tboot with its command line, its policy,
Xen with its command line, a module, a LUKS header, an event of the firmware's. Two
boots whose PCRs differ differ in a component, in a component's place, or in which
components there are: each of the three is a change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Prediction, Source, SourceKind
from aemseal.measure.file_changes import FileChanges
from aemseal.words.digest import Digests


class OriginKind(Enum):
    """Who answers for a component's bytes; the words of the command line's JSON."""

    MEASURED = "measured"
    """They were measured in this accepted boot, in this place."""

    CONSTANT = "constant"
    """What follows from files that are measured themselves: they answer for it. Of
    tboot its own policy, of any launcher what it asks of SINIT."""

    BUILT = "built"
    """They were built here just now, where the same file was measured before."""

    UNKNOWN = "unknown"
    """Nobody: they must be accepted by name."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answers for a component, and in a sentence why."""

    kind: OriginKind
    detail: str


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that is measured: `extends` are its PCRs and digests, in order.

    `name` is the role, numbered from the second of that role on: "module 2".
    """

    name: str
    role: Role
    extends: tuple[tuple[int, Digests], ...]
    source: Source

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs it is extended into."""
        return tuple(sorted({pcr for pcr, _ in self.extends}))


@dataclass(frozen=True, slots=True)
class Change:
    """A component that is not what it was, or not where it was.

    `before` is None for an added one, `after` for one that is gone. `files` are those
    inside its image that differ, where somebody has looked.
    """

    name: str
    role: Role
    before: Component | None
    after: Component | None
    origin: Origin
    files: FileChanges | None = None

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs that it changes."""
        sides = [side.pcrs for side in (self.before, self.after) if side is not None]
        return tuple(sorted({pcr for pcrs in sides for pcr in pcrs}))

    @property
    def path(self) -> str | None:
        """Its file: the new one's, or the old one's when it is gone."""
        side = self.after or self.before
        return side.source.path if side else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change between the last verified boot and the predicted one."""

    changes: tuple[Change, ...]

    @property
    def unknown(self) -> tuple[Change, ...]:
        """The changes that nobody answers for."""
        return tuple(
            each for each in self.changes if each.origin.kind is OriginKind.UNKNOWN
        )


@dataclass(frozen=True, slots=True)
class _Here:
    """What this accepted boot answers for; nothing when it has no components."""

    components: Mapping[str, Component]
    moved: frozenset[str]

    def has_same(self, name: str, after: Component | None) -> bool:
        """Whether this boot has the component in that state, None being absent."""
        if not self.components or name in self.moved:
            return False
        here = self.components.get(name)
        return after is None if here is None else not _differ(here, after)

    def has_no(self, role: Role) -> bool:
        """Whether this boot has components, but none of the role."""
        found = [each.role for each in self.components.values()]
        return bool(found) and role not in found

    def has_file(self, after: Component) -> bool:
        """Whether this boot measured the same file in any place."""
        digests = dict(after.source.file_digests)
        return bool(digests) and any(
            digests == dict(each.source.file_digests)
            for each in self.components.values()
        )


def plan(
    before: Sequence[Measurement],
    prediction: Prediction,
    measured: Sequence[Measurement] = (),
    *,
    built: Collection[Role] = (),
) -> Plan:
    """Compare the last verified boot with the predicted one.

    `before` are the measurements of the last verified boot, `measured` those of this
    running boot if it is an accepted one (else none), both from a verified log.
    `built` are the roles whose files the caller built since: it answers for their
    bytes, not for another file, command line or place.
    """
    old = {each.name: each for each in components(before)}
    new = {each.name: each for each in components(prediction.measurements)}
    moved = _moved(before, prediction.measurements)
    here = _Here(
        components={each.name: each for each in components(measured)},
        moved=_moved(measured, prediction.measurements),
    )
    changes = []
    for name in dict.fromkeys([*new, *old]):
        one, other = old.get(name), new.get(name)
        if _differ(one, other) or name in moved:
            role = new[name].role if name in new else old[name].role
            is_built = role in built and name not in moved and _is_new_build(one, other)
            origin = _BUILT if is_built else _origin(name, other, here)
            changes.append(Change(name, role, one, other, origin))
    return Plan(tuple(changes))


def components(measurements: Sequence[Measurement]) -> tuple[Component, ...]:
    """Group a boot's measurements into components, in order of their first extend."""
    names = _names(measurements)
    grouped: dict[str, list[Measurement]] = {}
    for name, each in zip(names, measurements, strict=True):
        grouped.setdefault(name, []).append(each)
    return tuple(
        Component(
            name=name,
            role=group[0].role,
            extends=tuple((each.pcr, dict(each.digests)) for each in group),
            source=group[0].source,
        )
        for name, group in grouped.items()
    )


def _names(measurements: Iterable[Measurement]) -> list[str]:
    """Name each measurement's component; the policy is one, extended twice or once."""
    seen: dict[Role, int] = {}
    names = []
    for each in measurements:
        seen[each.role] = seen.get(each.role, 0) + 1
        number = seen[each.role]
        is_first = number == 1 or each.role is Role.POLICY
        names.append(str(each.role) if is_first else f"{each.role} {number}")
    return names


def _differ(one: Component | None, other: Component | None) -> bool:
    return one is None or other is None or one.extends != other.extends


def _moved(
    before: Sequence[Measurement], after: Sequence[Measurement]
) -> frozenset[str]:
    """Name the components that are extended in another order than before.

    Only those that both boots have, PCR by PCR: between PCRs there is no order.
    """
    old, new = _names(before), _names(after)
    both = set(old) & set(new)
    moved: set[str | None] = set()
    for pcr in {each.pcr for each in [*before, *after]}:
        first = _order(before, old, pcr, both)
        second = _order(after, new, pcr, both)
        for one, other in zip_longest(first, second):
            if one != other:
                moved |= {one, other}
    return frozenset(name for name in moved if name is not None)


def _order(
    measurements: Sequence[Measurement], names: list[str], pcr: int, both: set[str]
) -> list[str]:
    pairs = zip(measurements, names, strict=True)
    return [name for each, name in pairs if each.pcr == pcr and name in both]


_BUILT = Origin(OriginKind.BUILT, "built here just now")


def _is_new_build(one: Component | None, other: Component | None) -> bool:
    """Whether these are the same file with the same command line, but other bytes."""
    if one is None or other is None:
        return False
    old, new = one.source, other.source
    return (
        old.path is not None
        and (old.path, old.cmdline, old.view) == (new.path, new.cmdline, new.view)
        and one.pcrs == other.pcrs
    )


def _constant(after: Component) -> str:
    if after.role is not Role.POLICY:
        return "what the launcher asks of SINIT, as both files say"
    version = after.source.version or "of an unknown version"
    return f"the default policy of tboot {version}"


def _origin(name: str, after: Component | None, here: _Here) -> Origin:
    """Say who answers for a component's new state.

    This accepted boot does where it has the component in the same state: its bytes,
    command line and place, or its absence. The same bytes in another place, or with
    another command line, are not enough: Linux without Xen would pass.
    """
    if here.has_same(name, after):
        return Origin(OriginKind.MEASURED, "so it is in this accepted boot")
    if after is None:
        return Origin(OriginKind.UNKNOWN, "it is no longer part of the boot entry")
    if after.source.kind is SourceKind.CONSTANT:
        return Origin(OriginKind.CONSTANT, _constant(after))
    if after.role is Role.LUKS and here.has_no(Role.LUKS):
        return Origin(
            OriginKind.UNKNOWN, "no hook measured it in this boot: taken as it is"
        )
    if here.has_file(after):
        return Origin(
            OriginKind.UNKNOWN,
            "this boot measured the file, but with another command line or elsewhere",
        )
    return Origin(OriginKind.UNKNOWN, "nobody answers for these bytes")
