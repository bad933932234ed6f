# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a boot was accepted or not, and whether to type the passphrase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from predictions import OTHER_UUID, running
from tboot_boots import (
    DA,
    LEGACY,
    MACHINES,
    SHA256,
    UUID,
    Boot,
    File,
    Machine,
    a_boot,
    luks_record,
    module_digest,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.differences import seen_in
from aemseal.measure.explain import (
    BootStatus,
    Explanation,
    KnownBoot,
    Verdict,
    explain,
    tpm_changed,
    unmeasured,
)
from aemseal.measure.luks import LuksExtends
from aemseal.measure.reports import explain_report

EVIL = File("/boot/evil", b"evil")


def known(
    name: str,
    boot: Boot,
    status: BootStatus = BootStatus.ACCEPTED,
    machine: Machine = LEGACY,
) -> KnownBoot:
    return KnownBoot(name, status, running(machine, boot).measured)


def explained(
    boot: Boot,
    boots: Sequence[KnownBoot],
    machine: Machine = LEGACY,
    *,
    luks: bool = True,
) -> Explanation:
    record: LuksExtends | None = luks_record(boot) if luks else None
    return explain(seen_in(machine.launched(boot)), boots, record)


def old_xen() -> Boot:
    return a_boot().with_module(0, image=b"old Xen", notes={"xen_version": "4.17.4"})


NOW = "Xen 4.17.5"


def three() -> list[KnownBoot]:
    """An accepted boot, a staged and a retired one."""
    staged = a_boot().with_module(1, image=b"new kernel")
    return [
        known(NOW, a_boot()),
        known("next kernel", staged, BootStatus.STAGED),
        known("before", old_xen(), BootStatus.RETIRED),
    ]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_an_accepted_boot_is_named(machine: Machine) -> None:
    boots = [known(NOW, a_boot(), machine=machine)]
    found = explained(a_boot(), boots, machine)
    assert (found.verdict, found.known_as) == (Verdict.ACCEPTED, NOW)
    assert found.differences == 0
    assert "safe to type" in found.advice


def test_a_staged_boot_is_accepted_and_says_that_it_is_staged() -> None:
    found = explained(a_boot().with_module(1, image=b"new kernel"), three())
    assert found.verdict is Verdict.ACCEPTED
    assert found.known_as == "next kernel, Xen 4.17.5 (staged)"


def test_the_old_xen_put_back_is_the_retired_one_with_its_version() -> None:
    found = explained(old_xen(), three())
    assert found.verdict is Verdict.RETIRED
    assert found.known_as == "before, Xen 4.17.4 (retired)"
    assert (found.pcr, found.role, found.path) == (18, Role.XEN, "/boot/xen.gz")
    assert "Do not type" in found.advice
    assert "4.17.4 (retired)" in found.advice


def test_one_changed_byte_of_the_initramfs_names_the_file_and_both_digests() -> None:
    found = explained(a_boot().with_module(2, image=b"initramfz"), three())
    assert found.verdict is Verdict.CHANGED
    assert (found.pcr, found.role, found.path) == (
        19,
        Role.INITRAMFS,
        "/boot/initramfs.img",
    )
    assert found.expected is not None
    assert found.expected.digests[SHA256].value == module_digest(b"", b"initramfs")
    assert found.measured is not None
    assert found.measured.value == module_digest(b"", b"initramfz")
    assert (found.known_as, found.differences) == (None, 1)
    assert "/boot/initramfs.img" in found.advice


@pytest.mark.parametrize(
    ("number", "role"), [(0, Role.XEN), (1, Role.KERNEL), (2, Role.INITRAMFS)]
)
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_first_difference_in_order_of_measurement_is_named(
    number: int, role: Role, machine: Machine
) -> None:
    boot = a_boot()
    for each in range(number, 3):
        boot = boot.with_module(each, cmdline=b"changed")
    found = explained(boot, [known(NOW, a_boot(), machine=machine)], machine)
    assert (found.role, found.differences) == (role, 3 - number)


def test_an_old_xen_beneath_a_new_kernel_is_known_by_its_version() -> None:
    found = explained(old_xen().with_module(1, image=b"evil"), three())
    assert found.verdict is Verdict.CHANGED
    assert (found.role, found.known_as) == (Role.XEN, "Xen 4.17.4 (retired)")
    assert "instead of the accepted /boot/xen.gz this is Xen 4.17.4" in found.advice


def test_a_file_without_a_version_is_known_by_the_boot_it_is_of() -> None:
    retired = known(
        "before", a_boot().with_module(1, image=b"old kernel"), BootStatus.RETIRED
    )
    boot = a_boot().with_module(1, image=b"old kernel").with_module(2, image=b"evil")
    found = explained(boot, [known(NOW, a_boot()), retired])
    assert found.known_as == "before, Xen 4.17.5 (retired)"


def test_the_closest_boot_is_the_one_compared_with() -> None:
    far = known("far", a_boot().with_tboot(image=b"x").with_module(2, image=b"y"))
    found = explained(
        a_boot().with_module(2, image=b"evil"), [far, known(NOW, a_boot())]
    )
    assert (found.role, found.differences) == (Role.INITRAMFS, 1)


def test_an_added_module_is_no_changed_file() -> None:
    boot = replace(a_boot(), modules=(*a_boot().modules, EVIL))
    found = explained(boot, three())
    assert (found.verdict, found.pcr, found.expected) == (Verdict.CHANGED, 19, None)
    assert found.measured is not None
    assert found.measured.value == module_digest(b"", b"evil")
    assert "something was measured into PCR 19" in found.advice


def test_a_module_put_between_is_told_from_a_changed_one() -> None:
    xen, *others = a_boot().modules
    found = explained(replace(a_boot(), modules=(xen, EVIL, *others)), three())
    assert (found.expected, found.differences) == (None, 1)


def test_what_differs_besides_is_told_without_what_only_moved() -> None:
    xen, kernel, _ = a_boot().modules
    other = File("/boot/initramfs.img", b"initramfz")
    found = explained(replace(a_boot(), modules=(EVIL, xen, kernel, other)), three())
    assert (found.role, found.others) == (Role.XEN, (Role.INITRAMFS,))


def test_a_missing_module_is_named() -> None:
    found = explained(replace(a_boot(), modules=a_boot().modules[:2]), three())
    assert (found.path, found.measured) == ("/boot/initramfs.img", None)
    assert "was not measured" in found.advice


def test_other_firmware_is_told_from_changed_files() -> None:
    firmware = list(LEGACY.sinit)
    firmware[1] = (0x40A, 17, b"another BIOS")
    other = replace(LEGACY, sinit=tuple(firmware))
    found = explained(a_boot(), three(), other)
    assert (found.role, found.path) == (Role.PLATFORM, None)
    assert "firmware" in found.advice


def test_tboots_firmware_is_told_before_files_in_whatever_pcr() -> None:
    firmware = list(DA.sinit)
    firmware[-1] = (0x414, 18, b"another BIOS")
    other = replace(DA, sinit=tuple(firmware))
    boot = a_boot().with_module(2, image=b"initramfz")
    found = explained(boot, [known(NOW, a_boot(), machine=DA)], other)
    assert (found.pcr, found.role, found.differences) == (18, Role.PLATFORM, 2)


def test_another_policy_has_no_file_to_name() -> None:
    found = explained(a_boot(), three(), replace(LEGACY, policy="ab" * 32))
    assert (found.role, found.path) == (Role.POLICY, None)
    assert "the policy measurement" in found.advice


def test_a_changed_luks_header_names_the_disk() -> None:
    boot = replace(a_boot(), headers=((UUID, b"another disk"),))
    found = explained(boot, three())
    assert (found.pcr, found.role) == (13, Role.LUKS)
    assert f"/dev/disk/by-uuid/{UUID}" in found.advice


def test_an_added_luks_header_is_told() -> None:
    boot = replace(a_boot(), headers=(*a_boot().headers, (OTHER_UUID, b"usb")))
    found = explained(boot, three())
    assert (found.pcr, found.expected) == (13, None)
    assert "added a disk" in found.advice


def test_a_luks_header_that_was_not_measured_may_be_for_want_of_the_hook() -> None:
    found = explained(replace(a_boot(), headers=()), three())
    assert (found.pcr, found.role, found.measured) == (13, Role.LUKS, None)
    assert "has no hook" in found.advice
    assert f"/dev/disk/by-uuid/{UUID}" in found.advice


def test_without_a_record_of_the_hook_pcr_13_is_not_compared() -> None:
    boot = replace(a_boot(), headers=((UUID, b"another disk"),))
    assert explained(boot, three(), luks=False).verdict is Verdict.ACCEPTED


def test_with_no_boot_on_record_nothing_is_promised() -> None:
    found = explained(a_boot(), [])
    assert (found.verdict, found.expected, found.pcr) == (Verdict.CHANGED, None, None)
    assert "no accepted boot is on record" in found.advice


def test_a_retired_boot_is_known_even_when_nothing_is_accepted() -> None:
    found = explained(old_xen(), [known("before", old_xen(), BootStatus.RETIRED)])
    assert (found.verdict, found.path) == (Verdict.RETIRED, None)


def test_a_boot_that_is_accepted_again_is_not_called_retired() -> None:
    boots = [
        known("before", a_boot(), BootStatus.RETIRED),
        known(NOW, a_boot()),
    ]
    assert explained(a_boot(), boots).verdict is Verdict.ACCEPTED


def test_a_name_that_tells_the_version_is_not_told_it_twice() -> None:
    assert known(NOW, a_boot(), BootStatus.RETIRED).label == "Xen 4.17.5 (retired)"
    unversioned = known("old", a_boot().with_module(0, notes={}), BootStatus.RETIRED)
    assert unversioned.label == "old (retired)"
    assert KnownBoot("x", BootStatus.ACCEPTED, ()).label == "x"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (unmeasured(), Verdict.UNMEASURED),
        (tpm_changed(), Verdict.TPM_CHANGED),
    ],
)
def test_a_boot_without_evidence_has_its_sentence(
    found: Explanation, verdict: Verdict
) -> None:
    assert found.verdict is verdict
    assert found.advice.startswith("Do not type the passphrase")
    assert found.advice.endswith(".")


def test_the_report_is_plain_json() -> None:
    found = explained(a_boot().with_module(0, image=b"evil"), three())
    report = json.loads(json.dumps(explain_report(found)))
    assert report["schema"] == "aemseal.explain/1"
    assert report["verdict"] == "changed"
    assert (report["pcr"], report["role"]) == (18, "xen")
    assert report["path"] == "/boot/xen.gz"
    assert report["expected"]["version"] == "4.17.5"
    assert report["measured"]["digests"] == {
        "sha256": module_digest(b"placeholder", b"evil").hex()
    }
    assert report["known_as"] is None
    report = json.loads(json.dumps(explain_report(unmeasured())))
    assert report["expected"] is report["measured"] is report["role"] is None
