# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench-vault counts what it says, and fails where a way does not unseal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import bench_vault
from bench.bench_vault import AEM, BENCH, WAYS, main

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(
        not all(map(shutil.which, ("tpm2_unseal", "cryptsetup", "openssl"))),
        reason="tpm2-tools, cryptsetup or openssl is not installed",
    ),
]

SINGLE_FEWEST = 15
"""Commands that no way to the secret does without, session and policy included."""


def test_each_way_gets_the_secret_and_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--rounds", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "aemseal.bench-vault/1"
    ways = report["ways"]
    assert list(ways) == list(WAYS)
    for way in ways.values():
        assert way["commands"] == sum(way["by_command"].values()) >= SINGLE_FEWEST
        assert way["refused"] == (way is ways[AEM])
        assert not any(name.startswith("0x") for name in way["by_command"])
        assert way["bytes_to_tpm"] >= 10 * way["commands"] <= way["bytes_from_tpm"]
        assert way["processes"] >= way["programs"] > 0
        assert way["by_command"]["PCR_Extend"] == 1
    # Its storage key is without noDA, so the TPM has its first use asked for again.
    # Of tpm2-tools 5.4; where others count otherwise, bench/README.md has to say so.
    assert (ways[AEM]["commands"], report["aem_token_and_secret"]) == (81, 52)
    # cryptsetup is the other program
    assert ways["tpm2-pytss"]["programs"] == 2
    assert ways["tpm2-pytss"]["commands"] < ways["aemseal's hook"]["commands"]


def test_a_way_that_does_not_unseal_fails_the_benchmark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bench_vault.WAYS, next(iter(WAYS)), lambda *_: ["true"])
    assert main(["--rounds", "1"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "aemseal's hook: not unsealed (exit code 0)" in told.err


@pytest.mark.parametrize(
    ("script", "processes", "programs"),
    [
        ("true", 1, 1),
        ("/bin/true; /bin/true", 3, 3),
        ("(/bin/true; :)", 3, 2),
        ("/bin/echo x | /bin/cat; exit 0", 3, 3),
    ],
)
def test_processes_and_programs_are_counted(
    tmp_path: Path, script: str, processes: int, programs: int
) -> None:
    counts = tmp_path / "counts"
    subprocess.run(
        [
            *(sys.executable, str(BENCH / "count_processes.py"), str(counts)),
            *("dash", "-c", f"{script}; :"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert counts.read_text() == f"{processes} {programs}"


def test_the_exit_code_of_what_is_counted_is_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(BENCH / "count_processes.py"), str(tmp_path / "n")),
            *("dash", "-c", "exit 7"),
        ],
        timeout=60,
    )
    assert done.returncode == 7
