# SPDX-License-Identifier: GPL-2.0-or-later
"""What tboot measures by version: its default policies, its limits, its PCR maps.

A default policy gives module 0 no PCR, every other one PCR 19 or 17 and, since 1.8.0,
NV index 0x40000010 PCR 22; where modules go follows from it as from a custom one. A
row's digest follows from its policy's bytes (tests prove each row).
Source: tboot policy.c (set_policy and the default policies), 1.7 to 1.11.12.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from aemseal.formats.tboot_policy import (
    MODULE_ANY,
    MODULE_NV_RAW,
    PCR_NONE,
    TbootPolicy,
    parse_policy,
)
from aemseal.words.digest import Digest, HashAlgorithm

LEGACY = "legacy"
DETAILS_AUTHORITIES = "da"

MOST_MEASUREMENTS = 32
"""Of tboot's own (0x501), policy included. Source: tboot policy.c, VL entries."""

SHA256_BY_DEFAULT = (1, 9, 12)
"""From here on, SHA-256 is what tboot extends where extpol is not given (CHANGELOG)."""

FIRST_SUPPORTED = (1, 9, 4)
"""Older ones drop the first word of every command line before hashing it, and below
1.8.2 that word still reached Xen. Source: tboot CHANGELOG, changeset 4e30e09."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PcrMap:
    """Which PCR the MLE, the policy and module 0 (Xen) go to, whatever the policy.

    Source: tboot policy.c, verify_g_policy and verify_all_modules; the MLE's PCR:
    Intel TXT Software Development Guide 1.10.
    """

    name: str
    mle: int
    policy: tuple[int, ...]
    xen: int

    @property
    def pcrs(self) -> frozenset[int]:
        """Every PCR that is extended whatever the policy."""
        return frozenset({self.mle, *self.policy, self.xen})


MAPS = (
    PcrMap(LEGACY, mle=18, policy=(17,), xen=18),
    PcrMap(DETAILS_AUTHORITIES, mle=17, policy=(17, 18), xen=17),
)


def _default_policy(
    algorithm: int, others: int, *, with_nv: bool = True
) -> TbootPolicy:
    """Return a default policy; `others` is the PCR of every module but the first."""
    entries = [(0, PCR_NONE, 0), (MODULE_ANY, others, 0)]
    if with_nv:
        entries.append((MODULE_NV_RAW, 22, 0x40000010))
    head = struct.pack("<BBBIIB", 2, 0, algorithm, 1, 0, len(entries))
    packed = (struct.pack("<BBBIB", *each[:2], 0, each[2], 0) for each in entries)
    return parse_policy(head + b"".join(packed))


_OLD_19 = _default_policy(0, 19, with_nv=False)
_OLD_17 = _default_policy(0, 17, with_nv=False)
_SHA1_19, _SHA1_17 = _default_policy(4, 19), _default_policy(4, 17)
_SHA256_19, _SHA256_17 = _default_policy(0x0B, 19), _default_policy(0x0B, 17)

FALLBACK_POLICIES = {LEGACY: _SHA256_19, DETAILS_AUTHORITIES: _SHA256_17}
"""Where modules go by default on each map, for a policy whose digest says nothing."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A default policy's digest: for versions from `since` to below `before`.

    `kind` tells rows apart that one machine cannot move between by changing tboot:
    the TPM's kind and the extpol option. `digest` names the bank it is extended in,
    `own` is the algorithm that tboot hashes the policy with.
    """

    since: Version
    before: Version | None
    kind: str
    map: str
    digest: Digest
    policy: TbootPolicy
    source: str

    @property
    def own(self) -> HashAlgorithm:
        """SHA-1 on TPM 1.2 and with extpol sha1, else SHA-256."""
        sha1 = self.kind in (TPM12, TPM2_SHA1)
        return HashAlgorithm.SHA1 if sha1 else HashAlgorithm.SHA256

    def covers(self, version: Version) -> bool:
        """Whether this row speaks of that version of tboot."""
        return self.since <= version and (self.before is None or version < self.before)


def _row(
    since: Version,
    before: Version | None,
    kind: str,
    map_: str,
    policy: TbootPolicy,
    hex_: str,
    source: str,
) -> PolicyRow:
    algorithm = HashAlgorithm.SHA1 if len(hex_) == 40 else HashAlgorithm.SHA256
    digest = Digest.from_hex(algorithm, hex_)
    return PolicyRow(since, before, kind, map_, digest, policy, source)


TPM12 = "TPM 1.2"
TPM2_OTHER = "TPM 2.0, extpol sha256, agile or embedded"
TPM2_SHA1 = "TPM 2.0, extpol sha1"
COMPOSITE = "TPM 2.0 with the legacy map"

_1_8, _1_9_12, _1_10 = (1, 8), (1, 9, 12), (1, 10)

POLICIES = (
    _row(
        (1,), _1_8, TPM12, LEGACY, _OLD_19,
        "9704353630674bfe21b86b64a7b0f99c297cf902",
        "logged by a Lifebook S6420 (strongSwan IMV test database)",
    ),
    _row(
        (1,), _1_8, TPM12, DETAILS_AUTHORITIES, _OLD_17,
        "fb519d3c44a45a2708b59da63cdc2461e73acf6f",
        "policy.c, in no log seen",
    ),
    _row(
        _1_8, _1_9_12, TPM12, LEGACY, _SHA1_19,
        "c3438497fda827be3b321c5309a204f0c9e53943",
        "logged by a Xeon 5600 with Xen (opencit TAHelper.java)",
    ),
    _row(
        _1_8, _1_9_12, TPM12, DETAILS_AUTHORITIES, _SHA1_17,
        "fbb1b9eab0c92ac09c2814f538b5ad02afe0eeaf",
        "policy.c, in no log seen",
    ),
    _row(
        _1_9_12, _1_10, TPM12, LEGACY, _SHA256_19,
        "c1aabfc9fd8e2ac370fc4373810279102ae730c3",
        "printed by a GM45 laptop with 1.9.12 (tboot-devel 2020-05-29)",
    ),
    _row(
        _1_9_12, _1_10, TPM12, DETAILS_AUTHORITIES, _SHA256_17,
        "7c41072ad0356c4724528df88c99ff6e8bd2ece5",
        "policy.c, in no log seen",
    ),
    _row(
        _1_10, None, TPM12, LEGACY, _SHA1_19,
        "c3438497fda827be3b321c5309a204f0c9e53943",
        "logged by a T460p with 1.10.3 (tboot-devel 2022-01-31)",
    ),
    _row(
        _1_10, None, TPM12, DETAILS_AUTHORITIES, _SHA1_19,
        "c3438497fda827be3b321c5309a204f0c9e53943",
        "policy.c, policy_12; in no log",
    ),
    _row(
        _1_8, _1_9_12, TPM2_OTHER, DETAILS_AUTHORITIES, _SHA1_17,
        "27808f64e6383982cd3bcc10cfcb3457c0b65f465f779d89b668839eaf263a67",
        "logged by RHEL 7 Xeons, quoted by their TPMs (intel-secl)",
    ),
    _row(
        _1_8, _1_9_12, TPM2_OTHER, DETAILS_AUTHORITIES, _SHA1_17,
        "ca96de412b4e8c062e570d3013d2fccb4b20250a",
        "logged by RHEL 7 Xeons, quoted by their TPMs (intel-secl)",
    ),
    _row(
        _1_8, _1_9_12, TPM2_SHA1, DETAILS_AUTHORITIES, _SHA1_17,
        "fbb1b9eab0c92ac09c2814f538b5ad02afe0eeaf",
        "policy.c, in no log seen",
    ),
    _row(
        _1_9_12, None, TPM2_OTHER, DETAILS_AUTHORITIES, _SHA256_17,
        "71be5852a14eabefebf0df0e1acc5da291883b6d4c5ab20914ed987c1daf3f91",
        "logged by an E5470 with 1.10.2 (tboot-devel 2021-08-26)",
    ),
    _row(
        _1_9_12, None, TPM2_OTHER, DETAILS_AUTHORITIES, _SHA256_17,
        "0afc07618e3739481f4c2abaf703ca4e35507e6e",
        "logged by an Ice Lake server (tboot-devel 2021-12-01)",
    ),
    _row(
        _1_9_12, None, TPM2_SHA1, DETAILS_AUTHORITIES, _SHA256_17,
        "7c41072ad0356c4724528df88c99ff6e8bd2ece5",
        "policy.c, in no log seen",
    ),
    _row(
        _1_9_12, None, COMPOSITE, LEGACY, _SHA256_19,
        "9f6449ddf2b1dda0ac1df6f42b4f96e50f66bbd41aeb6ee49766432f1e328052",
        "the rule above with alg 0x0b; no real machine has this map on a TPM 2.0",
    ),
)  # fmt: skip


def parse_version(text: str | None) -> Version | None:
    """Read "1.10.5" off a release string; None where there is none at its start."""
    match = re.match(r"\d{1,4}(?:\.\d{1,4}){1,3}", text or "")
    return tuple(map(int, match[0].split("."))) if match else None


def policies_with(digest: Digest, map_name: str) -> tuple[PolicyRow, ...]:
    """Return the rows of a map that have this digest (in its bank)."""
    return tuple(
        row for row in POLICIES if row.map == map_name and row.digest == digest
    )


def policies_of(
    kinds: Iterable[str], map_name: str, algorithm: HashAlgorithm, version: Version
) -> tuple[PolicyRow, ...]:
    """Return the default policies that a version may have, one for each digest.

    More than one means that the kinds of machine given cannot be told apart.
    """
    wanted = set(kinds)
    rows = {
        row.digest: row
        for row in POLICIES
        if row.kind in wanted
        and row.map == map_name
        and row.covers(version)
        and row.digest.algorithm is algorithm
    }
    return tuple(rows.values())
