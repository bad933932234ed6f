# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot on Intel TXT: which event is of which file, and which file makes which event.

SINIT extends its own events and the MLE (tboot itself, 0x404); tboot then extends
0x501 records: its policy, then every module that GRUB loaded but SINIT modules and
its LCP policy data, in order. Which PCRs: `tboot_tables.MAPS`.
Source: tboot policy.c (set_policy, verify_all_modules, hash_module), integrity.c
(extend_pcrs), loader.c (remove_txt_modules); the events' types: words/events.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.formats.acm import (
    LCP_POLICY_DATA,
    LCP_POLICY_DATA_V1,
    LCP_SIGNATURE,
    LCP_UUID,
    SINIT_ACM,
)
from aemseal.measure.boot_entry import BootEntry, BootModule, Role
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.measure.launch import (
    Facts,
    LoggedExtend,
    MeasuredFile,
    carried,
    file_source,
    from_source,
)
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.tboot_tables import (
    MAPS,
    PcrMap,
    PolicyRow,
    parse_version,
    policies_with,
)
from aemseal.words.digest import DYNAMIC_PCRS, Digest, Digests, HashAlgorithm
from aemseal.words.errors import PredictionError
from aemseal.words.events import (
    TBOOT_MEASUREMENT,
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_MLE_HASH,
    TXT_SINIT_PUBKEY_HASH,
    Event,
)
from aemseal.words.wanted import (
    NOTE_TBOOT_SKIPS,
    NOTE_TBOOT_VERSION,
    NOTE_XEN_VERSION,
    FileFacts,
)

STACK = "tboot"

_SINIT_TYPES = frozenset({TXT_HASH_START, TXT_COMBINED_HASH, TXT_SINIT_PUBKEY_HASH})
_MODULE_ROLES = (Role.XEN, Role.KERNEL, Role.INITRAMFS)

_POLICY_DATA_MARKS = (
    (LCP_POLICY_DATA_V1, LCP_UUID),
    (LCP_POLICY_DATA, LCP_SIGNATURE),
)
"""In tboot's order of looking, with the bytes it compares."""


@dataclass(frozen=True, slots=True)
class TbootLaunch:
    """A verified log read by tboot's rules: every extend of PCR 17 to 22 in order.

    `before_tboot` is what SINIT extended, exactly one MLE among it.
    """

    pcr_map: PcrMap
    algorithm: HashAlgorithm
    before_tboot: tuple[LoggedExtend, ...]
    policy: tuple[LoggedExtend, ...]
    modules: tuple[LoggedExtend, ...]

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
        """Every PCR that tboot's own measurements go to on this map."""
        return frozenset(self.pcr_map.pcrs)

    @property
    def module_roles(self) -> frozenset[Role]:
        """All modules, Xen among them, are hashed by one rule."""
        return frozenset({*_MODULE_ROLES, Role.MODULE})

    @property
    def extends(self) -> tuple[LoggedExtend, ...]:
        """All of them, in the order of the log."""
        return self.before_tboot + self.policy + self.modules

    @property
    def of_files(self) -> tuple[LoggedExtend, ...]:
        """The MLE, then the modules."""
        return self.mle, *self.modules

    def files(self, entry: BootEntry, facts: Facts) -> tuple[MeasuredFile, ...]:
        """Return what a boot entry makes tboot measure: the MLE, then each module.

        A file without facts has no digest; it is taken for one that tboot measures.
        """
        return measured_files(entry, facts, self.algorithm)

    def digest_of(self, role: Role, source: Source) -> Digest:
        """Return a file's digest: the MLE's own, a module's with its command line."""
        image = source.file_digests[self.algorithm]
        return image if role is Role.MLE else module_hash(source.cmdline or b"", image)

    def explain(
        self, extend: LoggedExtend, files: Sequence[Measurement]
    ) -> Measurement:
        """Explain SINIT's own events as carried, the policy by the running version."""
        if extend.role is not Role.POLICY:
            return carried(extend, Calibrated.NOW)
        if not self.fitting_policies(files[0].source.version):
            return carried(extend, Calibrated.NO)
        source = Source(SourceKind.CONSTANT, event=extend.event.number)
        return from_source(extend, source, Calibrated.NOW)

    def fitting_policies(self, version: str | None) -> tuple[PolicyRow, ...]:
        """Return the default policies that the logged one may be.

        Those of the running tboot's version where that is known, else of any; none
        means a custom one.
        """
        rows = policies_with(self.policy[0].digest, self.pcr_map.name)
        running = parse_version(version)
        if running is None:
            return rows
        return tuple(row for row in rows if row.covers(running))


def read_launch(verified: VerifiedLog) -> TbootLaunch:
    """Give every extend of PCR 17 to 22 its role and find the PCR map.

    PredictionError, naming the event, when the log is not of tboot's default policy:
    another launcher's record, a PCR or an order that the policy does not give, or a
    PCR of the launch that does not replay.
    """
    _require_all_verified(verified)
    logged = [
        (event, digests[verified.algorithm])
        for event, digests in verified.extends
        if event.pcr in DYNAMIC_PCRS
    ]
    first = _first_of_tboot(logged)
    sinit, own = logged[:first], logged[first:]
    before = tuple(LoggedExtend(*each, _sinit_role(each[0])) for each in sinit)
    pcr_map = _map_of(before)
    policies = len(pcr_map.policy)
    _require_pattern(pcr_map, own)
    return TbootLaunch(
        pcr_map=pcr_map,
        algorithm=verified.algorithm,
        before_tboot=before,
        policy=tuple(LoggedExtend(*each, Role.POLICY) for each in own[:policies]),
        modules=tuple(
            LoggedExtend(*each, module_role(number))
            for number, each in enumerate(own[policies:])
        ),
    )


