# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy as tboot's own tb_polgen makes it, of the files that are in /boot."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tpm_sim.disk import Disk
from tpm_sim.errors import SimulationError
from tpm_sim.hashing import TOOL_TIMEOUT
from tpm_sim.models import TbootModel


def make_policy(disk: Disk, model: TbootModel) -> bytes:
    """Return the policy of a model's rules; SimulationError with the tool's words."""
    entry = disk.boot_entry()
    if entry is None:
        raise SimulationError("there is no entry to make a policy for")
    with tempfile.TemporaryDirectory(prefix="policy-") as scratch:
        path = Path(scratch) / "policy"
        _run(disk, ["--create", "--type", model.policy_type, "--alg", "sha256"], path)
        for rule in model.policy_rules:
            words = ["--add", "--num", rule.module, "--pcr", rule.pcr]
            if rule.lists_hash:
                module = entry.modules[int(rule.module)]
                image = disk.resolve(module.path)
                words += ["--hash", "image", "--cmdline", module.cmdline.decode()]
                words += ["--image", str(image)]
            else:
                words += ["--hash", "any"]
            _run(disk, words, path)
        return path.read_bytes()


def _run(disk: Disk, words: Sequence[str], path: Path) -> None:
    finished = subprocess.run(
        [disk.cache.tb_polgen, *words, path],
        capture_output=True,
        check=False,
        timeout=TOOL_TIMEOUT,
    )
    if finished.returncode != 0:
        raise SimulationError(f"tb_polgen failed: {finished.stdout!r}")
