# SPDX-License-Identifier: GPL-2.0-or-later
"""The first difference of a boot by TrenchBoot: the file, not what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trenchboot_boots import (
    MACHINES,
    SKINIT,
    SKINIT_UEFI,
    TXT,
    TXT_UEFI,
    Boot,
    File,
    Machine,
)
from trenchboot_predictions import running

from aemseal.measure.boot_entry import Role
from aemseal.measure.differences import seen_in
from aemseal.measure.explain import (
    BootStatus,
    Explanation,
    KnownBoot,
    Verdict,
    explain,
)

machines = pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda machine: machine.name
)
four = pytest.mark.parametrize(
    "machine", [SKINIT, TXT, SKINIT_UEFI, TXT_UEFI], ids=lambda machine: machine.name
)


def explained(
    machine: Machine, boot: Boot, accepted: Boot | None = None
) -> Explanation:
    accepted = accepted or machine.boot
    known = KnownBoot("now", BootStatus.ACCEPTED, running(machine, accepted).measured)
    return explain(seen_in(machine.launched(boot)), [known])


@machines
def test_the_accepted_boot_is_accepted(machine: Machine) -> None:
    assert explained(machine, machine.boot).verdict is Verdict.ACCEPTED


@machines
@pytest.mark.parametrize(("number", "role"), [(0, Role.KERNEL), (1, Role.INITRAMFS)])
def test_a_longer_file_is_named_and_not_what_holds_its_length(
    machine: Machine, number: int, role: Role
) -> None:
    boot = machine.boot.with_module(number, image=b"longer by far")
    found = explained(machine, boot)
    assert (found.pcr, found.role) == (17, role)
    assert found.differences > 1
    assert len(found.others) == found.differences - 1
    assert role not in found.others


@four
def test_an_added_module_is_told_and_not_what_holds_its_length(
    machine: Machine,
) -> None:
    more = File("/boot/ucode.bin", b"microcode", b"ucode.bin")
    boot = replace(machine.boot, modules=(*machine.boot.modules, more))
    found = explained(machine, boot)
    assert (found.expected, found.measured is not None) == (None, True)
    assert "something was measured into PCR" in found.advice


@pytest.mark.parametrize("machine", [SKINIT, TXT], ids=lambda machine: machine.name)
def test_another_xen_is_named_and_not_its_entry_point(machine: Machine) -> None:
    found = explained(machine, machine.boot.with_xen(image=b"Xen of somebody's"))
    assert (found.pcr, found.role, found.path) == (17, Role.XEN, "/boot/xen")


@pytest.mark.parametrize("machine", [SKINIT, TXT], ids=lambda machine: machine.name)
def test_another_command_line_alone_is_in_the_multiboot_information(
    machine: Machine,
) -> None:
    boot = machine.boot.with_module(0, cmdline=b"placeholder ro init=/bin/sh")
    found = explained(machine, boot)
    assert (found.pcr, found.role, found.differences) == (18, Role.BOOT_INFO, 1)
    assert "the files are the accepted ones" in found.advice
    assert "holds every command line" in found.advice


@pytest.mark.parametrize(
    "machine", [SKINIT_UEFI, TXT_UEFI], ids=lambda machine: machine.name
)
def test_under_uefi_a_command_line_is_named_by_its_configuration(
    machine: Machine,
) -> None:
    boot = machine.boot.with_xen(cmdline=b"placeholder console=vga")
    found = explained(machine, boot)
    assert (found.role, found.path) == (Role.CMDLINE, "/boot/efi/xen.cfg")


@pytest.mark.parametrize(
    "machine", [SKINIT_UEFI, TXT_UEFI], ids=lambda machine: machine.name
)
def test_under_uefi_another_xen_alone_has_no_file_to_name(machine: Machine) -> None:
    found = explained(machine, machine.boot.with_xen(image=b"another Xen, as long"))
    assert (found.role, found.path) == (Role.XEN, None) or (
        found.role is Role.MLE and found.path == "/boot/xen"
    )


def test_other_firmware_is_still_told_first() -> None:
    firmware = replace(TXT, more=())
    boot = TXT.boot.with_module(1, image=b"longer by far")
    other = replace(TXT.boot.sinit[0][1], date=0x20240101, code=b"another module")
    boot = replace(boot, sinit=((TXT.boot.sinit[0][0], other),))
    found = explained(firmware, boot)
    assert found.role is Role.SINIT
    assert "firmware" in found.advice
