# SPDX-License-Identifier: GPL-2.0-or-later
"""What one unsealing costs: `python -m bench.bench_vault [--rounds N] [--json]`.

Three ways to the same secret, on the same boot of the same swtpm: the boot hook as
shipped, tpm2-pytss in one process, and the calls of tpm2-tools that Anti Evil Maid
makes. Exit code 1 when one of them does not get the secret.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpm_sim.swtpm import Swtpm

from bench.counting_bus import CountingBus, Traffic
from bench.enrolled_machine import SECRET, EnrolledMachine
from bench.sealed_like_aem import AEM_KEY

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
HOOK = ROOT / "boot-hooks" / "aemseal-unseal"
ROUNDS = 5
_SECONDS = 120

Command = Callable[[EnrolledMachine, str], list[str]]
"""What to run on a machine; the TCTI is in TPM2TOOLS_TCTI as well."""


def by_hook(machine: EnrolledMachine, _tcti: str) -> list[str]:
    """Run the boot hook as shipped."""
    return [
        *("dash", str(HOOK), "-e", str(machine.etc), "-r", str(machine.run)),
        *("-m", str(machine.medium), "-c", str(machine.cmdline)),
        *("-d", str(machine.disk.parent)),
    ]


def by_pytss(machine: EnrolledMachine, tcti: str) -> list[str]:
    """Run one process of Python."""
    return [
        *(sys.executable, "-m", "bench.unseal_by_pytss", tcti),
        *(str(machine.etc), str(machine.medium), machine.pcrs, str(machine.disk)),
    ]


def like_aem(machine: EnrolledMachine, _tcti: str) -> list[str]:
    """Run Anti Evil Maid's calls."""
    return [
        *("bash", str(BENCH / "unseal_like_aem.sh"), str(machine.blobs)),
        *(AEM_KEY, machine.pcrs, str(machine.disk)),
    ]


AEM = "Anti Evil Maid's calls"
WAYS: dict[str, Command] = {
    "aemseal's hook": by_hook,
    "tpm2-pytss": by_pytss,
    AEM: like_aem,
}


class NotUnsealedError(Exception):
    """A way that did not get the secret."""


@dataclass(frozen=True)
class Cost:
    """One unsealing: what went over the bus, what was started, seconds (median)."""

    traffic: Traffic
    processes: int
    programs: int
    seconds: float

    def to_json(self, base: Cost) -> dict[str, Any]:
        """Return the JSON object; times as ratios to `base`."""
        traffic = self.traffic
        return {
            "commands": traffic.commands.total(),
            "refused": traffic.refused,
            "bytes_to_tpm": traffic.sent,
            "bytes_from_tpm": traffic.received,
            "processes": self.processes,
            "programs": self.programs,
            "seconds": round(self.seconds, 4),
            "time_ratio": round(self.seconds / base.seconds, 2),
            "by_command": dict(sorted(traffic.commands.items())),
        }


def before_aems_token(machine: EnrolledMachine, tcti: str) -> list[str]:
    """Run what Anti Evil Maid does before the token, and at its end."""
    program, script, *rest = like_aem(machine, tcti)
    return [program, script, "-n", *rest]


def unseal(
    machine: EnrolledMachine,
    command: Command,
    *,
    tracer: Sequence[str] = (),
    shown: bytes = SECRET,
) -> tuple[Traffic, float]:
    """Boot, unseal once, and return what the bus saw and the seconds."""
    machine.boot()
    with CountingBus(machine.tpm) as bus:
        environment = os.environ | {"TPM2TOOLS_TCTI": bus.tcti, "TSS2_LOG": "all+none"}
        started = time.perf_counter()
        done = subprocess.run(
            [*tracer, *command(machine, bus.tcti)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode != 0 or shown not in done.stdout:
        told = done.stderr.decode(errors="replace").strip()[-400:]
        raise NotUnsealedError(f"not unsealed (exit code {done.returncode}): {told}")
    return bus.traffic, seconds


def cost(machine: EnrolledMachine, command: Command, rounds: int) -> Cost:
    """Unseal once to count what is started, then so many times to take the time."""
    counts = machine.folder / "counts"
    tracer = (sys.executable, str(BENCH / "count_processes.py"), str(counts))
    unseal(machine, command, tracer=tracer)
    processes, programs = map(int, counts.read_text(encoding="ascii").split())
    runs = [unseal(machine, command) for _ in range(rounds)]
    seconds = statistics.median(each for _, each in runs)
    return Cost(runs[0][0], processes, programs, seconds)


def token_and_secret(machine: EnrolledMachine, whole: Traffic) -> int:
    """How many of Anti Evil Maid's commands are for the token and the secret."""
    rest, _ = unseal(machine, before_aems_token, shown=b"")
    return whole.commands.total() - rest.commands.total()


def table(costs: dict[str, Cost]) -> str:
    """Show the costs, the hook's time being 1."""
    base = next(iter(costs.values()))
    heads = ("commands", "to TPM", "from TPM", "programs", "processes", "time")
    lines = [f"{'one unsealing':<24}" + "".join(f"{each:>11}" for each in heads)]
    for name, each in costs.items():
        cells = (
            each.traffic.commands.total(),
            f"{each.traffic.sent} B",
            f"{each.traffic.received} B",
            each.programs,
            each.processes,
            f"{each.seconds / base.seconds:.2f}",
        )
        lines.append(f"{name:<24}" + "".join(f"{cell!s:>11}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    reader = argparse.ArgumentParser(prog="bench_vault", description=__doc__)
    reader.add_argument("--rounds", type=int, default=ROUNDS, help="runs to be timed")
    reader.add_argument("--json", action="store_true", help="print one JSON object")
    options = reader.parse_args(arguments)
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Swtpm() as tpm:
        machine = EnrolledMachine(Path(folder), tpm)
        try:
            for name, command in WAYS.items():
                costs[name] = cost(machine, command, max(1, options.rounds))
            of_aems = token_and_secret(machine, costs[AEM].traffic)
        except NotUnsealedError as error:
            print(f"{list(WAYS)[len(costs)]}: {error}", file=sys.stderr)
            return 1
    if options.json:
        base = next(iter(costs.values()))
        report = {
            "schema": "aemseal.bench-vault/1",
            "rounds": options.rounds,
            "ways": {name: each.to_json(base) for name, each in costs.items()},
            "aem_token_and_secret": of_aems,
        }
        print(json.dumps(report, indent=1))
    else:
        print(table(costs))
        print(f"{of_aems} of {AEM} are for the freshness token and the secret.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