def module_role(number: int) -> Role:
    """Return the role of the measured module with this number, from 0.

    Positions, as Xen takes them: itself, dom0's kernel, its initramfs, any other.
    """
    return _MODULE_ROLES[number] if number < len(_MODULE_ROLES) else Role.MODULE


def module_hash(cmdline: bytes, image: Digest) -> Digest:
    """Return what tboot >= 1.9.4 extends for a module: H(H(cmdline) || H(image)).

    `cmdline` is all that GRUB hands over, without NUL. Source: policy.c hash_module.
    """
    return image.algorithm.hash(cmdline).extended(image)


def module_hashes(cmdline: bytes, image: Digests) -> dict[HashAlgorithm, Digest]:
    """Return `module_hash` in every bank that the image's digest is given for."""
    return {
        algorithm: module_hash(cmdline, digest) for algorithm, digest in image.items()
    }


def measured_files(
    entry: BootEntry, facts: Facts, algorithm: HashAlgorithm
) -> tuple[MeasuredFile, ...]:
    """Return what a boot entry makes tboot measure: the MLE, then each module.

    A file without facts has no digest here; it is taken for one that tboot measures.
    """
    kernel = facts.get(entry.mle_wanted)
    mle = MeasuredFile(
        Role.MLE,
        kernel.digests.get(algorithm) if kernel else None,
        file_source(entry.kernel, entry.mle_wanted, kernel, NOTE_TBOOT_VERSION),
    )
    return mle, *(
        _measured_module(module_role(number), module, facts, algorithm)
        for number, module in enumerate(_left_by_tboot(entry.modules, facts))
    )


def _measured_module(
    role: Role, module: BootModule, facts: Facts, algorithm: HashAlgorithm
) -> MeasuredFile:
    known = facts.get(module.wanted)
    digests = module_hashes(module.cmdline, known.digests if known else {})
    source = file_source(module, module.wanted, known, NOTE_XEN_VERSION)
    return MeasuredFile(role, digests.get(algorithm), source)


def _left_by_tboot(modules: Sequence[BootModule], facts: Facts) -> list[BootModule]:
    """Return what is measured: without SINIT modules and one LCP policy data file.

    The first module always is. Source: loader.c, remove_txt_modules.
    """
    left = [
        module
        for number, module in enumerate(modules)
        if number == 0 or not _looks_like(SINIT_ACM, facts.get(module.wanted))
    ]
    found = _find_policy_data([facts.get(module.wanted) for module in left])
    if found is not None:
        del left[found]
    return left


def _find_policy_data(modules: Sequence[FileFacts | None]) -> int | None:
    """Return the number of the module that tboot takes for its LCP policy data.

    It looks from the last module to the second, for data of version 0 and 1 first,
    and gives up at a module that is shorter than the mark it looks for. Source:
    loader.c, find_lcp_module and find_module.
    """
    for kind, mark in _POLICY_DATA_MARKS:
        for number in range(len(modules) - 1, 0, -1):
            module = modules[number]
            if module is not None and module.size < len(mark):
                break
            if _looks_like(kind, module):
                return number
    return None


def _looks_like(kind: str, facts: FileFacts | None) -> bool:
    return facts is not None and facts.notes.get(NOTE_TBOOT_SKIPS) == kind


def _require_all_verified(verified: VerifiedLog) -> None:
    """Refuse a log of which only some PCRs were found in the TPM."""
    for event in verified.log.events:
        launched = event.is_extended and event.pcr in DYNAMIC_PCRS
        if launched and event.pcr not in verified.bank.values:
            raise PredictionError(
                f"the log's PCR {event.pcr} (event {event.number}) is not what the TPM "
                "holds, so the launch cannot be read from it"
            )


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


def _require_pattern(pcr_map: PcrMap, own: list[tuple[Event, Digest]]) -> None:
    """Refuse any order or PCR but the default policy's, naming the first event."""
    policies = len(pcr_map.policy)
    for index, (event, digest) in enumerate(own):
        if index < policies:
            fits = event.pcr == pcr_map.policy[index] and digest == own[0][1]
            what = "the policy"
        else:
            fits = event.pcr == pcr_map.module(index - policies)
            what = f"module {index - policies}"
        if not fits:
            raise PredictionError(
                f"event {event.number} puts {what} into PCR {event.pcr} with "
                f"{digest.hex[:8]}..: not what tboot's default policy does on the "
                f"{pcr_map.name} map",
                "a custom verified-launch policy is not supported",
            )
    if len(own) <= policies:
        raise PredictionError(
            f"tboot's measurements end with event {own[-1][0].number}: no module of "
            "the running boot is in the log"
        )
