# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot on Intel TXT: which event is of which file, and which file makes which event.

SINIT extends its own events and the MLE (tboot itself, 0x404); tboot then extends
0x501 records: its policy, then module 0 and whatever its policy measures. Into which
PCRs: `tboot_tables.MAPS` and `tboot_places.places`.
Source: tboot policy.c (set_policy, verify_all_modules), integrity.c (extend_pcrs);
the events' types: words/events.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.formats.tboot_policy import LARGEST_MODULE, TbootPolicy
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.measure.launch import (
    Facts,
    LoggedExtend,
    MeasuredFile,
    carried,
    from_source,
    require_all_verified,
)
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.tboot_files import (
    MODULE_ROLES,
    measured_files,
    module_hash,
    module_role,
)
from aemseal.measure.tboot_places import (
    NV_INDEXES,
    LoggedPolicy,
    Place,
    parsed_policies,
    places,
    recognise,
)
from aemseal.measure.tboot_tables import (
    MAPS,
    POLICIES,
    PcrMap,
    PolicyRow,
    parse_version,
)
from aemseal.words.digest import DYNAMIC_PCRS, NEVER_SEALED, Digest, HashAlgorithm
from aemseal.words.errors import PredictionError
from aemseal.words.events import (
    TBOOT_MEASUREMENT,
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_MLE_HASH,
    TXT_SINIT_PUBKEY_HASH,
    Event,
)

STACK = "tboot"

WHERE_POLICIES_ARE = (
    "a custom verified-launch policy is looked for in the TPM (NV index "
    f"{' or '.join(f'{index:#x}' for index in NV_INDEXES)}), and in the file that "
    "tboot_policy names in /etc/aemseal.yaml"
)

_SINIT_TYPES = frozenset({TXT_HASH_START, TXT_COMBINED_HASH, TXT_SINIT_PUBKEY_HASH})


@dataclass(frozen=True, slots=True)
class TbootLaunch:
    """A verified log read by tboot's rules: every extend of PCR 17 to 22 in order.

    `logged_policy` is the policy it was made by. `before_tboot` is what SINIT
    extended, exactly one MLE among it. `stored` are the policies that the TPM holds
    now, where tboot looks for one.
    """

    pcr_map: PcrMap
    algorithm: HashAlgorithm
    logged_policy: LoggedPolicy
    before_tboot: tuple[LoggedExtend, ...]
    policy: tuple[LoggedExtend, ...]
    modules: tuple[LoggedExtend, ...]
    stored: tuple[TbootPolicy, ...] = ()

    @property
    def mle(self) -> LoggedExtend:
        """The MLE's extend."""
        return next(each for each in self.before_tboot if each.role is Role.MLE)

    @property
    def stack(self) -> str:
        """The launcher: "tboot"."""
        return STACK

    @property
    def map(self) -> str:
        """The PCR map: "legacy" or "da"."""
        return self.pcr_map.name

    @property
    def default_pcrs(self) -> frozenset[int]:
        """Every PCR that the MLE, the policy or a module goes to; no open one."""
        entries = self.logged_policy.policy.entries
        named = {each.pcr for each in entries if not each.is_nv and each.pcr}
        return self.pcr_map.pcrs | (named & set(DYNAMIC_PCRS) - NEVER_SEALED)

    @property
    def module_roles(self) -> frozenset[Role]:
        """All modules, Xen among them, are hashed by one rule."""
        return frozenset({*MODULE_ROLES, Role.MODULE})

    @property
    def extends(self) -> tuple[LoggedExtend, ...]:
        """All of them, in the order of the log."""
        return self.before_tboot + self.policy + self.modules

    @property
    def of_files(self) -> tuple[LoggedExtend, ...]:
        """The MLE, then the modules."""
        return self.mle, *self.modules

    def files(self, entry: BootEntry, facts: Facts) -> tuple[MeasuredFile, ...]:
        """Return what a boot entry makes tboot extend: the MLE, then modules.

        They are in the policy's order; module 0 may be there twice. A file without
        facts has no digest; it is taken for one that tboot measures.
        """
        mle, *modules = measured_files(entry, facts, self.algorithm)
        policy = self.logged_policy.policy
        made = launched_places(policy, self.pcr_map, len(modules))
        return mle, *(modules[number] for number, _ in made)

    def digest_of(self, role: Role, source: Source) -> Digest:
        """Return a file's digest: the MLE's own, a module's with its command line."""
        image = source.file_digests[self.algorithm]
        return image if role is Role.MLE else module_hash(source.cmdline or b"", image)

    def explain(
        self, extend: LoggedExtend, files: Sequence[Measurement]
    ) -> Measurement:
        """Explain SINIT's own events as carried, the policy by the running version.

        A custom policy is carried too: the TPM or a file holds it, no boot file does.
        """
        if extend.role is not Role.POLICY or self.logged_policy.is_custom:
            return carried(extend, Calibrated.NOW)
        if not self.fitting_policies(files[0].source.version):
            return carried(extend, Calibrated.NO)
        source = Source(SourceKind.CONSTANT, event=extend.event.number)
        return from_source(extend, source, Calibrated.NOW)

    def fitting_policies(self, version: str | None) -> tuple[PolicyRow, ...]:
        """Return the default policies that the logged one may be.

        Those of the running tboot's version where that is known, else of any.
        """
        rows = self.logged_policy.rows
        running = parse_version(version)
        if running is None:
            return rows
        return tuple(row for row in rows if row.covers(running))


