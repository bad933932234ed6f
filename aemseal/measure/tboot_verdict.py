# SPDX-License-Identifier: GPL-2.0-or-later
"""What tboot's policy says of the next boot's modules, besides where they go.

A policy may list the hashes it lets pass, and may leave modules unmeasured: a boot
that tboot would halt is not predicted, one with a module that nothing covers is not
sealed to. Source: tboot policy.c (verify_module, evaluate_error), 1.7 to 1.11.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.formats.tboot_policy import TbootPolicy
from aemseal.measure.claims import Refusal, Source
from aemseal.measure.hash_start import LAUNCH_PCR
from aemseal.measure.launch import FileDigest
from aemseal.measure.tboot import TbootLaunch
from aemseal.measure.tboot_places import (
    halts_unlisted,
    halts_without_entry,
    is_listed,
    places,
    unmeasured,
)
from aemseal.words.digest import DYNAMIC_PCRS
from aemseal.words.errors import PredictionError

_UNCHECKED = (b"extpol=agile", b"extpol=embedded")
"""With these tboot measures modules and compares none of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is refused of the next boot, and what a person should know of it."""

    refusals: tuple[Refusal, ...]
    cautions: tuple[str, ...]


def judge_modules(
    launch: TbootLaunch,
    policy: TbootPolicy,
    mle: Source,
    modules: Sequence[FileDigest],
) -> Verdict:
    """Hold the next boot's modules against the policy that tboot will have.

    `mle` is the next tboot. PredictionError for a boot that tboot would halt.
    """
    for number, (file, _) in enumerate(modules):
        if halts_without_entry(policy, number):
            raise PredictionError(
                f"tboot's policy has no entry for module {number}, {file.source.path} "
                f"({file.role}): tboot would halt",
                "add the module to the policy (tb_polgen --add --num any ...)",
            )
    return Verdict(
        refusals=(
            *_unmeasured(launch, policy, modules),
            *_outside(launch, policy, len(modules)),
        ),
        cautions=_unlisted(launch, policy, mle, modules),
    )


def _unlisted(
    launch: TbootLaunch,
    policy: TbootPolicy,
    mle: Source,
    modules: Sequence[FileDigest],
) -> tuple[str, ...]:
    """Refuse the boot, or caution, for modules whose hash the policy does not list."""
    if not _compares(launch, mle):
        return ()
    cautions = []
    for number, (file, digest) in enumerate(modules):
        if is_listed(policy, number, digest):
            continue
        where = f"{file.source.path} ({file.role})"
        if halts_unlisted(policy):
            raise PredictionError(
                f"tboot's policy lists the hashes it starts: {where} is not among "
                "them, and tboot would halt",
                "add its hash to the policy (tb_polgen --add) before you reboot",
            )
        cautions.append(
            f"tboot's policy does not list the hash of {where}; it starts it all the "
            "same"
        )
    return tuple(cautions)


def _compares(launch: TbootLaunch, mle: Source) -> bool:
    """Whether tboot compares module hashes, and with digests of this very bank."""
    words = (mle.cmdline or b"").split()
    is_own = launch.logged_policy.own is launch.algorithm
    return is_own and not any(word in _UNCHECKED for word in words)


def _unmeasured(
    launch: TbootLaunch, policy: TbootPolicy, modules: Sequence[FileDigest]
) -> list[Refusal]:
    """Refuse PCR 17, which is always sealed to, for modules that no PCR covers."""
    event = launch.policy[0].event.number
    return [
        Refusal(
            LAUNCH_PCR,
            f"tboot's policy puts {modules[number][0].source.path} "
            f"({modules[number][0].role}) into no PCR of the launch: a changed one "
            "would not be noticed",
            event,
        )
        for number in unmeasured(policy, len(modules), DYNAMIC_PCRS)
    ]


def _outside(launch: TbootLaunch, policy: TbootPolicy, modules: int) -> list[Refusal]:
    """Refuse the PCRs outside 17 to 22 that the modules go to."""
    event = launch.policy[0].event.number
    pcrs = {pcr for _, pcr in places(policy, launch.pcr_map, modules)}
    return [
        Refusal(
            pcr,
            f"tboot's policy puts modules into PCR {pcr}, which the launch does not "
            "reset: what else is in it is not known",
            event,
        )
        for pcr in sorted(pcrs - set(DYNAMIC_PCRS))
    ]
