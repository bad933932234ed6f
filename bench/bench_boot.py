# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot's hook costs: `python -m bench.bench_boot [--rounds N] [--json]`.

Bytes in the initramfs, seconds from the hook's start to the secret, TPM commands on
the wire, programs and processes: aemseal's hook as shipped, and beside it the calls of
tpm2-tools that Anti Evil Maid makes, in the same kind of initramfs, on the same TPM.
Exit code 1 when one of them does not show the secret.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError

from bench.boot_figures import NotSeenError
from bench.boot_machine import AEM, CHAINS, OURS, BenchMachine, Boot
from bench.boot_report import table
from bench.initramfs_bytes import by_group, compressed_files, drawn_by_libcurl

ROUNDS = 3
WAYS = (OURS, AEM)


@dataclass
class Measured:
    """Everything that was measured of one way."""

    added: dict[str, int] = field(default_factory=dict)
    """Bytes added to an image, by kind: systemd, plain."""
    groups: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By chain, in the order of the rounds."""
    commands: dict[str, int] = field(default_factory=dict)
    """TPM commands by name, within the hook."""
    programs: int = 0
    processes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; seconds are of this machine and this hour."""
        return {
            "bytes_added": self.added,
            "bytes_by_group": self.groups,
            "seconds": self.seconds,
            "commands": sum(self.commands.values()),
            "by_command": dict(sorted(self.commands.items())),
            "programs": self.programs,
            "processes": self.processes,
        }


def weigh(machine: BenchMachine, folder: Path, found: dict[str, Measured]) -> None:
    """Build the images, six of them, and note what each way adds."""
    for kind in ("systemd", "plain"):
        bare = folder / f"{kind}.img"
        machine.build(bare, None, systemd=kind == "systemd")
        for way in WAYS:
            image = image_of(folder, way, kind)
            machine.build(image, way, systemd=kind == "systemd")
            found[way].added[kind] = image.stat().st_size - bare.stat().st_size
    files = compressed_files(folder / "systemd.img")
    for way in WAYS:
        with_it = compressed_files(image_of(folder, way, "systemd"))
        found[way].groups = by_group(files, with_it, drawn_by_libcurl())


def image_of(folder: Path, way: str, kind: str) -> Path:
    """Where the image of a way is."""
    return folder / f"{kind}-{WAYS.index(way)}.img"


def race(
    machine: BenchMachine, folder: Path, found: dict[str, Measured], rounds: int
) -> None:
    """Boot each way so many times in each chain, by turns."""
    for chain in CHAINS:
        for _ in range(rounds):
            for way in WAYS:
                boot = machine.boot(chain, way, image_of(folder, way, "systemd"))
                found[way].seconds.setdefault(chain, []).append(boot.seconds)


def count(machine: BenchMachine, folder: Path, found: dict[str, Measured]) -> None:
    """Boot each way once more, and count what it does."""
    for way in WAYS:
        image = image_of(folder, way, "systemd")
        boot: Boot = machine.boot("direct", way, image, traced=True)
        found[way].commands = dict(boot.seen_by_hook.commands)
        executed = boot.executed
        found[way].programs = len(executed.programs)
        found[way].processes = executed.forks


def measure(folder: Path, rounds: int) -> dict[str, Measured]:
    """Measure everything; SimulationError where a boot does not show the secret."""
    found = {way: Measured() for way in WAYS}
    with BenchMachine(folder / "machine", Cache.default()) as machine:
        machine.seal()
        weigh(machine, folder, found)
        count(machine, folder, found)
        race(machine, folder, found, rounds)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    reader = argparse.ArgumentParser(prog="bench_boot", description=__doc__)
    reader.add_argument("--rounds", type=int, default=ROUNDS, help="boots to be timed")
    reader.add_argument("--json", action="store_true", help="print one JSON object")
    options = reader.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "machine").mkdir()
        try:
            found = measure(Path(folder), max(1, options.rounds))
        except (SimulationError, NotSeenError) as error:
            print(error, file=sys.stderr)
            return 1
    if options.json:
        ways = {way: each.to_json() for way, each in found.items()}
        print(json.dumps({"schema": "aemseal.bench-boot/1", "ways": ways}, indent=1))
    else:
        ours, aem = (found[way].to_json() for way in WAYS)
        print(table(ours, aem))
    return 0


if __name__ == "__main__":
    sys.exit(main())
