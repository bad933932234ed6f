# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed since the last verified boot, and who answers for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions import next_boot, running
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
    module_digest,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Prediction, Source, SourceKind
from aemseal.measure.plan import (
    Change,
    OriginKind,
    Plan,
    components,
    plan,
)
from aemseal.measure.reports import plan_report

UCODE = File("/boot/ucode.bin", b"microcode")
XSM = File("/boot/xsm.bin", b"xsm policy")


def predicted(machine: Machine, boot: Boot, following: Boot) -> Prediction:
    return next_boot(running(machine, boot), following)


def plan_of(boot: Boot, following: Boot, machine: Machine = LEGACY) -> Plan:
    """The usual plan: the running boot is the last verified one, and accepted."""
    measured = running(machine, boot).measured
    return plan(measured, predicted(machine, boot, following), measured)


def origins(plan: Plan) -> dict[str, OriginKind]:
    return {each.name: each.origin.kind for each in plan.changes}


def only(plan: Plan) -> Change:
    (change,) = plan.changes
    return change


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_without_a_change_there_is_nothing_to_answer_for(machine: Machine) -> None:
    assert plan_of(a_boot(), a_boot(), machine) == Plan(())


@pytest.mark.parametrize(("machine", "pcr"), [(LEGACY, 18), (DA, 17)])
def test_a_new_xen_is_one_change_with_its_versions_and_pcr(
    machine: Machine, pcr: int
) -> None:
    following = a_boot().with_module(
        0, image=b"new", path="/boot/xen-2.gz", notes={"xen_version": "4.17.6"}
    )
    change = only(plan_of(a_boot(), following, machine))
    assert (change.name, change.role, change.path) == (
        "xen",
        Role.XEN,
        "/boot/xen-2.gz",
    )
    assert change.pcrs == (pcr,)
    assert change.before is not None
    assert change.after is not None
    assert change.before.source.version == "4.17.5"
    assert change.after.source.version == "4.17.6"
    assert change.after.source.file_digests[SHA256] == SHA256.hash(b"new")
    assert change.origin.kind is OriginKind.UNKNOWN
    assert change.origin.detail == "nobody answers for these bytes"


def test_a_file_under_another_name_is_no_change_of_bytes() -> None:
    following = a_boot().with_module(1, path="/boot/vmlinuz-renamed")
    assert plan_of(a_boot(), following).changes == ()


def test_a_command_line_is_not_answered_for_by_its_file() -> None:
    change = only(plan_of(a_boot(), a_boot().with_module(1, cmdline=b"init=/bin/sh")))
    assert change.name == "kernel"
    assert change.origin.kind is OriginKind.UNKNOWN
    assert "another command line" in change.origin.detail


def test_added_modules_are_numbered_from_the_second_of_a_role() -> None:
    following = replace(a_boot(), modules=(*a_boot().modules, UCODE, XSM))
    changes = plan_of(a_boot(), following).changes
    assert [(c.name, c.before, c.pcrs) for c in changes] == [
        ("module", None, (19,)),
        ("module 2", None, (19,)),
    ]


def test_a_removed_module_is_a_change_that_nobody_answers_for() -> None:
    boot = replace(a_boot(), modules=(*a_boot().modules, XSM))
    change = only(plan_of(boot, a_boot()))
    assert (change.name, change.after, change.path) == ("module", None, "/boot/xsm.bin")
    assert change.origin.kind is OriginKind.UNKNOWN


def test_reordered_modules_are_changes_although_their_bytes_were_measured() -> None:
    """Linux first would start without Xen, from bytes that all ran in this boot."""
    xen, kernel, initramfs = a_boot().modules
    following = replace(a_boot(), modules=(kernel, initramfs, xen))
    plan = plan_of(a_boot(), following)
    assert set(origins(plan)) == {"xen", "kernel", "initramfs"}
    assert set(origins(plan).values()) == {OriginKind.UNKNOWN}


def test_a_new_tboot_brings_its_own_policy() -> None:
    old = replace(a_boot()).with_tboot(
        notes={"tboot_version": "1.9.11", "mle_capabilities": "0x627"}
    )
    new = a_boot().with_tboot(image=b"tboot 1.10.5")
    before = "27808f64e6383982cd3bcc10cfcb3457c0b65f465f779d89b668839eaf263a67"
    plan = plan_of(old, new, replace(DA, policy=before))
    assert origins(plan) == {
        "mle": OriginKind.UNKNOWN,
        "policy": OriginKind.CONSTANT,
    }
    policy = next(each for each in plan.changes if each.name == "policy")
    assert policy.pcrs == (17, 18)
    assert "1.10.5" in policy.origin.detail


