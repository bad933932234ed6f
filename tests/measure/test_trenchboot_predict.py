# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next launch by TrenchBoot measures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tboot_boots import a_boot as a_boot_by_tboot
from tboot_boots import facts_of as facts_by_tboot
from trenchboot_boots import (
    MACHINES,
    SKINIT,
    SKINIT_UEFI,
    TXT,
    TXT_UEFI,
    Boot,
    File,
    Machine,
    Skl,
    facts_of,
)
from trenchboot_predictions import next_boot, refused, running, updated, values

from aemseal.measure.boot_entry import Role
from aemseal.measure.plan import OriginKind, plan
from aemseal.measure.predict import predict
from aemseal.words.errors import BootFileError, PredictionError

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda each: each.name)
SAME_SIZE = {"image": b"KERNEL"}


# The same files, and files of the same size


@every_machine
def test_the_same_files_give_the_same_pcrs_without_a_caution(machine: Machine) -> None:
    prediction = updated(machine, machine.boot, machine.boot)
    assert values(prediction) == machine.values(machine.boot)
    assert prediction.is_calibrated
    assert prediction.cautions == ()


@every_machine
def test_a_kernel_of_the_same_size_changes_pcr_17_and_leaves_pcr_18(
    machine: Machine,
) -> None:
    following = machine.boot.with_module(0, **SAME_SIZE)
    prediction = updated(machine, machine.boot, following)
    now = machine.values(machine.boot)
    assert prediction.is_complete
    assert values(prediction)[17] == machine.values(following)[17] != now[17]
    assert values(prediction)[18] == now[18]
    (caution,) = prediction.cautions
    assert caution.startswith("the next boot will be blind if GRUB, the firmware, ")


def test_a_pcr_that_is_refused_is_not_cautioned_of() -> None:
    longer = SKINIT.boot.with_module(1, image=b"a longer initramfs")
    prediction = updated(SKINIT, SKINIT.boot, longer)
    assert set(refused(prediction)) == {18}
    assert prediction.cautions == ()


# AMD's table


def test_the_table_follows_from_another_loader() -> None:
    other = replace(SKINIT_UEFI.boot, skl=Skl(b"LOADER" * 3 + b"..", slrt_size=8192))
    prediction = updated(SKINIT_UEFI, SKINIT_UEFI.boot, other)
    assert values(prediction)[18] == SKINIT_UEFI.values(other)[18]
    table = next(e for e in prediction.measurements if e.role is Role.PLATFORM)
    assert table.source.notes["skl_slrt_size"] == "8192"


def test_a_table_that_was_not_explained_is_carried_with_the_same_loader_alone() -> None:
    """Without its version it cannot be made anew."""
    boot = SKINIT.boot
    extra = (0x502, 18, b"?" * 32, b"")

    class Odd(Machine):
        def extends(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
            rows = Machine.extends(self, boot)
            return [*rows[:4], extra, *rows[4:]]

    odd = Odd("odd", is_intel=False, has_table=False)
    assert values(updated(odd, boot, boot)) == odd.values(boot)
    other = replace(boot, skl=Skl(measured=b"SECURE KERNEL LOADER"))
    assert refused(updated(odd, boot, other)) == {
        18: "PCR 18 holds AMD's table, and the secure kernel loader (/boot/skl.bin) is "
        "another one"
    }


# Entries that this log says nothing of


def test_tboots_entry_is_not_predicted() -> None:
    boot = a_boot_by_tboot()
    with pytest.raises(PredictionError, match="is launched by tboot and multiboot2"):
        predict(
            running(TXT, TXT.boot),
            boot.entry,
            facts_by_tboot(boot),
            hook_measures_luks=False,
        )


@pytest.mark.parametrize(
    ("machine", "other"),
    [(SKINIT, SKINIT_UEFI), (TXT_UEFI, TXT)],
    ids=["efi", "legacy"],
)
def test_another_way_of_loading_is_not_predicted(
    machine: Machine, other: Machine
) -> None:
    with pytest.raises(PredictionError, match="is launched by slaunch and"):
        next_boot(running(machine, machine.boot), other.boot)


def test_an_entry_without_a_loader_is_not_predicted() -> None:
    calibration = running(SKINIT, SKINIT.boot)
    with pytest.raises(PredictionError, match="loads no secure kernel loader"):
        next_boot(calibration, replace(SKINIT.boot, skl=None))


def test_a_file_that_is_no_loader_is_none() -> None:
    calibration = running(SKINIT, SKINIT.boot)
    facts = {
        wanted: replace(known, notes={})
        for wanted, known in facts_of(SKINIT.boot).items()
    }
    with pytest.raises(BootFileError, match=r"a secure kernel loader \(skl.bin\)"):
        predict(calibration, SKINIT.boot.entry, facts, hook_measures_luks=False)


def test_more_modules_than_grubs_policy_holds_are_not_predicted() -> None:
    calibration = running(TXT, TXT.boot)
    many = [File(f"/boot/{number}", b"m") for number in range(14)]
    most = replace(TXT.boot, modules=tuple(many[:13]))
    right = TXT.values(most)
    assert values(next_boot(calibration, most)) == {17: right[17]}
    with pytest.raises(PredictionError, match="loads 14 modules, more than GRUB has"):
        next_boot(calibration, replace(TXT.boot, modules=tuple(many)))


# Consent


def test_another_loader_is_asked_for_by_name() -> None:
    other = replace(SKINIT.boot, skl=Skl(measured=b"SECURE KERNEL LOADER"))
    prediction = updated(SKINIT, SKINIT.boot, other)
    changes = plan(running(SKINIT, SKINIT.boot).measured, prediction).changes
    assert [(e.name, e.path, e.origin.kind) for e in changes] == [
        ("skl", "/boot/skl.bin", OriginKind.UNKNOWN)
    ]


def test_two_rules_that_fit_as_well_refuse_what_they_disagree_on() -> None:
    """A Xen that is on no record and gone: no rule of GRUB's was seen to hold."""
    boot = SKINIT.boot
    calibration = running(SKINIT, boot, boot.with_xen(image=b"neX"))
    assert calibration.rivals
    why = refused(next_boot(calibration, boot.with_xen(image=b"neX")))
    assert "which generation's rule for xen (/boot/xen) holds here" in why[17]
