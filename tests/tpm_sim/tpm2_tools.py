# SPDX-License-Identifier: GPL-2.0-or-later
"""tpm2-tools, run against a simulated TPM: the second opinion on what it holds."""

from __future__ import annotations

import os
import re
import subprocess


def tool(tcti: str, *words: str) -> str:
    """Run a tool that must succeed and return what it printed."""
    finished = run(tcti, *words)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def run(tcti: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TPM2TOOLS_TCTI": tcti}
    return subprocess.run(
        words,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def read_pcrs(tcti: str) -> dict[str, dict[int, bytes]]:
    """Return every PCR of every active bank, as tpm2_pcrread prints them."""
    banks: dict[str, dict[int, bytes]] = {}
    bank = ""
    for line in tool(tcti, "tpm2_pcrread").splitlines():
        if heading := re.fullmatch(r"  (\w+):", line):
            bank = heading[1]
        elif value := re.fullmatch(r"    (\d+) *: 0x([0-9A-F]+)", line):
            banks.setdefault(bank, {})[int(value[1])] = bytes.fromhex(value[2])
    return banks