def test_a_tboot_of_no_known_version_still_answers_for_its_constant() -> None:
    source = Source(SourceKind.CONSTANT)
    one = Measurement(17, {SHA256: SHA256.hash(b"1")}, Role.POLICY, source)
    prediction = Prediction("tboot", "da", "t", (one,))
    assert "unknown version" in only(plan([], prediction)).origin.detail


def test_what_this_accepted_boot_measured_is_answered_for() -> None:
    """The last verified boot is older than the running, accepted one."""
    older = replace(
        a_boot().with_module(0, image=b"old Xen"), modules=(*a_boot().modules, XSM)
    ).with_module(1, image=b"old kernel")
    here = running(LEGACY, a_boot())
    prediction = predicted(LEGACY, a_boot(), a_boot())
    before = running(LEGACY, older).measured
    accepted = plan(before, prediction, here.measured)
    assert origins(accepted) == {
        "kernel": OriginKind.MEASURED,
        "module": OriginKind.MEASURED,
    }
    assert accepted.unknown == ()
    unaccepted = plan(before, prediction)
    assert set(origins(unaccepted).values()) == {OriginKind.UNKNOWN}


def test_other_firmware_since_the_last_verified_boot_is_told() -> None:
    firmware = list(LEGACY.sinit)
    firmware[1] = (0x40A, 17, b"another BIOS")
    other = replace(LEGACY, sinit=tuple(firmware))
    prediction = predicted(other, a_boot(), a_boot())
    before = running(LEGACY, a_boot()).measured
    here = running(other, a_boot()).measured
    assert origins(plan(before, prediction, here)) == {"platform": OriginKind.MEASURED}
    assert origins(plan(before, prediction)) == {"platform": OriginKind.UNKNOWN}


def test_a_changed_luks_header_is_named_by_its_device() -> None:
    change = only(plan_of(a_boot(), replace(a_boot(), headers=((UUID, b"new key"),))))
    assert (change.name, change.pcrs) == ("luks", (13,))
    assert change.path == f"/dev/disk/by-uuid/{UUID}"


# Every changed byte is accounted for

measurement = st.builds(
    Measurement,
    pcr=st.sampled_from([13, 17, 18]),
    digests=st.sampled_from([{SHA256: SHA256.hash(bytes([n]))} for n in range(4)]),
    role=st.sampled_from([Role.XEN, Role.KERNEL, Role.MODULE, Role.POLICY]),
    source=st.just(Source(SourceKind.FILE, path="/boot/x")),
)
boots = st.lists(measurement, max_size=5)


@given(boots, boots, boots)
@settings(deadline=None)
def test_two_boots_with_other_pcrs_differ_in_at_least_one_change(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    measured: Sequence[Measurement],
) -> None:
    one = Prediction("tboot", "da", "t", tuple(before))
    other = Prediction("tboot", "da", "t", tuple(after))
    changes = plan(before, other, measured).changes
    if one.bank(SHA256) != other.bank(SHA256):
        assert changes
    if list(before) == list(after):
        assert not changes


@given(boots, boots)
@settings(deadline=None)
def test_nothing_is_answered_for_without_an_accepted_boot(
    before: Sequence[Measurement], after: Sequence[Measurement]
) -> None:
    made = plan(before, Prediction("tboot", "da", "t", tuple(after)))
    assert made.unknown == made.changes


@given(boots, boots)
@settings(deadline=None)
def test_what_is_answered_for_by_this_boot_changes_none_of_its_pcrs(
    before: Sequence[Measurement], after: Sequence[Measurement]
) -> None:
    """With every change answered for, the predicted PCRs are this boot's own."""
    other = Prediction("tboot", "da", "t", tuple(after))
    made = plan(before, other, before)
    if before and not made.unknown:
        assert other.bank(SHA256) == Prediction("t", "m", "e", tuple(before)).bank(
            SHA256
        )


def test_components_keep_the_order_of_measurement() -> None:
    names = [each.name for each in components(running(DA, a_boot()).measured)]
    assert names[-5:] == ["policy", "xen", "kernel", "initramfs", "luks"]


def test_the_report_is_plain_json() -> None:
    following = a_boot().with_module(0, image=b"new", cmdline=b"a b")
    report = json.loads(json.dumps(plan_report(plan_of(a_boot(), following))))
    assert report["schema"] == "aemseal.plan/1"
    (change,) = report["changes"]
    assert change["role"] == change["name"] == "xen"
    assert change["path"] == "/boot/xen.gz"
    assert change["pcrs"] == [18]
    assert change["after"]["cmdline"] == "a b"
    assert change["after"]["digests"]["sha256"] == module_digest(b"a b", b"new").hex()
    assert change["before"]["version"] == "4.17.5"
    assert change["origin"]["kind"] == "unknown"
    assert change["files"] == []
    added = replace(a_boot(), modules=(*a_boot().modules, XSM))
    (change,) = json.loads(json.dumps(plan_report(plan_of(a_boot(), added))))["changes"]
    assert change["before"] is None
