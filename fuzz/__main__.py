# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzz targets, one after the other: `python -m fuzz [--seconds N] [TARGET ...]`.

Seeds and what was found to reach new code are kept below .cache/fuzz/corpus, inputs
that broke a target below .cache/fuzz/broken. Exit code 1 when there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.contract import Target
from fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache/fuzz"
SECONDS = 600

_HANGS = 60
"""Seconds after which libFuzzer ends an input that does not end by itself."""

_SPARE = 300
"""Seconds a target may take beyond its own, to read its corpus."""

_FIGURE = re.compile(rb"^#(\d+)\s.* cov: (\d+) .* corp: (\d+)/", re.MULTILINE)
_QUIET = re.compile(rb"^(?:#|INFO).*\n", re.MULTILINE)
_MOST_TOLD = 6000
"""Characters of a run's report that are shown where it found something."""

_DONE = re.compile(rb"^Done (\d+) runs", re.MULTILINE)


def plant(target: Target) -> Path:
    """Write the target's seeds into its corpus; return the folder."""
    folder = CACHE / "corpus" / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in target.corpus:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    return folder


def fuzz(target: Target, seconds: int) -> bool:
    """Run one target, print its figures; return whether it kept its promise."""
    corpus = plant(target)
    broken = CACHE / "broken"
    broken.mkdir(parents=True, exist_ok=True)
    mine = f"{target.name}-*"
    before = set(broken.glob(mine))
    words = (
        f"-max_total_time={seconds}",
        f"-timeout={_HANGS}",
        "-rss_limit_mb=0",
        f"-artifact_prefix={broken}/{target.name}-",
        str(corpus),
    )
    start = time.monotonic()
    report = _run([sys.executable, "-m", "fuzz.one", target.name, *words], seconds)
    took = time.monotonic() - start
    print(f"{target.name:14} {_figures(report)} {took:5.0f} s", flush=True)
    found = sorted(set(broken.glob(mine)) - before)
    is_whole = not found and _DONE.search(report) is not None
    if not is_whole:
        print(_QUIET.sub(b"", report).decode("utf-8", "replace")[-_MOST_TOLD:])
        _tell(target, found)
    return is_whole


def _run(command: list[str], seconds: int) -> bytes:
    """Return what the run printed, also where it had to be ended.

    libFuzzer ends a process at once: what it left in its folder goes here.
    """
    with TemporaryDirectory(dir=CACHE) as folder:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": folder},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=seconds + _SPARE,
            )
        except subprocess.TimeoutExpired as error:
            return error.output or b""
        return done.stdout


def _figures(report: bytes) -> str:
    """Say how many inputs were tried, and how much code they reached."""
    figures = _FIGURE.findall(report)
    runs, edges, kept = figures[-1] if figures else (b"0", b"0", b"0")
    return f"{int(runs):>10} inputs {int(edges):>6} edges {int(kept):>6} kept"


def _tell(target: Target, found: Iterable[Path]) -> None:
    """Say where the inputs are that broke the target, and how to repeat that."""
    for path in found:
        print(f"fuzz: error: {target.name} broke its promise: {path}")
        print(f"fuzz: hint: make fuzz-again TARGET={target.name} INPUT={path}")
    if not found:
        print(f"fuzz: error: {target.name} ended before its time")


def main() -> int:
    """Fuzz what the command line names, everything if it names nothing."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    words = parser.parse_args()
    unknown = sorted(set(words.targets) - set(TARGETS))
    if unknown or words.seconds < 1:
        known = " ".join(TARGETS)
        parser.error(f"no target {' '.join(unknown)}; there are: {known}")
    chosen = [TARGETS[name] for name in words.targets or TARGETS]
    print(f"fuzz: {len(chosen)} targets, {words.seconds} s each", flush=True)
    kept = [fuzz(target, words.seconds) for target in chosen]
    print(f"fuzz: {kept.count(True)} of {len(kept)} targets kept their promise")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