def read_launch(
    verified: VerifiedLog,
    policies: Sequence[bytes] = (),
    stored: Sequence[bytes] = (),
) -> TbootLaunch:
    """Give every extend of PCR 17 to 22 its role, and find the PCR map and the policy.

    `policies` are candidates for a custom policy: evidence is only one whose digest is
    the logged one. `stored` is what the TPM holds for the next boot. PredictionError,
    naming the event, when the log does not follow from the policy: another launcher's
    record, a PCR or an order that the policy does not give, or a PCR of the launch
    that does not replay.
    """
    require_all_verified(verified)
    logged = _extends_of_launch(verified)
    first = _first_of_tboot(logged)
    sinit, own = logged[:first], logged[first:]
    before = tuple(LoggedExtend(*each, _sinit_role(each[0])) for each in sinit)
    pcr_map = _map_of(before)
    policy = recognise(pcr_map, *own[0], policies)
    count = len(pcr_map.policy)
    made = launched_places(policy.policy, pcr_map, LARGEST_MODULE + 1)
    _require_policy(pcr_map, own[:count])
    _require_places(pcr_map, made, policy.is_custom, own[count:])
    _require_modules(count, own)
    return TbootLaunch(
        pcr_map=pcr_map,
        algorithm=verified.algorithm,
        logged_policy=policy,
        before_tboot=before,
        policy=tuple(LoggedExtend(*each, Role.POLICY) for each in own[:count]),
        modules=tuple(
            LoggedExtend(*each, module_role(number))
            for (number, _), each in zip(made, own[count:], strict=False)
        ),
        stored=tuple(parsed_policies(stored)),
    )


def has_default_policy(verified: VerifiedLog) -> bool:
    """Whether the first record of tboot's (0x501) is a default policy of any map."""
    logged = [
        digests.get(verified.algorithm)
        for event, digests in verified.extends
        if event.untrusted_type == TBOOT_MEASUREMENT
    ]
    return bool(logged) and any(row.digest == logged[0] for row in POLICIES)


def launched_places(
    policy: TbootPolicy, pcr_map: PcrMap, modules: int
) -> tuple[Place, ...]:
    """Return the policy's places in PCR 17 to 22, the only ones a launch resets."""
    made = places(policy, pcr_map, modules)
    return tuple((number, pcr) for number, pcr in made if pcr in DYNAMIC_PCRS)


def _extends_of_launch(verified: VerifiedLog) -> list[tuple[Event, Digest]]:
    """Return what was extended in the bank; caps of other banks are passed over."""
    logged = []
    for event, digests in verified.extends:
        if verified.algorithm in digests:
            logged.append((event, digests[verified.algorithm]))
        elif verified.algorithm in event.digests:
            raise PredictionError(
                f"event {event.number} ({event.name}) tells PCR {event.pcr}'s value "
                "after it and has no data: what was extended is not known"
            )
    return logged


def _first_of_tboot(logged: list[tuple[Event, Digest]]) -> int:
    """Return the index of the first 0x501; anything later must be tboot's too."""
    own = [event.untrusted_type == TBOOT_MEASUREMENT for event, _ in logged]
    if True not in own:
        raise PredictionError("the log holds no measurement of tboot's (0x501)")
    first = own.index(True)
    if False in own[first:]:
        event, _ = logged[first + own[first:].index(False)]
        raise PredictionError(
            f"event {event.number} ({event.name}) follows tboot's own measurements: "
            "nothing is known about who extended it"
        )
    return first


def _sinit_role(event: Event) -> Role:
    if event.untrusted_type == TXT_MLE_HASH:
        return Role.MLE
    return Role.SINIT if event.untrusted_type in _SINIT_TYPES else Role.PLATFORM


def _map_of(before: tuple[LoggedExtend, ...]) -> PcrMap:
    """Tell the map by where SINIT extended the MLE, which a replay does cover."""
    mles = [each for each in before if each.role is Role.MLE]
    if len(mles) != 1:
        raise PredictionError(f"the log holds {len(mles)} MLE hashes (0x404), not one")
    for pcr_map in MAPS:
        if pcr_map.mle == mles[0].pcr:
            return pcr_map
    raise PredictionError(
        f"event {mles[0].event.number} puts the MLE into PCR {mles[0].pcr}: no PCR map "
        "of tboot's does"
    )


def _require_policy(pcr_map: PcrMap, own: list[tuple[Event, Digest]]) -> None:
    """Refuse a policy in another PCR than the map's, or two that differ."""
    for pcr, (event, digest) in zip(pcr_map.policy, own, strict=False):
        if event.pcr != pcr or digest != own[0][1]:
            raise _unexpected(event, digest, "the policy", pcr_map, is_custom=False)


def _require_places(
    pcr_map: PcrMap,
    made: tuple[Place, ...],
    is_custom: bool,
    modules: list[tuple[Event, Digest]],
) -> None:
    """Refuse any order or PCR but the policy's, naming the first event."""
    for index, (event, digest) in enumerate(modules):
        number, pcr = made[index] if index < len(made) else (None, None)
        if event.pcr != pcr:
            what = "one more measurement" if number is None else f"module {number}"
            raise _unexpected(event, digest, what, pcr_map, is_custom=is_custom)


def _require_modules(policies: int, own: list[tuple[Event, Digest]]) -> None:
    if len(own) <= policies:
        raise PredictionError(
            f"tboot's measurements end with event {own[-1][0].number}: no module of "
            "the running boot is in the log"
        )


def _unexpected(
    event: Event, digest: Digest, what: str, pcr_map: PcrMap, *, is_custom: bool
) -> PredictionError:
    which = "the verified-launch policy" if is_custom else "tboot's default policy"
    return PredictionError(
        f"event {event.number} puts {what} into PCR {event.pcr} with "
        f"{digest.hex[:8]}..: not what {which} does on the {pcr_map.name} map",
        None if is_custom else WHERE_POLICIES_ARE,
    )
