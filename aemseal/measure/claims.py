# SPDX-License-Identifier: GPL-2.0-or-later
"""A prediction as data: each measurement with its source, PCR values derived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from aemseal.measure.boot_entry import Role
from aemseal.words.digest import (
    Digest,
    Digests,
    HashAlgorithm,
    PcrBank,
    PcrSelection,
)
from aemseal.words.errors import BankError, PredictionError, SelectionError
from aemseal.words.wanted import View


class SourceKind(Enum):
    """Where a measurement comes from; the words of the command line's JSON."""

    FILE = "file"
    CMDLINE = "cmdline"
    CONSTANT = "constant"
    CARRIED = "carried"


ANOTHER_LAUNCHER = (
    "what another launcher measures is not known before its first boot: boot it once "
    "without the secret, then take the vault down and enrol there "
    "(aemseal remove, aemseal enrol text)"
)
"""The hint where the next boot is launched in another way than the running one."""


class Calibrated(Enum):
    """Whether the same rule was seen to give what the running boot measured."""

    NOW = "now"
    """Recomputed from the running boot's own files, and found in its log."""

    BASELINE = "baseline"
    """Those files are gone; enrol or the last confirm had calibrated them."""

    NO = "no"


@dataclass(frozen=True, slots=True)
class Source:
    """What a measurement is made from.

    A file carries `path`, its own digests (`file_digests`, in its view) and, where
    it has one, `cmdline`; a carried one the number of the `event` it repeats.
    `version` is the file's own word for its release, for people; `capabilities` an
    MLE header's word, as "0x627"; `view` the view that `file_digests` and `size`
    (bytes) are of, and `packing` what GRUB unpacks the file with for it. `notes` are
    the file's words that have no field here (words/wanted.py).
    """

    kind: SourceKind
    path: str | None = None
    cmdline: bytes | None = None
    event: int | None = None
    version: str | None = None
    file_digests: Digests = field(default_factory=dict)
    capabilities: str | None = None
    view: View | None = None
    packing: str | None = None
    size: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One extend: the PCR, a digest for each bank, and why it will happen."""

    pcr: int
    digests: Digests
    role: Role
    source: Source
    calibrated: Calibrated = Calibrated.NO


@dataclass(frozen=True, slots=True)
class Refusal:
    """A PCR that cannot be known, and the reason; `event` is the log's, if any."""

    pcr: int
    reason: str
    event: int | None = None

    @property
    def sentence(self) -> str:
        """The reason, with the PCR in front unless it names it itself."""
        named = f"PCR {self.pcr}"
        is_named = self.reason.startswith(named)
        return self.reason if is_named else f"{named}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one boot measures, in order, after a dynamic launch.

    `stack` and `map` are the words of the JSON ("tboot"; "legacy" or "da").
    `cautions` are sentences on what is used for the first time: see calibrate.
    `beside` are the files that decide without being measured (measure/beside.py).
    """

    stack: str
    map: str
    entry: str
    measurements: tuple[Measurement, ...]
    refusals: tuple[Refusal, ...] = ()
    cautions: tuple[str, ...] = ()
    beside: tuple[Source, ...] | None = None

    @property
    def is_complete(self) -> bool:
        """No PCR was refused."""
        return not self.refusals

    @property
    def is_calibrated(self) -> bool:
        """No measurement is uncalibrated."""
        return all(each.calibrated is not Calibrated.NO for each in self.measurements)

    def bank(self, algorithm: HashAlgorithm) -> PcrBank:
        """Replay the measurements; refused PCRs are absent from the result.

        PCR 13 starts at 00.. from power-on, 17 to 22 at 00.. from the launch; the
        PCRs that no measurement extends are absent too. BankError when a measurement
        has no digest in this bank.
        """
        refused = {refusal.pcr for refusal in self.refusals}
        values: dict[int, Digest] = {}
        for each in self.measurements:
            if each.pcr in refused:
                continue
            digest = each.digests.get(algorithm)
            if digest is None:
                raise BankError(
                    f"the {each.role} measurement into PCR {each.pcr} has no digest "
                    f"in the {algorithm} bank"
                )
            before = values.get(each.pcr, algorithm.zero())
            values[each.pcr] = before.extended(digest)
        return PcrBank(algorithm, values)

    def require(
        self, selection: PcrSelection, unchecked: frozenset[Role] = frozenset()
    ) -> Mapping[int, Digest]:
        """Return the value of every PCR selected.

        PredictionError when one is refused, when nothing extends it, or when a
        measurement of it was never calibrated and its role is not in `unchecked`.
        """
        for refusal in self.refusals:
            if refusal.pcr in selection:
                raise PredictionError(refusal.sentence)
        bank = self.bank(selection.algorithm)
        for pcr in selection.pcrs:
            if pcr not in bank.values:
                raise PredictionError(
                    f"PCR {pcr} is selected, and nothing predictable extends it",
                    f"take {pcr} out of the selection ({selection})",
                )
        for each in self.measurements:
            if each.role in unchecked or each.pcr not in selection:
                continue
            if each.calibrated is Calibrated.NO:
                raise PredictionError(
                    f"the rule for {each.role} (PCR {each.pcr}) could not be checked "
                    "against the running boot",
                    "reboot into the current files, confirm, and try again",
                )
        return {pcr: bank.values[pcr] for pcr in selection.pcrs}


def require_covered(
    measurements: Iterable[Measurement], selection: PcrSelection
) -> None:
    """Raise SelectionError when a file is measured into a PCR outside the selection.

    Who changed that file would be shown the secret all the same.
    """
    for each in measurements:
        if each.source.kind is SourceKind.FILE and each.pcr not in selection:
            raise SelectionError(
                f"PCR {each.pcr} is not in the selection {selection}: a changed "
                f"{each.role} ({each.source.path}) would not be noticed",
                f"add {each.pcr} to the selection",
            )
