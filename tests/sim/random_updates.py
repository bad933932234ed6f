# SPDX-License-Identifier: GPL-2.0-or-later
"""Random updates of every simulated machine: no prediction may be wrong.

`make updates` runs it. Each story has a seed of its own, made of the run's, so that a
failing one can be told again alone: `make updates SEED=... UPDATES=... STORY=...`, as
the failure says.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from tpm_sim.machines import MACHINES
from update_setups import Form
from update_stories import Outcome, Update, story

_MOST_IN_A_STORY = 10
_WEIGHTS = {
    "tboot-da": 4,
    "tboot-legacy": 4,
    "tboot-da-sinit-file": 2,
    "trenchboot-skinit": 4,
    "trenchboot-txt": 4,
    "trenchboot-skinit-uefi": 2,
    "trenchboot-txt-uefi": 2,
}
"""Stories of a machine, of all others one: quirk machines differ in one thing."""

RIGHT_AT_LEAST = {
    Form.TBOOT.value: 0.8,
    Form.MULTIBOOT.value: 0.4,
    Form.UEFI.value: 0.25,
}
"""The share of right predictions that there must be: refusing all is no answer.

Of the two of TrenchBoot's, what grows or shrinks is refused by rule, and few machines
are started by UEFI; SAME_LENGTH is the sharper rule for both.
"""

UNFORESEEABLE = ("tboot-da-random", "tboot-da-1.9.6", "tboot-da-1.10.0")
"""Machines with a random event, or a tboot that spoils the log: left out of the
shares, since nothing can be right on them."""


SAME_LENGTH = frozenset({"rebuild", "edit_menu", "change_nothing"})
"""Changes after which TrenchBoot's boots are to be foreseen, whatever the share."""


@dataclass(frozen=True)
class Task:
    """A story to be told."""

    seed: str
    machine: str
    number: int
    updates: int


@dataclass(frozen=True)
class Told:
    """What came of a story: its updates, and the traceback that it ended with."""

    task: Task
    updates: tuple[Update, ...]
    error: str = ""


def plan(seed: str, updates: int, machines: Sequence[str] = ()) -> list[Task]:
    """Spread so many updates over the machines; all of them when none is named."""
    names = machines or [
        name for name in MACHINES for _ in range(_WEIGHTS.get(name, 1))
    ]
    length = max(1, min(_MOST_IN_A_STORY, updates // len(names)))
    tasks: list[Task] = []
    while updates > 0:
        number, at = divmod(len(tasks), len(names))
        count = min(length, updates)
        tasks.append(Task(seed, names[at], number * len(names) + at, count))
        updates -= count
    return tasks


def tell(task: Task) -> Told:
    """Tell one story to its end, or to its failure."""
    updates: list[Update] = []
    try:
        for update in story(task.seed, task.machine, task.number, task.updates):
            updates.append(update)
    except Exception:
        return Told(task, tuple(updates), traceback.format_exc())
    return Told(task, tuple(updates))


def tell_all(tasks: Iterable[Task], jobs: int) -> Iterator[Told]:
    """Tell stories, so many at once, as they come to their ends."""
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(tell, task) for task in tasks]):
            yield future.result()


def kind_of(machine: str) -> str:
    """Return how a machine is launched."""
    return Form.of(MACHINES[machine]).value


def shares(updates: Iterable[Update]) -> dict[str, float]:
    """Return the share of right predictions by kind of machine."""
    right, all_ = Counter[str](), Counter[str]()
    for each in updates:
        if each.machine not in UNFORESEEABLE:
            all_[kind_of(each.machine)] += 1
            right[kind_of(each.machine)] += each.outcome is Outcome.RIGHT
    return {kind: right[kind] / count for kind, count in all_.items()}


def same_length(updates: Iterable[Update]) -> list[Update]:
    """Return the updates of TrenchBoot's machines that move nothing in memory."""
    return [
        each
        for each in updates
        if kind_of(each.machine) != Form.TBOOT.value
        and SAME_LENGTH.issuperset(each.changes)
    ]


