# SPDX-License-Identifier: GPL-2.0-or-later
"""What every launch stack says of a verified log, whichever launcher wrote it.

A stack (tboot, TrenchBoot) reads a log as a `Launch`: which extend is of which part of
the boot, which of them a file of the boot entry makes, and by which rule. Calibration
holds that against the files that are there; nothing here knows a launcher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aemseal.measure.boot_entry import BootEntry, BootModule, Role
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.replay import VerifiedLog
from aemseal.words.digest import DYNAMIC_PCRS, Digest, HashAlgorithm
from aemseal.words.errors import BootFileError, PredictionError
from aemseal.words.events import Event
from aemseal.words.wanted import (
    NOTE_MLE_CAPABILITIES,
    NOTE_PACKING,
    NOTE_TBOOT_SKIPS,
    NOTE_TBOOT_VERSION,
    NOTE_XEN_VERSION,
    FileFacts,
    Wanted,
)

Facts = Mapping[Wanted, FileFacts]


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """What the running system says of its own boot, besides log and PCRs.

    It is believed where a measurement covers it, and else only as far as a person
    would: it may make a prediction refuse, never make one up. None or empty is
    unknown. `xen_cmdline` and `dom0_cmdline` are bytes without NUL, `xen_build_id` is
    hex, `policies` are candidates for tboot's policy, as bytes. `stored_policies` are
    what the TPM holds now where tboot looks for one: the next boot's, if it is any.
    """

    xen_cmdline: bytes | None = None
    dom0_cmdline: bytes | None = None
    xen_build_id: str | None = None
    policies: tuple[bytes, ...] = ()
    stored_policies: tuple[bytes, ...] = ()


UNTOLD = RunningSystem()

_WITH_A_FIELD = frozenset(
    {
        NOTE_MLE_CAPABILITIES,
        NOTE_PACKING,
        NOTE_TBOOT_SKIPS,
        NOTE_TBOOT_VERSION,
        NOTE_XEN_VERSION,
    }
)
"""Notes that a Source has a field for, or that decide what is measured at all."""


@dataclass(frozen=True, slots=True)
class LoggedExtend:
    """One extend of the running boot, with the meaning its launcher's rules give it."""

    event: Event
    digest: Digest
    role: Role

    @property
    def pcr(self) -> int:
        """The PCR it went to."""
        return self.event.pcr


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """One measurement that a boot entry's file makes, its PCR not yet given.

    `digest` is what is extended; None when the file could not be read any more.
    """

    role: Role
    digest: Digest | None
    source: Source


FileDigest = tuple[MeasuredFile, Digest]


class Launch(Protocol):
    """A verified log, read by the rules of the launcher that wrote it."""

    @property
    def stack(self) -> str:
        """The launcher, as the JSON names it: "tboot", "trenchboot-txt", ..."""

    @property
    def map(self) -> str:
        """The PCR map, as the JSON names it: "legacy" or "da"."""

    @property
    def algorithm(self) -> HashAlgorithm:
        """The bank that was verified."""

    @property
    def default_pcrs(self) -> frozenset[int]:
        """What a selection holds besides PCR 13, unless the user says otherwise."""

    @property
    def module_roles(self) -> frozenset[Role]:
        """The roles that one and the same rule gives, for modules of any kind."""

    @property
    def extends(self) -> tuple[LoggedExtend, ...]:
        """Every extend of PCR 17 to 22, in the order of the log."""

    @property
    def of_files(self) -> tuple[LoggedExtend, ...]:
        """Those that files of the boot entry make, in the order of `files`."""

    def files(self, entry: BootEntry, facts: Facts) -> tuple[MeasuredFile, ...]:
        """Return what this launcher measures of a boot entry's files.

        A file without facts has no digest.
        """

    def digest_of(self, role: Role, source: Source) -> Digest:
        """Apply the role's rule to what is kept of a file; KeyError without a digest.

        The digest is in the bank of this launch.
        """

    def explain(
        self, extend: LoggedExtend, files: Sequence[Measurement]
    ) -> Measurement:
        """Explain an extend that no file makes: by a constant, or as carried over.

        `files` are the explained ones, in the order of `of_files`.
        """


@dataclass(frozen=True, slots=True)
class NextLaunch:
    """What a stack predicts for the next launch, in order; see claims.Prediction.

    `modules` are the modules' files among them, with their digests.
    """

    measurements: tuple[Measurement, ...]
    refusals: tuple[Refusal, ...]
    modules: tuple[FileDigest, ...]
    cautions: tuple[str, ...] = ()


def from_source(
    extend: LoggedExtend, source: Source, calibrated: Calibrated
) -> Measurement:
    """Return a logged extend with where it comes from."""
    digests = {extend.digest.algorithm: extend.digest}
    return Measurement(extend.pcr, digests, extend.role, source, calibrated)


def carried(extend: LoggedExtend, calibrated: Calibrated) -> Measurement:
    """Return a logged extend as one that is repeated as it was."""
    source = Source(SourceKind.CARRIED, event=extend.event.number)
    return from_source(extend, source, calibrated)


def file_source(
    module: BootModule, wanted: Wanted, facts: FileFacts | None, version: str
) -> Source:
    """Return a module's file as a source; `version` names the note that tells it."""
    notes = facts.notes if facts else {}
    return Source(
        SourceKind.FILE,
        path=module.path,
        cmdline=module.cmdline,
        version=notes.get(version),
        file_digests=facts.digests if facts else {},
        capabilities=notes.get(NOTE_MLE_CAPABILITIES),
        view=wanted.view,
        packing=notes.get(NOTE_PACKING),
        size=facts.size if facts else None,
        notes={
            name: value for name, value in notes.items() if name not in _WITH_A_FIELD
        },
    )


def require_digests(
    files: Sequence[MeasuredFile], algorithm: HashAlgorithm
) -> tuple[FileDigest, ...]:
    """Return each file with its digest; BootFileError for one that was not read."""
    pairs = []
    for each in files:
        if each.digest is None:
            raise BootFileError(f"{each.source.path} has no {algorithm} digest")
        pairs.append((each, each.digest))
    return tuple(pairs)


def require_all_verified(verified: VerifiedLog) -> None:
    """Refuse a log of which only some PCRs were found in the TPM: PredictionError."""
    for event in verified.log.events:
        launched = event.is_extended and event.pcr in DYNAMIC_PCRS
        if launched and event.pcr not in verified.bank.values:
            raise PredictionError(
                f"the log's PCR {event.pcr} (event {event.number}) is not what the TPM "
                "holds, so the launch cannot be read from it"
            )
