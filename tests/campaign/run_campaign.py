# SPDX-License-Identifier: GPL-2.0-or-later
"""make campaign: every point of every move, every error, and a long state search.

Prints for each move what was tried and what came of it; ends with 1 when a promise of
the vault was broken, and tells where.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from campaign_cases import CASES, Case, beginning, case_called
from faults import commands_of, endured, every_fault
from kills import cut_off, points_of
from test_lost_writes import crashes_of
from test_state_search import search
from vault_world import World
from verdict import held

STEPS = 25
"""Events in one life of the state search."""

Trial = Callable[[World, Case], Iterator[str]]


@dataclass
class Row:
    """What came of one kind of trials of one move."""

    kind: str
    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        told = ", ".join(f"{word} {count}" for word, count in self.outcomes.items())
        points = sum(self.outcomes.values())
        return (
            f"{self.kind:8} {self.name:32} {points:6} {len(self.broken):6} "
            f"{self.seconds:7.0f} s  {told}"
        )


def kills(world: World, case: Case) -> Iterator[str]:
    for point in points_of(world, case, every=True):
        cut_off(world, case, point)
        yield held(world, case, str(point))


def crashes(world: World, case: Case) -> Iterator[str]:
    for number, (tree, chip) in enumerate(crashes_of(world, case, every=True)):
        world.restore("start")
        world.put(tree, chip)
        world.boot(case.running)
        yield held(world, case, f"crash {number}")


def errors(world: World, case: Case) -> Iterator[str]:
    commands = commands_of(world, case)
    world.restore("start")
    world.boot(case.running)
    for fault in every_fault(commands):
        yield endured(world, case, fault, commands[fault.at])


TRIALS: dict[str, Trial] = {"kills": kills, "crashes": crashes, "errors": errors}


def run(kind: str, name: str) -> Row:
    """Try one move in all ways of one kind; stop at the first broken promise."""
    row, began = Row(kind, name), time.monotonic()
    case = case_called(name)
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        beginning(case, Path(folder)) as world,
    ):
        try:
            for outcome in TRIALS[kind](world, case):
                row.outcomes[outcome] += 1
        except Exception as broken:
            row.broken.append(f"{type(broken).__name__}: {broken}")
    row.seconds = time.monotonic() - began
    return row


def run_search(examples: int, seed: int) -> Row:
    row, began = Row("search", f"{examples} lives, seed {seed}"), time.monotonic()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        try:
            search(Path(folder), examples, STEPS, seed=seed)
            row.outcomes["held"] = examples
        except Exception as broken:
            notes = "\n".join(getattr(broken, "__notes__", ()))
            row.broken.append(f"{type(broken).__name__}: {broken}\n{notes}")
    row.seconds = time.monotonic() - began
    return row


def main() -> int:
    asked = _asked()
    names = [case.name for case in CASES if re.search(asked.moves, case.name)]
    kinds = [kind for kind in TRIALS if kind in asked.kinds]
    with ProcessPoolExecutor(asked.jobs) as pool:
        running = [pool.submit(run, kind, name) for kind in kinds for name in names]
        if "search" in asked.kinds:
            share = -(-asked.examples // asked.jobs)
            running += [
                pool.submit(run_search, share, asked.seed + job)
                for job in range(asked.jobs)
            ]
        print(f"{'trials':8} {'move':32} {'points':>6} {'broken':>6}", flush=True)
        rows = []
        for each in running:
            rows.append(each.result())
            print(rows[-1], flush=True)
    broken = [f"{row.kind}, {told}" for row in rows for told in row.broken]
    count = sum(sum(row.outcomes.values()) for row in rows)
    print(f"{count} points, {len(broken)} broken promises")
    print("".join(f"\n{each}" for each in broken), end="")
    return 1 if broken else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--moves", default="", help="a pattern of their names")
    parser.add_argument("--kinds", default="kills,crashes,errors,search")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
