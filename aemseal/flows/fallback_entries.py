# SPDX-License-Identifier: GPL-2.0-or-later
"""The configured fallback entries, predicted together with the next boot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aemseal.flows.fallback import has_launch_of
from aemseal.flows.known_boots import predicted_boot
from aemseal.flows.moves import ACCEPTED, RETIRED, STAGED, UNKNOWN, standing
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.survey import Survey
from aemseal.measure.claims import Measurement, Prediction
from aemseal.measure.plan import Plan, plan
from aemseal.words.errors import AemsealError, PredictionError


class FallbackError(PredictionError):
    """A configured fallback entry boots nothing that can be accepted."""


_NO_CHANGE = Plan(())


@dataclass(frozen=True)
class FallbackBoot:
    """What a fallback entry boots, and what changes with it; `name` is as configured.

    `boot` is absent where it cannot be accepted: `problem` says why. `standing` is
    what the boot is to the vault. `plan` is held against what this entry booted when
    it was staged or accepted last, else against the running boot.
    """

    name: str
    plan: Plan = _NO_CHANGE
    boot: SealedBoot | None = None
    problem: FallbackError | None = None
    standing: str = UNKNOWN

    @property
    def is_known(self) -> bool:
        """Whether the boot is accepted or staged already."""
        return self.standing in (ACCEPTED, STAGED)

    @property
    def is_blind(self) -> bool:
        """Whether it shows no secret as things are."""
        return not self.is_known


@dataclass(frozen=True)
class FallbackReader:
    """Predicts fallback entries; `here` are the running boot's measurements.

    `usual` is the next boot, None where that cannot be known: then it is not asked
    whether launcher and Xen are the same.
    """

    look: Survey
    state: VaultState
    here: Sequence[Measurement]
    usual: SealedBoot | None

    def read(self, names: Iterable[str]) -> tuple[FallbackBoot, ...]:
        """Return what each of these entries boots; a problem spoils no other's."""
        found: list[FallbackBoot] = []
        for name in names:
            taken = [each.boot for each in found if each.boot is not None]
            try:
                found.append(self._read(name, taken))
            except AemsealError as error:
                found.append(FallbackBoot(name, problem=_refused(name, error)))
        return tuple(found)

    def _read(self, name: str, taken: Sequence[SealedBoot]) -> FallbackBoot:
        look, state = self.look, self.state
        prediction = look.predict(name, hook=True)
        known = (*state.accepted, *state.staged, *state.retired, *taken)
        known = known if self.usual is None else (*known, self.usual)
        boot = predicted_boot(prediction, look.selection, look.host.now(), known)
        if self.usual is not None and not has_launch_of(boot, (self.usual,)):
            raise PredictionError(
                "it starts another launcher or another Xen than the next boot does, "
                "and only an older kernel can stay accepted"
            )
        word = standing(state, boot.policy)
        if word == RETIRED:
            raise PredictionError(
                f"it boots {boot.name}, which is retired: that is never accepted again"
            )
        boot = replace(boot, fallback=True)
        return FallbackBoot(name, self._plan(prediction), boot, None, word)

    def _plan(self, prediction: Prediction) -> Plan:
        """Say what changed since this entry was accepted: what it had was consented to.

        Else since the running boot, which may be of another entry.
        """
        boots = (*self.state.staged, *self.state.accepted)
        earlier = [
            boot.boot.measurements
            for boot in boots
            if boot.fallback and boot.boot.title == prediction.entry
        ]
        before = self.here or self.state.baseline.measurements
        return plan(earlier[0] if earlier else before, prediction, self.here)


def _refused(name: str, error: AemsealError) -> FallbackError:
    also = "take the title out of fallback_entries in /etc/aemseal.yaml"
    hint = also if error.hint is None else f"{error.hint}; or {also}"
    return FallbackError(f"the fallback entry {name!r}: {error.message}", hint)
