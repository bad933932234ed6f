# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy the next tboot takes, what it extends for it, or why that is not known.

A default policy is a constant of tboot's version; a custom one stays as the TPM or a
file holds it. What tboot extends besides depends on its options and, for a TPM 2.0,
on the version's own choice of bank.
Source: tboot policy.c (set_policy, verify_g_policy), cmdline.c (get_tboot_extpol,
get_tboot_prefer_da, get_tboot_measure_nv), CHANGELOG 1.9.12 and 1.11.11.
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.formats.tboot_policy import TbootPolicy
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration
from aemseal.measure.claims import Source
from aemseal.measure.launch import FileDigest
from aemseal.measure.tboot import TbootLaunch
from aemseal.measure.tboot_tables import (
    FIRST_SUPPORTED,
    SHA256_BY_DEFAULT,
    TPM12,
    Version,
    parse_version,
    policies_of,
)
from aemseal.words.digest import Digest, HashAlgorithm

_OPTIONS = (
    b"extpol",
    b"pcr_map",
    b"measure_nv",
    b"force_tpm2_legacy_log",
    b"force_pmrs",
)
"""tboot's options that change what is extended, besides the MLE that holds them."""

_FIRST_UNKNOWN = (1, 12)
"""From here on custom policies of before 1.8.0 may be taken as they are stored."""


@dataclass(frozen=True, slots=True)
class NextPolicy:
    """The next launch's policy, and what is extended for it."""

    policy: TbootPolicy
    digest: Digest


def next_policy(
    launch: TbootLaunch, calibration: Calibration, mle: FileDigest
) -> NextPolicy | str:
    """Return the next tboot's policy, or the reason for not knowing it.

    Modules go where the policy says, so without it no PCR of tboot's is known.
    """
    running, following = running_tboot(calibration), mle[0].source
    reason = (
        _not_this_tboots(launch, running.version)
        or _stored_since(launch)
        or _unsupported(following)
    )
    if reason is not None:
        return reason
    if launch.mle.digest == mle[1]:
        return NextPolicy(launch.logged_policy.policy, launch.policy[0].digest)
    version = parse_version(following.version)
    if version is None:
        return f"{following.path} has changed and does not tell its version"
    own = launch.logged_policy.own
    found = (
        _default(launch, running.version, following, version)
        if own is None or launch.logged_policy.rows
        else _custom(launch.logged_policy.policy, own, launch.algorithm, version)
    )
    if isinstance(found, str):
        return found
    return (
        _other_options(running, following)
        or _other_bank(launch, running, following)
        or found
    )


def running_tboot(calibration: Calibration) -> Source:
    """Return what is known of the running tboot."""
    mles = (each.source for each in calibration.measured if each.role is Role.MLE)
    return next(mles)


def _not_this_tboots(launch: TbootLaunch, running: str | None) -> str | None:
    if launch.logged_policy.is_custom or launch.fitting_policies(running):
        return None
    logged = launch.policy[0]
    which = running or "its version is not known"
    return (
        f"event {logged.event.number}, a policy with {logged.digest.hex[:8]}.., is "
        f"not the default one of the running tboot ({which}), and no custom "
        "verified-launch policy was found that gives it"
    )


def _stored_since(launch: TbootLaunch) -> str | None:
    """Say that the owner put a policy into the TPM that this boot was not made by.

    Where the TPM holds the running one, too, tboot is taken to go on with it.
    """
    running = launch.logged_policy.policy.measured_bytes
    if not launch.stored or any(e.measured_bytes == running for e in launch.stored):
        return None
    return (
        "the TPM holds a verified-launch policy that the running boot did not have, "
        "and tboot may take it next: boot once with it, or remove it (tpm2_nvundefine) "
        "if tboot takes no notice of it"
    )


def _unsupported(following: Source) -> str | None:
    version = parse_version(following.version)
    if version is None or version >= FIRST_SUPPORTED:
        return None
    return (
        f"{following.path} is tboot {following.version}, which drops the first word of "
        "every command line: not supported"
    )


def _default(
    launch: TbootLaunch, running: str | None, following: Source, version: Version
) -> NextPolicy | str:
    """Return the default policy of the next version, for this kind of machine."""
    kinds = {row.kind for row in launch.fitting_policies(running)}
    name, algorithm = launch.pcr_map.name, launch.algorithm
    rows = policies_of(kinds, name, algorithm, version)
    if len(rows) != 1:
        what = "more than one may be its" if rows else "none is known"
        return (
            f"the default policy of tboot {following.version} on the {name} map in the "
            f"{algorithm} bank: {what}"
        )
    return NextPolicy(rows[0].policy, rows[0].digest)


def _custom(
    policy: TbootPolicy, own: HashAlgorithm, bank: HashAlgorithm, version: Version
) -> NextPolicy | str:
    """Return the same policy, as tboot since 1.8.0 takes it."""
    if policy.data != policy.measured_bytes and version >= _FIRST_UNKNOWN:
        return (
            "the verified-launch policy names hash algorithm 0: what this tboot makes "
            "of it is not known"
        )
    return NextPolicy(policy, policy.digest(bank, own))


def _other_options(running: Source, following: Source) -> str | None:
    """Say which option of tboot's, present or not, makes the next launch another."""
    for name in _OPTIONS:
        before, after = _words(running, name), _words(following, name)
        if before != after:
            return (
                f"tboot's option {name.decode()} changes: what it extends then is not "
                "known before that boot"
            )
    return None


def _words(source: Source, name: bytes) -> list[bytes]:
    """Return what is said of an option; without a value tboot takes no notice of it."""
    words = (source.cmdline or b"").split()
    return [word for word in words if word.startswith(name + b"=")]


def _other_bank(launch: TbootLaunch, running: Source, following: Source) -> str | None:
    """Say why the next tboot may extend another bank of a TPM 2.0 by default.

    Without extpol it extends one bank: SHA-256 since 1.9.12, and before it SHA-1, by
    most accounts.
    """
    kinds = {row.kind for row in launch.fitting_policies(running.version)}
    if _words(following, b"extpol") or kinds == {TPM12}:
        return None
    before, after = _is_by_sha256(running), _is_by_sha256(following)
    if before == after or (after and launch.algorithm is HashAlgorithm.SHA256):
        return None
    return (
        f"tboot {following.version} may extend another bank than {launch.algorithm}: "
        "its command line has no extpol"
    )


def _is_by_sha256(source: Source) -> bool | None:
    version = parse_version(source.version)
    return None if version is None else version >= SHA256_BY_DEFAULT
