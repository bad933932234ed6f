# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot of which a part could not be predicted, held against what came.

Where a PCR cannot be known nothing is staged and the next boot is blind. What of it was
known is kept, and says afterwards whether the rest is as it was to be. That is no
acceptance: the part that nobody could know may be anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.measure import advice
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Prediction, Refusal, SourceKind
from aemseal.measure.differences import (
    Difference,
    Seen,
    first_difference,
    fits,
    in_order,
)
from aemseal.words.digest import PCR_COUNT, PcrSelection
from aemseal.words.errors import EvidenceError

Json = dict[str, object]

MOST_REFUSALS = 64
"""Far more than a prediction makes: one an event, at most some twenty of them."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A prediction that could not be sealed to: its measurements, and what it refused.

    `time` is when it was made (UTC, ISO 8601). ValueError when nothing was refused.
    """

    boot: Baseline
    refusals: tuple[Refusal, ...]
    time: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.refusals) <= MOST_REFUSALS:
            raise ValueError(f"{len(self.refusals)} refusals")

    @classmethod
    def of(
        cls, prediction: Prediction, selection: PcrSelection, time: str
    ) -> Foreseen | None:
        """Return what is known of a predicted boot, None where nothing was refused.

        Only what is selected counts, MOST_REFUSALS of them: what is refused beyond
        that is taken for known, and will not be as predicted.
        """
        refusals = [each for each in prediction.refusals if each.pcr in selection]
        if not refusals:
            return None
        boot = Baseline.of_prediction(prediction)
        return cls(boot, tuple(refusals[:MOST_REFUSALS]), time)

    @property
    def unknown(self) -> tuple[Measurement, ...]:
        """The measurements that were refused, and what may have moved with them.

        That is what is carried over behind a refused one in its PCR: TrenchBoot's
        tables hold addresses, as the multiboot information in front of them. A refusal
        that names no event of theirs is of its whole PCR.
        """
        found: dict[int, Measurement] = {}
        for refusal in self.refusals:
            in_pcr = [
                (at, each)
                for at, each in enumerate(self.boot.measurements)
                if each.pcr == refusal.pcr
            ]
            named = [
                at
                for at, each in in_pcr
                if refusal.event is not None and each.source.event == refusal.event
            ]
            found.update(
                (at, each)
                for at, each in in_pcr
                if not named
                or at in named
                or (at > named[0] and each.source.kind is SourceKind.CARRIED)
            )
        return tuple(found[at] for at in sorted(found))

    def held_against(
        self, launch: Sequence[Seen], selection: PcrSelection, *, with_luks: bool
    ) -> Held:
        """Hold a boot's extends, the LUKS headers' last, against what was known."""
        known = [each for each in self.boot.measurements if each.pcr in selection]
        unknown = self.unknown

        def fit(seen: Seen, expected: Measurement) -> bool:
            is_open = any(each is expected for each in unknown)
            return fits(seen, expected) or (is_open and seen[0] == expected.pcr)

        difference = first_difference(launch, in_order(known, with_luks=with_luks), fit)
        return Held(self, difference)

    def to_json(self) -> Json:
        """Return it as a JSON object; `from_json` reads it back."""
        return {
            "time": self.time,
            "boot": self.boot.to_json(),
            "refusals": [
                {"pcr": each.pcr, "reason": each.reason, "event": each.event}
                for each in self.refusals
            ],
        }

    @classmethod
    def from_json(cls, data: object) -> Foreseen:
        """Read a JSON object; EvidenceError when it is no such boot."""
        if not isinstance(data, dict) or not isinstance(data.get("refusals"), list):
            raise EvidenceError("the recorded prediction is not a JSON object")
        time = data.get("time")
        if not isinstance(time, str):
            raise EvidenceError("the recorded prediction has no time")
        try:
            refusals = tuple(_refusal(each) for each in data["refusals"])
            return cls(Baseline.from_json(data.get("boot")), refusals, time)
        except ValueError as error:
            raise EvidenceError(f"a recorded refusal is malformed: {error}") from None


@dataclass(frozen=True, slots=True)
class Held:
    """A boot held against what was foreseen of it, and where it parts from that."""

    foreseen: Foreseen
    difference: Difference

    @property
    def is_as_foreseen(self) -> bool:
        """Whether all that could be known is as predicted."""
        return self.difference.count == 0

    @property
    def known_words(self) -> str:
        """Name what was known of the files: "Xen, kernel, initramfs"; maybe nothing."""
        unknown = self.foreseen.unknown
        boot = self.foreseen.boot
        launched = {Role.MLE: "tboot"} if boot.stack == "tboot" else {}
        words = (
            {**_WORDS, **launched}.get(each.role)
            for each in boot.measurements
            if not any(each is other for other in unknown)
            and each.source.kind in (SourceKind.FILE, SourceKind.CMDLINE)
        )
        return ", ".join(dict.fromkeys(word for word in words if word))

    @property
    def unproven_words(self) -> str:
        """Name what could not be known, as what "nothing proves": words and "or"."""
        words = [
            _UNKNOWN_WORDS.get(each.role, f"the {each.role} measurement")
            for each in self.foreseen.unknown
        ]
        return " or ".join(dict.fromkeys(words))


_WORDS = {
    Role.SINIT: "SINIT",
    Role.SKL: "secure kernel loader",
    Role.XEN: "Xen",
    Role.KERNEL: "kernel",
    Role.INITRAMFS: "initramfs",
    Role.MODULE: "further modules",
    Role.CMDLINE: "command lines",
    Role.LUKS: "LUKS headers",
}
"""The files that a person knows by name; the launcher's own parts go with them."""


_UNKNOWN_WORDS = {
    Role.BOOT_INFO: advice.COMMAND_LINES,
    Role.XEN: advice.WHICH_XEN,
    Role.PLATFORM: advice.TABLES,
}


def _refusal(data: object) -> Refusal:
    if not isinstance(data, dict):
        raise EvidenceError("a recorded refusal is not a JSON object")
    pcr, reason, event = data.get("pcr"), data.get("reason"), data.get("event")
    numbers = [each for each in (pcr, event) if each is not None]
    if any(type(each) is not int for each in numbers) or not isinstance(reason, str):
        raise EvidenceError("a recorded refusal lacks its PCR, its reason or its event")
    if pcr is None or not 0 <= pcr < PCR_COUNT:
        raise EvidenceError(f"a recorded refusal is of PCR {pcr}")
    return Refusal(pcr, reason, event)
