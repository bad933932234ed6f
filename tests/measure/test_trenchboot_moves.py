# SPDX-License-Identifier: GPL-2.0-or-later
"""What TrenchBoot measures from more than files: which moved input refuses it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trenchboot_boots import (
    MACHINES,
    SHA256,
    SINIT,
    SKINIT,
    SKINIT_UEFI,
    SKYLAKE,
    TXT,
    TXT_UEFI,
    Boot,
    Machine,
    Skl,
)
from trenchboot_predictions import next_boot, refused, running, updated, values

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Calibrated
from aemseal.measure.launch import RunningSystem

MULTIBOOT = [each for each in MACHINES if not each.is_efi]
UEFI = [each for each in MACHINES if each.is_efi]
by_multiboot = pytest.mark.parametrize("machine", MULTIBOOT, ids=lambda each: each.name)
by_uefi = pytest.mark.parametrize("machine", UEFI, ids=lambda each: each.name)


CONFIG = "/boot/efi/xen.cfg"


def in_multiboot(why: str) -> str:
    return f"PCR 18 holds the multiboot information, and {why}"


def in_xen(why: str) -> str:
    return f"PCR 17 holds Xen as it lies in memory, and {why}"


# The multiboot information


def test_an_initramfs_that_grew_is_told_by_how_much() -> None:
    image = TXT.boot.modules[1].image + bytes(4096)
    prediction = updated(TXT, TXT.boot, TXT.boot.with_module(1, image=image))
    assert refused(prediction)[18] == in_multiboot("the initramfs grew by 4096 bytes")
    assert set(values(prediction)) == {17}


@by_multiboot
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b.with_module(0, image=b"ke"), "the kernel shrank by 4 bytes"),
        (
            lambda b: replace(b, modules=b.modules[:1]),
            "the entry loads 1 modules instead of 2",
        ),
        (
            lambda b: replace(b, modules=b.modules[::-1]),
            " and ".join(
                (
                    "the kernel grew by 3 bytes",
                    "the initramfs shrank by 3 bytes",
                    "the command line of the kernel changed",
                    "the command line of /boot/vmlinuz may have changed",
                )
            ),
        ),
        (lambda b: b.with_xen(image=b"neX"), "Xen (/boot/xen) is another one"),
        (
            lambda b: b.with_xen(tail=b"SYMBOLS"),
            "/boot/xen differs in what is not measured of it",
        ),
        (lambda b: b.with_xen(cmdline=b"x"), "the command line of Xen changed"),
        (
            lambda b: b.with_module(0, cmdline=b"x"),
            "the command line of the kernel changed",
        ),
        (
            lambda b: b.with_module(1, cmdline=b"x"),
            "the command line of /boot/initramfs.img may have changed",
        ),
    ],
    ids=["size", "fewer", "order", "xen", "symbols", "xen's", "kernel's", "module's"],
)
def test_each_input_of_the_information_that_moves_is_named(
    machine: Machine, change: object, why: str
) -> None:
    assert callable(change)
    following: Boot = change(machine.boot)
    prediction = updated(machine, machine.boot, following)
    assert refused(prediction)[18] == in_multiboot(why)
    types = machine.types if len(following.modules) == 2 else machine.types[:2]
    right = replace(machine, types=types).values(following)
    assert values(prediction) == {17: right[17]}


@by_multiboot
def test_several_inputs_are_named_together(machine: Machine) -> None:
    following = machine.boot.with_xen(image=b"neX").with_module(0, image=b"k")
    why = refused(updated(machine, machine.boot, following))[18]
    assert why == in_multiboot(
        "Xen (/boot/xen) is another one and the kernel shrank by 5 bytes"
    )


def test_a_loader_of_another_length_moves_what_is_loaded() -> None:
    longer = replace(SKINIT.boot, skl=Skl(measured=b"a longer secure kernel loader"))
    prediction = updated(SKINIT, SKINIT.boot, longer)
    assert refused(prediction) == {18: in_multiboot("/boot/skl.bin grew by 9 bytes")}
    assert values(prediction)[17] == SKINIT.values(longer)[17]
    same = replace(SKINIT.boot, skl=Skl(measured=b"SECURE KERNEL LOADER"))
    assert values(updated(SKINIT, SKINIT.boot, same)) == SKINIT.values(same)


@by_multiboot
def test_every_file_of_slaunch_module_moves_what_is_loaded_after_it(
    machine: Machine,
) -> None:
    """A SINIT module on AMD, too: the menu entry is one for all processors."""
    boot = replace(machine.boot, sinit=((SINIT, SKYLAKE),))
    larger = replace(boot, sinit=((SINIT, replace(SKYLAKE, size=0x3000)),))
    prediction = updated(machine, boot, larger)
    assert f"{SINIT} grew by 4096 bytes" in refused(prediction)[18]
    assert machine.values(larger)[18] != machine.values(boot)[18]
    assert values(prediction) == {17: machine.values(larger)[17]}


def test_a_loader_that_grew_behind_what_is_measured_moves_what_is_loaded() -> None:
    """Replaced since the boot: the running log fits the new file as well."""
    longer = replace(SKINIT.boot, skl=Skl(tail=b"unmeasured, and more of it"))
    why = refused(updated(SKINIT, SKINIT.boot, longer))
    assert why == {18: in_multiboot("/boot/skl.bin grew by 16 bytes")}


def test_sizes_that_are_on_no_record_are_refused() -> None:
    boot = TXT.boot
    calibration = running(TXT, boot, boot.with_module(1, image=b"INITRAMFS"))
    why = refused(next_boot(calibration, boot.with_module(1, image=b"INITRAMFS")))
    assert "how long the running initramfs is, is not known" in why[18]


# Command lines of a running multiboot boot


def told(boot: Boot, xen: bytes | None, dom0: bytes | None, is_same: bool) -> None:
    """Whether the running command lines are taken for those of the entry."""
    prediction = updated(SKINIT, boot, boot, system=RunningSystem(xen, dom0))
    assert (18 in values(prediction)) is is_same


XENS, DOM0S = b"placeholder console=none", b"placeholder ro"


@pytest.mark.parametrize(
    ("xen", "dom0", "is_same"),
    [
        (XENS, DOM0S, True),
        (None, DOM0S, False),
        (XENS, None, False),
        (XENS + b" more", DOM0S, False),
        (XENS, DOM0S + b" more", False),
        (XENS, DOM0S + b" acpi=off", True),
        (XENS, DOM0S + b" noapic", False),
        (XENS, DOM0S + b" acpi=ht", False),
        (XENS, DOM0S + b"  ", False),
        (XENS, DOM0S + b" acpi=off quiet", False),
    ],
)
def test_only_words_that_xen_adds_of_itself_are_dropped(
    xen: bytes | None, dom0: bytes | None, is_same: bool
) -> None:
    told(SKINIT.boot, xen, dom0, is_same)


def test_xen_hands_on_words_of_its_own_command_line() -> None:
    own = b"noapic acpi=ht"
    boot = SKINIT.boot.with_xen(cmdline=own)
    told(boot, own, DOM0S + b" noapic acpi=ht", is_same=True)
    told(boot, own, DOM0S + b" noapic acpi=force", is_same=False)


def test_options_for_dom0_on_xens_command_line_are_not_told_by_xen() -> None:
    boot = SKINIT.boot.with_xen(cmdline=b"a -- quiet")
    system = RunningSystem(b"a", DOM0S + b" quiet")
    why = refused(updated(SKINIT, boot, boot, system=system))[18]
    assert "Xen, whose command line has options of dom0's, does not tell all" in why


def test_a_command_line_that_xen_may_have_cut_off_is_not_known() -> None:
    long = b"x" * 1023
    boot = SKINIT.boot.with_module(0, cmdline=long)
    why = refused(updated(SKINIT, boot, boot))[18]
    assert why == in_multiboot(
        "the command line that the kernel runs with is not known"
    )
    shorter = SKINIT.boot.with_module(0, cmdline=long[:1022])
    assert updated(SKINIT, shorter, shorter).is_complete


# Intel: what lies below Xen


@pytest.mark.parametrize("machine", [TXT, TXT_UEFI], ids=["multiboot", "uefi"])
def test_slaunch_modules_of_another_size_move_the_os_to_mle_data(
    machine: Machine,
) -> None:
    path, made = machine.boot.sinit[0]
    larger = replace(machine.boot, sinit=((path, replace(made, size=0x3000)),))
    reasons = {each.reason for each in updated(machine, machine.boot, larger).refusals}
    why = f"PCR 18 holds the OS to MLE data, and {path} grew by 4096 bytes"
    assert why in reasons
    more = replace(machine.boot, sinit=(*machine.boot.sinit, ("/boot/other", made)))
    why = refused(updated(machine, machine.boot, more))[18]
    assert "the entry has 2 files of slaunch_module instead of 1" in why


def test_under_uefi_another_xen_moves_what_lies_below_it() -> None:
    following = TXT_UEFI.boot.with_xen(build_id="cd" * 20)
    why = refused(updated(TXT_UEFI, TXT_UEFI.boot, following))
    assert why[17] == in_xen("xen.efi is another Xen")
    assert why[18] == "PCR 18 holds the OS to MLE data, and xen.efi is another Xen"


# Xen as a UEFI program


@by_uefi
def test_command_lines_and_modules_are_predicted_under_uefi(machine: Machine) -> None:
    following = machine.boot.with_xen(cmdline=b"other").with_module(0, cmdline=b"x y")
    prediction = updated(machine, machine.boot, following)
    why = refused(prediction)
    assert "a command line changed (now " in why[17]
    assert (18 in why) is machine.is_intel
    measured = {e.role: e for e in prediction.measurements if e.pcr == 18}
    right = [digest for _, pcr, digest, _ in machine.extends(following) if pcr == 18]
    told = [e.digests[SHA256].value for e in prediction.measurements if e.pcr == 18]
    assert measured[Role.CMDLINE].calibrated is not Calibrated.NO
    own = len(right) - 3
    assert told[own:] == right[own:]


@by_uefi
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b.with_xen(build_id="cd" * 20), "xen.efi is another Xen"),
        (
            lambda b: b.with_xen(tail=b"SYMBOLS"),
            "xen.efi is not the file that it was",
        ),
        (
            lambda b: b.with_module(1, image=b"init"),
            "the initramfs shrank by 5 bytes",
        ),
        (
            lambda b: replace(b, configs=((CONFIG, b"# a word more\n[aem]\n"),)),
            "/boot/efi/xen.cfg has another length",
        ),
        (
            lambda b: replace(b, modules=b.modules[:1]),
            "the entry loads 1 modules instead of 2",
        ),
        (
            lambda b: b.with_module(1, cmdline=b"\xff"),
            r"a command line changed (now '\\xff')",
        ),
    ],
    ids=["build", "file", "size", "configuration", "fewer", "string"],
)
def test_each_input_of_xens_image_that_moves_is_named(
    machine: Machine, change: object, why: str
) -> None:
    assert callable(change)
    prediction = updated(machine, machine.boot, change(machine.boot))
    assert refused(prediction)[17] == in_xen(why)


@by_uefi
def test_a_configuration_of_another_name_and_length_moves_xens_image(
    machine: Machine,
) -> None:
    """Another entry, with a copy of xen.efi whose configuration says the same."""
    copy = "/boot/efi/xen-copy.cfg"
    other = replace(
        machine.boot, configs=((copy, b"# the same, said longer\n[aem]\n"),)
    )
    why = refused(updated(machine, machine.boot, other))
    assert why[17] == in_xen(f"{copy} has another length")
    same = replace(machine.boot, configs=((copy, b"[aem]\n"),))
    right = machine.values(same)
    assert values(updated(machine, machine.boot, same)) == right


@by_uefi
def test_every_file_of_a_chained_configuration_counts(machine: Machine) -> None:
    first = (CONFIG, b"chain=next.cfg\n")
    boot = replace(machine.boot, configs=(first, ("/boot/efi/next.cfg", b"[aem]\n")))
    longer = replace(boot, configs=(first, ("/boot/efi/next.cfg", b"# more\n[aem]\n")))
    why = refused(updated(machine, boot, longer))
    chained = f"{CONFIG}, or a file it chains to, has another length"
    assert why[17] == in_xen(chained)
    assert values(updated(machine, boot, boot)) == machine.values(boot)


@by_uefi
@pytest.mark.parametrize("build_id", [None, "ef" * 20])
def test_xen_is_carried_over_only_with_the_build_id_that_runs(
    machine: Machine, build_id: str | None
) -> None:
    boot = machine.boot
    system = replace(machine.system(boot), xen_build_id=build_id)
    why = refused(updated(machine, boot, boot, system=system))
    expected = "another Xen" if build_id else "is not known"
    assert expected in why[17]


def test_a_loader_that_leaves_other_room_moves_xens_table_under_uefi() -> None:
    boot = SKINIT_UEFI.boot
    other = replace(boot, skl=Skl(b"SECURE KERNEL LOADER", slrt_size=4096))
    prediction = updated(SKINIT_UEFI, boot, other)
    assert refused(prediction) == {
        17: in_xen("/boot/skl.bin leaves other room for the table")
    }
    assert values(prediction) == {18: SKINIT_UEFI.values(other)[18]}
