# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy a tboot launch was made by, and where that policy sends each module.

Default and custom policies are one mechanism: a policy is believed when its digest is
the one that was logged, and the modules' PCRs follow from its entries.
Source: tboot policy.c (verify_all_modules, verify_module, evaluate_error).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aemseal.formats.tboot_policy import PolicyType, TbootPolicy, parse_policy
from aemseal.measure.tboot_tables import (
    FALLBACK_POLICIES,
    PcrMap,
    PolicyRow,
    policies_with,
)
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError, PredictionError
from aemseal.words.events import Event

NV_INDEXES = (0x01C10131, 0x01200001)
"""Where a TPM 2.0 holds a policy; SINIT's capabilities say which one tboot takes.

Source: tboot tpm_20.c (tb_policy_index), CHANGELOG of 1.9.4.
"""

Place = tuple[int, int]
"""A module's number, from 0, and the PCR it is extended into."""


@dataclass(frozen=True, slots=True)
class LoggedPolicy:
    """The policy that a launch was made by.

    `rows` are the default policies that it may be, none for a custom one. `own` is
    the algorithm tboot hashed it with; None where no policy known gives the logged
    digest: then `policy` is a default one whose places the log may still fit.
    """

    policy: TbootPolicy
    own: HashAlgorithm | None = None
    rows: tuple[PolicyRow, ...] = ()

    @property
    def is_custom(self) -> bool:
        """Whether it is known, and none of tboot's defaults."""
        return self.own is not None and not self.rows


def recognise(
    pcr_map: PcrMap, event: Event, digest: Digest, candidates: Sequence[bytes]
) -> LoggedPolicy:
    """Find the policy whose digest tboot logged: a default one, else a candidate.

    A candidate that is no policy is passed over, as tboot does. PredictionError for
    one that does not measure its own bytes: its digest says nothing about them.
    """
    rows = policies_with(digest, pcr_map.name)
    if rows:
        return LoggedPolicy(rows[0].policy, rows[0].own, rows)
    for policy in parsed_policies(candidates):
        own = _own_algorithm(policy, digest)
        if own is None:
            continue
        if not policy.measures_itself:
            raise PredictionError(
                f"tboot's policy (event {event.number}) does not measure itself: "
                "nothing shows which of its entries this boot had",
                "make the policy with tb_polgen --ctrl 0x1",
            )
        return LoggedPolicy(policy, own)
    return LoggedPolicy(FALLBACK_POLICIES[pcr_map.name])


def places(policy: TbootPolicy, pcr_map: PcrMap, modules: int) -> tuple[Place, ...]:
    """Return what is extended for this many modules, in order.

    Module 0 first of all, where no policy has a say; then each module, 0 again, by its
    entry. Entries of NV indexes name no module. A PCR may be any, 0 to 23.
    """
    if not modules:
        return ()
    found = [(0, pcr_map.xen)]
    for number in range(modules):
        pcr = _pcr_of(policy, number)
        if pcr is not None:
            found.append((number, pcr))
    return tuple(found)


def unmeasured(
    policy: TbootPolicy, modules: int, pcrs: Iterable[int]
) -> tuple[int, ...]:
    """Return the modules that the policy puts into none of these PCRs; never 0."""
    covered = set(pcrs)
    return tuple(
        number for number in range(1, modules) if _pcr_of(policy, number) not in covered
    )


def is_listed(policy: TbootPolicy, number: int, digest: Digest) -> bool:
    """Whether a module's hash is one of those that its entry allows.

    True where there is no entry or any hash will do. tboot compares as many bytes as
    the list's algorithm gives, whatever algorithm `digest` is of (its own).
    """
    entry = policy.entry_for(number)
    if entry is None or entry.hashes is None:
        return True
    return digest.value[: policy.list_algorithm.size] in entry.hashes


def halts_unlisted(policy: TbootPolicy) -> bool:
    """Whether tboot halts for a hash that is not listed; else it goes on."""
    return policy.type is PolicyType.HALT


def halts_without_entry(policy: TbootPolicy, number: int) -> bool:
    """Whether tboot halts for a module that no entry names; else it is not measured."""
    return policy.entry_for(number) is None and policy.type is not PolicyType.CONTINUE


def _pcr_of(policy: TbootPolicy, number: int) -> int | None:
    entry = policy.entry_for(number)
    return None if entry is None else entry.pcr


def parsed_policies(candidates: Sequence[bytes]) -> Iterator[TbootPolicy]:
    """Yield those that are policies; tboot passes over what is none."""
    for data in candidates:
        try:
            yield parse_policy(data)
        except FormatError:
            continue


def _own_algorithm(policy: TbootPolicy, logged: Digest) -> HashAlgorithm | None:
    """Return the algorithm with which the policy gives the digest, if one does.

    It is the bank's (TPM 1.2, extpol with one algorithm) or SHA-256 (agile, embedded).
    """
    bank = logged.algorithm
    for own in dict.fromkeys((bank, HashAlgorithm.SHA256)):
        for since_1_8 in (True, False):
            if policy.digest(bank, own, since_1_8=since_1_8) == logged:
                return own
    return None
