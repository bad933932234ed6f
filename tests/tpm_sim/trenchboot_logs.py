# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots of TrenchBoot's machines, and their logs found as a person finds them."""

from __future__ import annotations

import hashlib
import re

from tpm2_tools import read_pcrs
from tpm_sim.machine import Machine
from tpm_sim.models import LogPlace, TrenchbootModel
from written_logs import Record, read_log

DYNAMIC = range(17, 23)


def model_of(machine: Machine) -> TrenchbootModel:
    assert isinstance(machine.model, TrenchbootModel)
    return machine.model


def booted(
    machine: Machine, *, unmeasured: bool = False
) -> dict[str, dict[int, bytes]]:
    """Boot and return what tpm2_pcrread reads; the machine is off again then."""
    machine.boot(unmeasured=unmeasured)
    values = read_pcrs(machine.tcti)
    machine.power_off()
    return values


def console_of(machine: Machine) -> str:
    path = machine.root / "var/log/xen/console/hypervisor.log"
    return path.read_text(encoding="utf-8")


def log_of(machine: Machine) -> bytes:
    """Read the log as a person finds it: where Xen's last line says it is."""
    if model_of(machine).log_place is LogPlace.FILE:
        return machine.log_path.read_bytes()
    ranges = re.findall(
        r"reserving event log [\[(](0x\w+)(?: -|,) (0x\w+)[\])]", console_of(machine)
    )
    start, end = (int(each, 16) for each in ranges[-1])
    with open(machine.root / "dev/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)


def records_of(machine: Machine) -> list[Record]:
    return read_log("tcg-agile", log_of(machine))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def measured(machine: Machine, text: bytes) -> list[bytes]:
    """The SHA-256 digests of the launcher's events with this text."""
    return [
        digests["sha256"]
        for _, kind, digests, data in records_of(machine)
        if (kind, data) == (0x502, text)
    ]


def change_entry(machine: Machine, old: str, new: str) -> None:
    path = machine.root / "boot/grub/grub.cfg"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
