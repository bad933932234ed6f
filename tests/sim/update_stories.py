# SPDX-License-Identifier: GPL-2.0-or-later
"""A story: one machine, updated again and again, each next boot predicted and held.

The first boot is surveyed while its files are there. An update then overwrites files
under the running boot, the next boot is predicted with what was kept of the running
one, and booted. After a boot that was refused the story goes on from there, as with
an owner who accepts it; a machine that does not come up gets its files back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from random import Random

from tpm_sim import wire
from tpm_sim.disk import Disk
from tpm_sim.errors import SimulationError
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import PolicyRule, TbootModel
from tpm_sim.policy_tool import make_policy
from tpm_sim.tboot_policy import NV_INDEX
from update_changes import Machine as Known
from update_changes import changed, first_setup
from update_checks import Case, End
from update_reasons import reasons_of
from update_setups import Setup

from aemseal.flows.survey import Survey, refuse_unpredicted, survey_against
from aemseal.measure.baseline import Baseline
from aemseal.measure.claims import Calibrated, Prediction
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    AemsealError,
    LogError,
    PredictionError,
    ReplayError,
    SelectionError,
)
from aemseal.world.host import LiveHost

LAUNCHED = (17, 18, 19, 20)


class Outcome(Enum):
    """What became of a prediction."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"
    UNLISTED = "unlisted"
    """Refused for a reason that is not listed, or is not true of the update."""


@dataclass(frozen=True)
class Update:
    """One update of a story, as the table at the end counts it.

    `is_needless` is whether all that was refused came out as it had been. `trouble` is
    what a person has to see of an outcome that must not be.
    """

    machine: str
    number: int
    changes: tuple[str, ...]
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    is_needless: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Claim:
    """What is said of the next boot: values, and why others are not known.

    `boot` is what is kept of it where it can be sealed to.
    """

    values: Mapping[int, Digest]
    refused: Mapping[int, tuple[str, ...]]
    boot: Baseline | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every reason once."""
        return tuple(dict.fromkeys(e for each in self.refused.values() for e in each))


class Laptop:
    """A simulated machine, and what the predictor sees of it."""

    def __init__(self, machine: Machine) -> None:
        banks = machine.model.banks
        wished = HashAlgorithm.SHA256
        self._bank = wished if wished in banks else banks[0]
        self._machine = machine
        self._setup: Setup | None = None

    def write(self, setup: Setup) -> None:
        """Overwrite /boot, and the policy in the TPM; the machine may be running."""
        before, self._setup = self._setup, setup
        setup.write(self._machine.root, before)
        if before is not None and before.policy_number != setup.policy_number:
            self._write_policy(setup.policy)
            setup.write(self._machine.root, setup)

    def _write_policy(self, rules: tuple[PolicyRule, ...]) -> None:
        """Make a policy of the files as they are; none where tb_polgen cannot.

        GRUB, which says what those files are, uses the next entry up.
        """
        model = self._machine.model
        assert isinstance(model, TbootModel)
        if not rules and not model.policy_rules:
            self._machine.tpm.send(wire.nv_undefine(NV_INDEX))
            return
        made = replace(model, policy_rules=rules or model.policy_rules)
        disk = Disk(self._machine.root, self._machine.cache)
        with suppress(SimulationError):
            self._machine.tpm.write_nv(NV_INDEX, make_policy(disk, made))

    def provision(self) -> None:
        """Put the owner's policy into the TPM, of the files as they are."""
        self._machine.provision_policy()

    def boot(self) -> End:
        """Switch the machine off and on; say what became of that."""
        self._machine.power_off()
        try:
            launch = self._machine.boot().launch
        except SimulationError:
            return End.STOPPED
        if not launch.is_measured:
            return End.UNMEASURED
        return End.MEASURED

    def values(self) -> dict[int, Digest]:
        """The PCRs of the launch now."""
        bank = self._machine.tpm.read_pcrs(self._bank)
        return {pcr: bank[pcr] for pcr in LAUNCHED}

    def selection(self) -> PcrSelection:
        """Select all that the launch extended."""
        zero = self._bank.zero()
        pcrs = {pcr for pcr, value in self.values().items() if value != zero}
        return PcrSelection.of(self._bank, pcrs)

    def survey(
        self,
        wish: PcrSelection,
        baseline: Baseline | None = None,
        staged: Baseline | None = None,
    ) -> Survey:
        """Look at the running boot with what was kept, read back as from the disk."""
        host = LiveHost(
            self._machine.root, self._pcrs, read_nv=self._machine.tpm.read_nv
        )
        others = [] if staged is None else [_read_back(staged)]
        kept = None if baseline is None else _read_back(baseline)
        return survey_against(host, kept, wish, others)

    def _pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        return PcrBank(algorithm, dict(self._machine.tpm.read_pcrs(algorithm)))


def _read_back(baseline: Baseline) -> Baseline:
    return Baseline.from_json(baseline.to_json())


def story(seed: str, machine: str, number: int, updates: int) -> Iterator[Update]:
    """Tell a story of so many updates; the same words always tell the same one."""
    random = Random(f"{seed} {machine} {number}")
    model = MACHINES[machine]
    with (
        tempfile.TemporaryDirectory(prefix="updates-") as folder,
        Machine(model, Path(folder)) as made,
    ):
        laptop = Laptop(made)
        setup = first_setup(random, model)
        laptop.write(setup)
        laptop.provision()
        yield from Story(random, machine, laptop, setup).tell(updates)


