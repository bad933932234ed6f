# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines for the tests of the boot hook."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hook_bus import OLD, banks
from hook_person import PIN
from hook_world import KEY, TOOLS, Disks, Machine
from tpm_sim.swtpm import Swtpm


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return Disks(tmp_path_factory.mktemp("disks"))


@pytest.fixture
def bare(tmp_path: Path, disks: Disks) -> Iterator[Machine]:
    """A machine whose TPM is as it left the factory."""
    with Swtpm(banks("sha256")) as tpm:
        tpm.power_on()
        yield Machine(tmp_path / "machine", tpm, disks)


@pytest.fixture(scope="session")
def enrolled(
    tmp_path_factory: pytest.TempPathFactory, disks: Disks
) -> Iterator[Machine]:
    """A machine enrolled with OLD accepted, switched off."""
    with Swtpm(banks("sha256")) as tpm:
        tpm.power_on()
        machine = Machine(tmp_path_factory.mktemp("enrolled") / "machine", tpm, disks)
        machine.enrol()
        tpm.power_off()
        yield machine


@pytest.fixture
def machine(tmp_path: Path, enrolled: Machine) -> Iterator[Machine]:
    """A machine of one's own, enrolled with OLD accepted."""
    with Swtpm(banks("sha256")) as tpm:
        yield enrolled.twin(tmp_path / "machine", tpm)


@pytest.fixture
def guarded(machine: Machine) -> Machine:
    """A machine with an open text and a keyfile behind the PIN, booted."""
    tries = ("-n", "32", "-t", "7200", "-l", "86400")
    machine.tool("tpm2_dictionarylockout", "-s", *tries)
    machine.write_secrets(
        [("keyfile", "keyfile", KEY, PIN.encode()), ("text", "text", b"open", None)]
    )
    machine.boot(OLD)
    return machine
