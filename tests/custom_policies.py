# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose tboot has a verified-launch policy of its owner's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tboot_boots import (
    CAPABILITIES,
    Boot,
    Machine,
    facts_of,
    luks_record,
    module_digest,
)
from tboot_policies import Entry, digest_of, packed, simulated

from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.launch import RunningSystem

HARD_WIRED = {"legacy": 18, "da": 17}
"""Module 0's PCR, whatever the policy says of it."""


@dataclass(frozen=True)
class CustomMachine(Machine):
    """A machine with a policy's bytes; what it extends is simulated entry by entry."""

    entries: tuple[Entry, ...] = ()
    data: bytes = b""

    def extends(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        """SINIT's and the policy's extends are any machine's; then the modules."""
        default = super().extends(boot)
        own = len(boot.measured_modules)
        modules = [
            (0x501, pcr, self._digest(boot, number), b"")
            for number, pcr in simulated(self.entries, HARD_WIRED[self.map], own)
        ]
        return default[:-own] + modules

    @staticmethod
    def _digest(boot: Boot, number: int) -> bytes:
        module = boot.measured_modules[number]
        return module_digest(module.cmdline, module.image)


def with_policy(
    machine: Machine, entries: Sequence[Entry], **more: int
) -> CustomMachine:
    """Give one of tboot_boots' machines this policy; `more` as in packed()."""
    data = packed(entries, **more)
    policy = digest_of(data, control=more.get("control", 1)).hex()
    return CustomMachine(machine.map, machine.sinit, policy, tuple(entries), data)


def explained(
    machine: CustomMachine,
    boot: Boot,
    policies: Sequence[bytes] | None = None,
) -> Calibration:
    """Calibrate a boot by its own files, with the machine's policy or these."""
    known = (machine.data,) if policies is None else tuple(policies)
    candidates = [Candidate(boot.entry, facts_of(boot))]
    system = RunningSystem(policies=known)
    return calibrate(
        machine.launched(boot), candidates, None, luks_record(boot), system
    )


def listed(boot: Boot, number: int) -> tuple[bytes, ...]:
    """A list that holds one module's hash alone."""
    module = boot.modules[number]
    return (module_digest(module.cmdline, module.image),)


def with_version(boot: Boot, version: str, image: bytes = b"another tboot") -> Boot:
    """The boot with another tboot of this version."""
    notes = {"tboot_version": version, "mle_capabilities": CAPABILITIES}
    return boot.with_tboot(image=image, notes=notes)


def with_words(boot: Boot, words: bytes) -> Boot:
    """The boot with these words on tboot's command line."""
    return boot.with_tboot(cmdline=boot.tboot.cmdline + b" " + words)