def failures(told: Sequence[Told]) -> list[str]:
    """Say everything that must not be, each with how to see it again."""
    found = []
    for each in told:
        task = each.task
        name = shlex.quote(f"{task.machine}:{task.number}")
        seed, updates = shlex.quote(task.seed), task.updates
        again = f"again: make updates SEED={seed} UPDATES={updates} STORY={name}"
        for update in each.updates:
            if update.trouble:
                changes = ", ".join(update.changes)
                found.append(
                    f"{update.outcome.value}: {task.machine}, update {update.number} "
                    f"({changes})\n{update.trouble}\n{again}"
                )
        if each.error:
            at = len(each.updates) + 1
            found.append(f"{task.machine}, update {at}: {each.error}{again}")
    return found


def report(told: Sequence[Told]) -> str:
    """Return the tables: outcomes by machine, refusals by reason."""
    updates = [update for each in told for update in each.updates]
    lines = [f"{'machine':40}{'updates':>8}{'right':>7}{'refused':>8}{'wrong':>6}"]
    for name in MACHINES:
        of_machine = [each for each in updates if each.machine == name]
        lines += [_row(name, of_machine)] if of_machine else []
    lines += [_row("all", updates), ""]
    lines += [
        f"{kind:40}{share:8.1%} right, at least {RIGHT_AT_LEAST[kind]:.0%}"
        for kind, share in shares(updates).items()
    ]
    still = same_length(updates)
    right = sum(each.outcome is Outcome.RIGHT for each in still)
    lines.append(f"of the same length, on TrenchBoot's: {right} of {len(still)} right")
    needless = sum(each.is_needless for each in updates)
    lines += ["", f"refused for (an update may have several), {needless} needlessly:"]
    reasons = Counter(reason for each in updates for reason in each.reasons)
    lines += [f"{count:6}  {reason}" for reason, count in reasons.most_common()]
    changes = Counter(change for each in updates for change in each.changes)
    listed = ", ".join(f"{name} {count}" for name, count in changes.most_common())
    return "\n".join((*lines, "", f"changes: {listed}"))


def _row(name: str, updates: Sequence[Update]) -> str:
    counts = Counter(each.outcome for each in updates)
    refused = counts[Outcome.REFUSED] + counts[Outcome.UNLISTED]
    return (
        f"{name:40}{len(updates):8}{counts[Outcome.RIGHT]:7}{refused:8}"
        f"{counts[Outcome.WRONG]:6}"
    )


def too_few(told: Sequence[Told]) -> list[str]:
    """Say which kinds of machine are predicted too seldom."""
    updates = [update for each in told for update in each.updates]
    still = [
        f"{each.machine}, update {each.number}: refused, and nothing moved"
        for each in same_length(updates)
        if each.outcome is not Outcome.RIGHT
    ]
    return still + [
        f"{kind}: {share:.1%} right, less than {RIGHT_AT_LEAST[kind]:.0%}"
        for kind, share in shares(updates).items()
        if share < RIGHT_AT_LEAST[kind]
    ]


def main() -> int:
    """Run and print the tables; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description="update simulated machines at random")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--seed", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--story", help="MACHINE:NUMBER of a story, to tell it alone")
    words = parser.parse_args()
    seed = words.seed or secrets.token_hex(4)
    tasks = plan(seed, words.updates)
    if words.story:
        machine, _, number = words.story.rpartition(":")
        tasks = [Task(seed, machine, int(number), words.updates)]
    print(f"seed {seed}: {words.updates} updates in {len(tasks)} stories", flush=True)
    began, told, done = time.monotonic(), [], 0
    for each in tell_all(tasks, words.jobs):
        told.append(each)
        for text in failures([each]):
            print(f"\n{text}\n", flush=True)
        before, done = done, done + len(each.updates)
        if before // 100 != done // 100:
            seconds = time.monotonic() - began
            print(f"{done} updates, {done / seconds:.1f} a second", flush=True)
    print(f"\n{report(told)}\nseed {seed}: {time.monotonic() - began:.0f} seconds")
    bad = failures(told)
    few = [] if words.story else too_few(told)
    print("\n".join(few) or f"{len(bad)} failures")
    return 1 if bad or few else 0


if __name__ == "__main__":
    sys.exit(main())
