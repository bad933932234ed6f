# SPDX-License-Identifier: GPL-2.0-or-later
"""Fallback boots: GRUB entries that stay accepted beside the usual one.

They are for the day on which the usual one does not start, so their kernel and
initramfs may be older. Their launcher and their Xen may not: an older one of these is
retired with the boot that had it, whatever entry starts it (docs/adr/0009).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from aemseal.flows.luks_boots import has_headers_of
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.formats.grub_config import GrubMenu
from aemseal.formats.tpm_policy import MAX_BRANCHES
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement
from aemseal.words.errors import VaultError

_PROGRAMS = frozenset({Role.SKL, Role.MLE, Role.XEN})
"""What starts dom0's kernel, and is stronger than it; SINIT is where it is a file."""

_FILES = frozenset({Role.MLE, Role.XEN, Role.KERNEL, Role.INITRAMFS, Role.MODULE})

Parts = frozenset[tuple[Role, str]]
"""Components of boots: each one's role and digests."""


def launch_parts(boots: Iterable[SealedBoot]) -> Parts:
    """Return the launchers and hypervisors of these boots.

    A file counts by its own bytes: the same Xen with another command line is the same
    Xen. tboot's are with its command line, as SINIT measures both in one.
    """
    return frozenset(
        (each.role, _digests(each))
        for boot in boots
        for each in boot.boot.measurements
        if each.role in _PROGRAMS
        or (each.role is Role.SINIT and each.source.file_digests)
    )


def _digests(measured: Measurement) -> str:
    digests = measured.source.file_digests or measured.digests
    return str(sorted(map(str, digests.values())))


def has_launch_of(boot: SealedBoot, others: Iterable[SealedBoot]) -> bool:
    """Whether a boot has no launcher and no Xen but those of the others.

    One of which neither is on record has not.
    """
    parts = launch_parts((boot,))
    return bool(parts) and parts <= launch_parts(others)


def is_named(boot: SealedBoot, titles: Collection[str]) -> bool:
    """Whether the configuration names the entry of this boot, by title or path."""
    title = boot.boot.title
    return title in titles or title.rpartition(">")[2] in titles


def titles_of(names: Iterable[str], menu: GrubMenu) -> frozenset[str]:
    """Return what the entries that the configuration names are called.

    An entry may be named by its id, which no boot on record has: the menu knows it.
    """
    wanted = frozenset(names)
    return wanted | {each.path for each in menu.entries if each.id in wanted}


def distinct(boots: Iterable[SealedBoot]) -> tuple[SealedBoot, ...]:
    """Return each boot once: entries that boot the very same cost one branch."""
    found: dict[bytes, SealedBoot] = {}
    for boot in boots:
        found.setdefault(boot.policy, boot)
    return tuple(found.values())


def marked(
    state: VaultState, usual: SealedBoot | None, fallbacks: Collection[SealedBoot]
) -> VaultState:
    """Mark those known boots that the fallback entries boot with the files of now.

    `usual` is the boot that GRUB starts by itself, which is no fallback; None where it
    was not looked at. What an entry booted before keeps its mark until the new boot is
    confirmed, and loses it here where that new boot is accepted already, or is known as
    the usual one or by another entry. One whose entry was not looked at keeps it.
    """
    titles = {} if usual is None else {usual.policy: (usual.boot.title, False)}
    for each in fallbacks:
        titles.setdefault(each.policy, (each.boot.title, True))
    accepted = {boot.policy for boot in state.accepted}
    to_come = {
        title
        for policy, (title, fallback) in titles.items()
        if fallback and policy not in accepted
    }
    settled = {each.boot.title for each in fallbacks} - to_come

    def mark(boot: SealedBoot) -> SealedBoot:
        if boot.policy not in titles:
            return boot
        title, fallback = titles[boot.policy]
        if not (fallback or boot.fallback):
            return boot
        return replace(boot, fallback=fallback, boot=replace(boot.boot, title=title))

    def unmark(boot: SealedBoot) -> SealedBoot:
        is_old = boot.policy not in titles and boot.boot.title in settled
        return replace(boot, fallback=boot.fallback and not is_old)

    return replace(
        state,
        accepted=tuple(unmark(mark(boot)) for boot in state.accepted),
        staged=tuple(mark(boot) for boot in state.staged),
    )


