# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor asks of the disks: whether all that is trusted lies on a measured one."""

from __future__ import annotations

from aemseal.flows.doctor_patient import (
    Checks,
    Finding,
    Patient,
    SkippedError,
    failed,
    ok,
)
from aemseal.words.errors import EvidenceError
from aemseal.world.disks import Disks


def root_is_encrypted(patient: Patient) -> Finding:
    """Require that the root file system lies on a LUKS device that is measured."""
    disks = _disks(patient)
    mount = disks.mount_of("/")
    number = None if mount is None else disks.device_of(mount)
    if number is None or not disks.is_known(number):
        raise SkippedError("on which disk the root file system lies is not told")
    return _judge(patient, disks, number, "the root file system")


def swap_is_encrypted(patient: Patient) -> Finding:
    """Require that all swap space in use is encrypted, too."""
    disks = _disks(patient)
    try:
        swaps = disks.swaps()
    except EvidenceError as error:
        raise SkippedError(error.message) from None
    for path in swaps:
        number = disks.number_of(path)
        if number is None:  # a file, not a device
            mount = disks.mount_of(path)
            number = None if mount is None else disks.device_of(mount)
        if number is None or not disks.is_known(number):
            raise SkippedError(f"on which disk the swap space {path} lies is not told")
        found = _judge(patient, disks, number, f"the swap space {path}")
        if found.hint is not None:
            return found
    return ok(f"swap space is encrypted ({len(swaps)} in use)")


def _disks(patient: Patient) -> Disks:
    if patient.disks is None:
        raise SkippedError("a recording does not tell of its disks")
    return patient.disks


def _judge(patient: Patient, disks: Disks, number: str, what: str) -> Finding:
    found = disks.encryption(number)
    if not found.is_whole:
        return failed(
            f"{what} does not lie on an encrypted disk: whoever has the disk reads and "
            "writes it, and with it all that the vault goes by",
            "move it to a LUKS device; what lies open now may be another's by now",
        )
    measured = patient.entry.luks_uuids
    for uuid in found.luks_uuids:
        if uuid not in measured:
            return failed(
                f"{what} lies on the LUKS device {uuid}, which the next boot does not "
                "measure",
                f"add rd.luks.uuid=luks-{uuid} to the kernel's command line, then: "
                "aemseal reseal",
            )
    return ok(f"{what} lies on an encrypted disk that is measured")


CHECKS: Checks = (
    ("root-disk", root_is_encrypted),
    ("swap", swap_is_encrypted),
)
