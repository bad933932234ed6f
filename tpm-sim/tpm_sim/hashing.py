# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of boot files, by programs that share no code with the predictor.

Images are hashed by GRUB's own `hashsum --uncompress`, so that they are hashed as GRUB
hands them over; the MLE by tboot's lcp2_mlehash; strings by coreutils.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aemseal.words.digest import Digest, HashAlgorithm
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.grub_emu import run_script

TOOL_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Image:
    """A file as GRUB loads it: decompressed by magic, unless --nounzip says not."""

    path: Path
    decompress: bool


def hash_images(
    cache: Cache, images: Sequence[Image], algorithm: HashAlgorithm
) -> list[Digest]:
    """Hash files as GRUB hands them over; SimulationError with GRUB's own words."""
    if not images:
        return []
    script = ""
    for image in images:
        uncompress = "--uncompress " if image.decompress else ""
        path = _quoted(f"(host){image.path.resolve()}")
        script += f"hashsum --hash {algorithm} {uncompress}{path}\n"
    screen = run_script(cache.grub_emu, script + "exit\n")
    size = algorithm.size * 2
    found = re.findall(rf"^(?:\x1b\[\d+m)*([0-9a-f]{{{size}}})\s", screen, re.MULTILINE)
    if len(found) != len(images):
        raise SimulationError(f"GRUB cannot read a boot file: {screen[-300:]!r}")
    return [Digest.from_hex(algorithm, value) for value in found]


def hash_bytes(data: bytes, algorithm: HashAlgorithm) -> Digest:
    """Hash a string with coreutils."""
    output = _run([f"{algorithm}sum", "--binary"], data)
    return Digest.from_hex(algorithm, output.split()[0])


def hash_module(image: Digest, cmdline: bytes) -> Digest:
    """Return tboot's module hash: H(H(cmdline) || H(image)).

    Source: tboot/common/policy.c (hash_module).
    """
    algorithm = image.algorithm
    return hash_bytes(hash_bytes(cmdline, algorithm).value + image.value, algorithm)


def hash_mle(
    cache: Cache, tboot: Path, cmdline: bytes, algorithm: HashAlgorithm
) -> Digest | None:
    """Hash the measured launch environment; None when the file holds none."""
    finished = subprocess.run(
        [
            cache.lcp2_mlehash,
            "--create",
            *("--alg", str(algorithm)),
            *("--cmdline", cmdline),
            tboot,
        ],
        capture_output=True,
        check=False,
        timeout=TOOL_TIMEOUT,
    )
    if finished.returncode < 0:
        raise SimulationError("lcp2_mlehash was killed")
    if finished.returncode != 0:
        return None
    text = finished.stdout.decode("ascii", "replace")
    return Digest.from_hex(algorithm, "".join(text.split()))


def _run(command: list[str], data: bytes) -> str:
    finished = subprocess.run(
        command, input=data, capture_output=True, check=False, timeout=TOOL_TIMEOUT
    )
    if finished.returncode != 0:
        raise SimulationError(f"{command[0]} failed: {finished.stderr!r}")
    return finished.stdout.decode("ascii")


def _quoted(text: str) -> str:
    if "'" in text or "\n" in text:
        raise SimulationError(f"GRUB cannot be given the path {text!r}")
    return f"'{text}'"
