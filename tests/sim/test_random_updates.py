# SPDX-License-Identifier: GPL-2.0-or-later
"""A short run of `make updates`, and what it takes for a failure."""

from __future__ import annotations

import pytest
from random_updates import RIGHT_AT_LEAST, Task, Told, failures, plan, tell, too_few
from tpm_sim.cache import Cache
from tpm_sim.machines import MACHINES, TBOOT_DA
from update_checks import Case, End
from update_reasons import reasons_of
from update_setups import INITRAMFS, KERNEL, Form, Loaded, Setup
from update_stories import Claim, Outcome, Update, judge

from aemseal.words.digest import Digest, HashAlgorithm

UPDATES = 60
SHORT_RUN = (
    "tboot-da",
    "tboot-legacy",
    "tboot-tpm12-mle-policy",
    "tboot-gm45",
    "tboot-da-policy-each",
    "tboot-da-policy-halt",
    "tboot-da-sinit-file",
    "tboot-da-1.9.12",
    "trenchboot-skinit",
    "trenchboot-txt",
    "trenchboot-skinit-uefi",
    "trenchboot-txt-uefi",
)
RIGHT = 30
REFUSED = 5

OLD, NEW = (Digest(HashAlgorithm.SHA256, bytes([n]) * 32) for n in (1, 2))
SETUP = Setup(
    Form.MULTIBOOT,
    {"/xen.gz": b"Xen", KERNEL: b"kernel", INITRAMFS: b"initramfs"},
    Loaded("/xen.gz"),
    (Loaded(KERNEL), Loaded(INITRAMFS)),
)
GREW = "PCR 18 holds the multiboot information, and the {} grew by {} bytes"


@pytest.mark.sim
@pytest.mark.skipif(
    not Cache.default().is_filled, reason="make setup has not unpacked the packages"
)
def test_no_prediction_is_wrong_over_random_updates() -> None:
    told = [tell(task) for task in plan("a short run", UPDATES, SHORT_RUN)]
    assert failures(told) == []
    updates = [update for each in told for update in each.updates]
    assert len(updates) == UPDATES
    outcomes = [update.outcome for update in updates]
    assert outcomes.count(Outcome.RIGHT) >= RIGHT
    assert outcomes.count(Outcome.REFUSED) >= REFUSED


def case(
    after: Setup = SETUP, end: End = End.MEASURED, new: Digest = NEW, old: Digest = OLD
) -> Case:
    return Case(SETUP, after, end, {18: old}, {18: new})


def judged(claim: Claim, of: Case) -> Update:
    return judge(claim, of, TBOOT_DA.name, 1, ("new_kernel",))


def refusal(sentence: str) -> Claim:
    return Claim({}, {18: (sentence,)})


def test_an_equal_value_is_right() -> None:
    update = judged(Claim({18: NEW}, {}), case())
    assert (update.outcome, update.trouble) == (Outcome.RIGHT, "")


def test_another_value_is_wrong() -> None:
    update = judged(Claim({18: OLD}, {}), case())
    assert update.outcome is Outcome.WRONG
    assert f"PCR 18: predicted {OLD.hex}, in the TPM {NEW.hex}" in update.trouble


@pytest.mark.parametrize("sentence", ["", GREW.format("kernel", 4)])
def test_a_value_is_wrong_whatever_else_is_refused(sentence: str) -> None:
    refused = {17: (sentence,)} if sentence else {}
    assert judged(Claim({18: OLD}, refused), case()).outcome is Outcome.WRONG


@pytest.mark.parametrize("end", [End.UNMEASURED, End.STOPPED])
def test_a_boot_that_does_not_come_is_wrong_to_predict(end: End) -> None:
    missed = Case(SETUP, SETUP, end, {18: OLD}, {} if end is End.STOPPED else {18: NEW})
    assert judged(Claim({18: OLD}, {}), missed).outcome is Outcome.WRONG


@pytest.mark.parametrize("by", [4, 5])
def test_a_reason_has_to_be_true_of_the_update(by: int) -> None:
    after = SETUP.with_file(KERNEL, b"a kernel..")
    update = judged(refusal(GREW.format("kernel", by)), case(after))
    assert update.outcome is (Outcome.REFUSED if by == 4 else Outcome.UNLISTED)
    assert update.reasons == (("a module is longer or shorter",) if by == 4 else ())


def test_a_reason_that_is_not_listed_fails() -> None:
    update = judged(refusal("it is Tuesday"), case())
    assert update.outcome is Outcome.UNLISTED
    assert "refused: it is Tuesday" in update.trouble


def test_every_part_of_a_sentence_has_to_be_listed() -> None:
    sentence = f"{GREW.format('kernel', 4)} and it is Tuesday"
    assert [found is None for found in reasons_of(sentence)] == [False, True]


@pytest.mark.parametrize(("new", "is_needless"), [(OLD, True), (NEW, False)])
def test_a_refusal_of_what_stays_is_needless(new: Digest, is_needless: bool) -> None:
    after = SETUP.with_file(KERNEL, b"a kernel..")
    claim = refusal(GREW.format("kernel", 4))
    assert judged(claim, case(after, new=new)).is_needless is is_needless


def test_a_run_visits_every_machine_and_is_the_same_again() -> None:
    tasks = plan("seed", 2000)
    assert sum(task.updates for task in tasks) == 2000
    assert {task.machine for task in tasks} == set(MACHINES)
    assert len({(task.machine, task.number) for task in tasks}) == len(tasks)
    assert tasks == plan("seed", 2000)


def test_to_refuse_everything_is_too_few_right() -> None:
    update = Update(TBOOT_DA.name, 1, (), Outcome.REFUSED)
    told = [Told(Task("seed", TBOOT_DA.name, 0, 1), (update,))]
    least = RIGHT_AT_LEAST[Form.TBOOT.value]
    assert too_few(told) == [f"tboot: 0.0% right, less than {least:.0%}"]


def test_a_story_that_breaks_off_is_a_failure() -> None:
    [failure] = failures([tell(Task("seed", "no such machine", 0, 1))])
    assert "KeyError" in failure
    assert "make updates SEED=seed UPDATES=1 STORY='no such machine:0'" in failure