class Story:
    """A machine's story, as far as it has come."""

    def __init__(
        self, random: Random, machine: str, laptop: Laptop, setup: Setup
    ) -> None:
        self._random = random
        self._machine = machine
        self._laptop = laptop
        self._setup = setup
        self._earlier = [setup]
        self._wish = PcrSelection(HashAlgorithm.SHA256, (17,))
        self._baseline: Baseline | None = None
        self._staged: Baseline | None = None

    def tell(self, updates: int) -> Iterator[Update]:
        """Boot, then update, predict and boot again, so many times."""
        assert self._laptop.boot() is End.MEASURED
        self._accept()
        for number in range(1, updates + 1):
            yield self._update(number)

    def _accept(self) -> None:
        """Enrol in the running boot, or confirm it: its files explain it now.

        With a log that cannot be read nothing is known of it; then every prediction
        is refused until another tboot runs.
        """
        self._wish = self._laptop.selection()
        self._baseline, self._staged = None, None
        try:
            look = self._laptop.survey(self._wish)
        except (ReplayError, SelectionError, LogError):
            return
        seen = {each.calibrated for each in look.calibration.measured}
        assert seen == {Calibrated.NOW}, (
            f"the running boot is not explained:\n{self._setup}"
        )
        self._baseline = look.running

    def _update(self, number: int) -> Update:
        known = Known(MACHINES[self._machine], self._earlier)
        after, changes = changed(self._random, self._setup, known)
        if self._random.random() < 0.1:  # updated twice before the reboot
            self._laptop.write(after)
            self._claim()
            after, more = changed(self._random, after, known)
            changes = [*changes, *more]
        self._laptop.write(after)
        claim = self._claim()
        old = self._laptop.values()
        end = self._laptop.boot()
        new = self._laptop.values() if end is not End.STOPPED else {}
        case = Case(self._setup, after, end, old, new)
        update = judge(claim, case, self._machine, number, tuple(changes))
        self._go_on(update, claim, case)
        return update

    def _claim(self) -> Claim:
        """Predict the next boot as `reseal` does."""
        selected = self._wish.pcrs
        try:
            look = self._laptop.survey(self._wish, self._baseline, self._staged)
            prediction = look.predict(None, hook=False)
        except AemsealError as error:
            sentence = f"{type(error).__name__}: {error.message}"
            return Claim({}, dict.fromkeys(selected, (sentence,)))
        prediction = refuse_unpredicted(prediction, self._wish)
        refused: dict[int, tuple[str, ...]] = {}
        for each in prediction.refusals:
            if each.pcr in self._wish:
                refused[each.pcr] = (*refused.get(each.pcr, ()), each.reason)
        return _claim_of(prediction, self._wish, refused)

    def _go_on(self, update: Update, claim: Claim, case: Case) -> None:
        """Confirm the new boot, or accept it; bring a machine up that is not.

        A boot that came as predicted may stay unconfirmed for one more update.
        """
        if case.end is not End.MEASURED:
            self._laptop.write(self._setup)
            assert self._laptop.boot() is End.MEASURED
            self._accept()
            return
        self._setup = case.after
        self._earlier.append(case.after)
        may_wait = update.outcome is Outcome.RIGHT and self._staged is None
        if may_wait and self._random.random() < 0.2:
            self._staged = claim.boot
        else:
            self._accept()


def _claim_of(
    prediction: Prediction,
    wish: PcrSelection,
    refused: Mapping[int, tuple[str, ...]],
) -> Claim:
    bank = prediction.bank(wish.algorithm).values
    values = {pcr: bank[pcr] for pcr in wish.pcrs if pcr not in refused}
    if refused:
        return Claim(values, refused)
    try:
        prediction.require(wish)
    except PredictionError as error:
        sentence = f"PredictionError: {error.message}"
        return Claim({}, dict.fromkeys(wish.pcrs, (sentence,)))
    return Claim(values, {}, Baseline.of_prediction(prediction))


def judge(
    claim: Claim, case: Case, machine: str, number: int, changes: tuple[str, ...]
) -> Update:
    """Hold what was claimed against what the TPM holds then."""
    wrong = {pcr for pcr, value in claim.values.items() if case.new.get(pcr) != value}
    listed, meanings = True, []
    for sentence in claim.sentences:
        for found in reasons_of(sentence):
            if found is None or not found[0].is_true(case, found[1]):
                listed = False
            else:
                meanings.append(found[0].meaning)
    outcome = Outcome.REFUSED if claim.refused else Outcome.RIGHT
    if wrong:
        outcome = Outcome.WRONG
    elif not listed:
        outcome = Outcome.UNLISTED
    return Update(
        machine=machine,
        number=number,
        changes=changes,
        outcome=outcome,
        reasons=tuple(dict.fromkeys(meanings)),
        is_needless=bool(claim.refused)
        and case.end is End.MEASURED
        and not any(map(case.is_changed, claim.refused)),
        trouble=_trouble(claim, case, wrong)
        if outcome in (Outcome.WRONG, Outcome.UNLISTED)
        else "",
    )


def _trouble(claim: Claim, case: Case, wrong: set[int]) -> str:
    lines = [f"the next boot: {case.end.value}"]
    lines += [
        f"PCR {pcr}: predicted {claim.values[pcr].hex}, in the TPM "
        f"{case.new[pcr].hex if pcr in case.new else 'nothing'}"
        for pcr in sorted(wrong)
    ]
    lines += [f"refused: {sentence}" for sentence in claim.sentences]
    lines += ["before:", str(case.before), "after:", str(case.after)]
    return "\n".join(lines)