def require_room(state: VaultState) -> None:
    """Raise VaultError, naming all, when more boots are to be accepted than fit."""
    boots = (*state.accepted, *state.staged)
    if len(boots) <= MAX_BRANCHES:
        return
    names = ", ".join(boot.name for boot in boots)
    raise VaultError(
        f"{len(boots)} boots do not fit, {MAX_BRANCHES} do: {names}",
        "confirm this boot first (aemseal confirm), or take a title out of "
        "fallback_entries in /etc/aemseal.yaml",
    )


def kept_beside(
    state: VaultState,
    running: SealedBoot,
    promoted: Iterable[SealedBoot],
    titles: Collection[str],
) -> tuple[SealedBoot, ...]:
    """Return the accepted boots that stay beside the staged one that runs.

    Those are the fallbacks, but for what the `promoted` ones' entries booted before.
    When the running boot is marked as one itself, the usual boot has not shown yet that
    it starts: then what goes is the older launcher and Xen, and what this entry booted
    before.
    """
    replaced = {boot.boot.title for boot in promoted}
    if running.fallback:
        replaced.add(running.boot.title)
    return tuple(
        boot
        for boot in state.accepted
        if has_launch_of(boot, (running,))
        and has_headers_of(boot, running)
        and boot.boot.title not in replaced
        and (running.fallback or (boot.fallback and is_named(boot, titles)))
    )


def promoted_with(
    state: VaultState, running: SealedBoot, titles: Collection[str]
) -> tuple[SealedBoot, ...]:
    """Return the staged fallbacks that are accepted with the running boot."""
    return tuple(
        replace(boot, since=running.since)
        for boot in state.staged
        if boot.fallback
        and boot.policy != running.policy
        and is_named(boot, titles)
        and has_launch_of(boot, (running,))
        and has_headers_of(boot, running)
    )


def still_waiting(
    state: VaultState,
    running: SealedBoot,
    sides: tuple[tuple[SealedBoot, ...], tuple[SealedBoot, ...]],
    titles: Collection[str],
) -> tuple[SealedBoot, ...]:
    """Return the boots that stay staged; `sides` are those accepted, and retired.

    Of a fallback it is launcher and Xen that count, and when one runs, of every boot.
    One that was staged before the running boot, for a LUKS header that this one has not
    any more, goes: the header of now is measured.
    """
    accepted, retired = sides
    gone = {boot.policy for boot in (*accepted, *retired, *state.retired)}
    gone_parts = _parts(retired) - _parts((running, *accepted))
    gone_launch = launch_parts(retired) - launch_parts((running,))
    waiting = []
    is_later = False
    for boot in state.staged:
        is_later = is_later or boot.policy == running.policy
        if not is_later and not has_headers_of(boot, running):
            continue
        if boot.policy in gone or (boot.fallback and not is_named(boot, titles)):
            continue
        if boot.fallback or running.fallback:
            is_old = bool(launch_parts((boot,)) & gone_launch)
        else:
            is_old = bool(_parts((boot,)) & gone_parts)
        if not is_old:
            waiting.append(boot)
    return tuple(waiting)


def _parts(boots: Iterable[SealedBoot]) -> Parts:
    """Return what these boots are made of: each file's role and measured digests."""
    return frozenset(
        (each.role, str(sorted(map(str, each.digests.values()))))
        for boot in boots
        for each in boot.boot.measurements
        if each.role in _FILES
    )


def unnamed(
    boots: Iterable[SealedBoot], running: SealedBoot, titles: Collection[str]
) -> tuple[SealedBoot, ...]:
    """Return the fallbacks whose entry is configured no more, but the running one."""
    return tuple(
        boot
        for boot in boots
        if boot.fallback
        and boot.policy != running.policy
        and not is_named(boot, titles)
    )


def replaced_by(
    promoted: Iterable[SealedBoot], boots: Iterable[SealedBoot], running: SealedBoot
) -> tuple[SealedBoot, ...]:
    """Return what the promoted ones' entries booted before, but the running one."""
    titles = {boot.boot.title for boot in promoted}
    return tuple(
        boot
        for boot in boots
        if boot.fallback and boot.policy != running.policy and boot.boot.title in titles
    )
