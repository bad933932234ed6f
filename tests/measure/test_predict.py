# SPDX-License-Identifier: GPL-2.0-or-later
"""What the next boot will measure, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from predictions import (
    MORE,
    OTHER_UUID,
    boots,
    by_role,
    machines,
    next_boot,
    running,
    values,
)
from tboot_boots import (
    DA,
    LEGACY,
    MACHINES,
    SHA256,
    UUID,
    Boot,
    Machine,
    a_boot,
    log_of,
    module_digest,
    verified,
)

from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Calibrated, SourceKind
from aemseal.measure.reports import predict_report
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.words.errors import PredictionError
from aemseal.words.wanted import FileFacts


@given(machines, boots())
@settings(deadline=None)
def test_with_nothing_changed_the_prediction_is_the_running_boot(
    machine: Machine, boot: Boot
) -> None:
    calibration = running(machine, boot)
    prediction = next_boot(calibration, boot)
    assert calibration.is_calibrated
    assert calibration.entry == boot.entry
    assert prediction.is_complete
    assert prediction.is_calibrated
    assert [(m.pcr, m.digests) for m in prediction.measurements] == [
        (m.pcr, m.digests) for m in calibration.measured
    ]
    assert values(prediction) == machine.values(boot)


@given(machines, boots(), boots())
@settings(deadline=None)
def test_a_prediction_is_what_the_next_launch_extends(
    machine: Machine, boot: Boot, following: Boot
) -> None:
    prediction = next_boot(running(machine, boot), following)
    assert values(prediction) == machine.values(following)


@given(machines, boots(), boots())
@settings(deadline=None)
def test_with_the_old_files_overwritten_the_baseline_calibrates(
    machine: Machine, boot: Boot, following: Boot
) -> None:
    kept = running(machine, boot).baseline(boot.title)
    kept = Baseline.from_json(json.loads(json.dumps(kept.to_json())))
    again = running(machine, boot, following, baseline=kept)
    prediction = next_boot(again, following, luks=bool(boot.headers))
    assert again.is_calibrated
    assert prediction.is_calibrated
    expected = machine.values(following)
    if not boot.headers:
        expected.pop(13, None)
    assert values(prediction) == expected


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


CHANGES: dict[str, tuple[Callable[[Boot], Boot], set[int], set[int]]] = {
    "tboot": (lambda b: b.with_tboot(image=flip(b.tboot.image)), {18}, {17}),
    "tboot's command line": (
        lambda b: b.with_tboot(cmdline=flip(b.tboot.cmdline)),
        {18},
        {17},
    ),
    "Xen": (lambda b: b.with_module(0, image=flip(b.modules[0].image)), {18}, {17}),
    "Xen's command line": (
        lambda b: b.with_module(0, cmdline=flip(b.modules[0].cmdline)),
        {18},
        {17},
    ),
    "the kernel": (
        lambda b: b.with_module(1, image=flip(b.modules[1].image)),
        {19},
        {17},
    ),
    "the kernel's command line": (
        lambda b: b.with_module(1, cmdline=flip(b.modules[1].cmdline)),
        {19},
        {17},
    ),
    "the initramfs": (
        lambda b: b.with_module(2, image=flip(b.modules[2].image)),
        {19},
        {17},
    ),
    "the initramfs' command line": (
        lambda b: b.with_module(2, cmdline=b"x"),
        {19},
        {17},
    ),
    "one more module": (
        lambda b: replace(b, modules=(*b.modules, MORE)),
        {19},
        {17},
    ),
    "one module less": (lambda b: replace(b, modules=b.modules[:2]), {19}, {17}),
    "the order of modules": (
        lambda b: replace(b, modules=(b.modules[0], b.modules[2], b.modules[1])),
        {19},
        {17},
    ),
    "a LUKS header": (
        lambda b: replace(b, headers=((UUID, b"another header"),)),
        {13},
        {13},
    ),
    "a second LUKS header": (
        lambda b: replace(b, headers=(*b.headers, (OTHER_UUID, b"h"))),
        {13},
        {13},
    ),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize(("change", "legacy", "da"), CHANGES.values(), ids=CHANGES)
def test_one_changed_byte_changes_exactly_its_pcr(
    change: Callable[[Boot], Boot], legacy: set[int], da: set[int], machine: Machine
) -> None:
    boot = a_boot()
    following = change(boot)
    before = machine.values(boot)
    after = values(next_boot(running(machine, boot), following))
    assert after == machine.values(following)
    changed = {pcr for pcr in before if before[pcr] != after[pcr]}
    assert changed == (legacy if machine is LEGACY else da)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_measurement_tells_its_source(machine: Machine) -> None:
    prediction = next_boot(running(machine, a_boot()), a_boot())
    kinds: dict[Role, set[SourceKind]] = {}
    for each in prediction.measurements:
        kinds.setdefault(each.role, set()).add(each.source.kind)
        if each.source.kind is SourceKind.FILE:
            assert each.source.path
            assert each.source.file_digests
        if each.source.kind is SourceKind.CARRIED:
            assert each.source.event is not None
    assert kinds[Role.XEN] == kinds[Role.MLE] == kinds[Role.LUKS] == {SourceKind.FILE}
    assert kinds[Role.POLICY] == {SourceKind.CONSTANT}
    assert kinds[Role.SINIT] == kinds[Role.PLATFORM] == {SourceKind.CARRIED}


# A real machine: Dell E5470, tboot 1.10.2 (tboot-devel, 2021-08-26)

E5470_MLE = "d4e4d91c518decb666b361cd94c2944ed2629e35402a057f72e98515de799ccc"
E5470_MODULES = [
    "24d765567909a5117eff2fcf4fe92f40d520f1ef633843e896c2e72f8aa164d3",
    "09b853fd473e8bf187e3d498d4a221b2a17e3960a1344f88c08a44ba89b1fecc",
]


def e5470() -> Calibration:
    extends = [
        (kind, pcr, bytes.fromhex(E5470_MLE) if kind == 0x404 else digest, data)
        for kind, pcr, digest, data in DA.extends(a_boot())
    ][:-3]
    extends += [(0x501, 17, bytes.fromhex(d), b"") for d in E5470_MODULES]
    log = verified(log_of(extends))
    assert log.bank.value(17).hex == (
        "17db83cfefb5204226a1cbd8ea62e675dabdcea737c2bc499dd51f0e3a0eee3a"
    )
    boot = a_boot()
    mle = boot.entry.mle_wanted
    facts = FileFacts(
        mle, 1, {SHA256: Digest.from_hex(SHA256, E5470_MLE)}, boot.tboot.notes
    )
    candidates = [Candidate(boot.entry, {mle: facts})]
    kept = calibrate(log, candidates).baseline(boot.title)
    return calibrate(log, candidates, replace(kept, beside=()))


def test_other_files_on_the_e5470_substitute_three_digests_of_its_log() -> None:
    calibration = e5470()
    assert by_role(calibration)[Role.MLE] is Calibrated.NOW
    following = replace(a_boot(), headers=()).with_tboot(image=b"later tboot")
    prediction = next_boot(calibration, following)
    substituted = DA.values(following)
    assert values(prediction) == substituted
    assert substituted[18].hex() == (
        "add552b58f6ed3595ebbea5f4f59d077e0ed4c8601de1898a5559fe95fa86fcc"
    )


# The baseline and the report as JSON


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_report_tells_now_and_next(machine: Machine) -> None:
    boot = a_boot()
    following = boot.with_module(0, image=b"new Xen", cmdline=b"a \xff")
    verified_log = machine.launched(boot)
    prediction = next_boot(running(machine, boot), following)
    selection = PcrSelection(SHA256, (13, 17, 18))
    now = {HashAlgorithm.SHA256: verified_log.bank}
    report = json.loads(json.dumps(predict_report(prediction, selection, now)))
    assert report["schema"] == "aemseal.predict/1"
    assert (report["stack"], report["map"]) == ("tboot", machine.map)
    assert report["entry"] == boot.title
    assert report["selection"] == "sha256:13,17,18"
    assert report["complete"] is report["calibrated"] is True
    assert report["next"]["sha256"] == {
        str(pcr): value.hex()
        for pcr, value in sorted(machine.values(following).items())
    }
    assert report["now"]["sha256"]["17"] == machine.values(boot)[17].hex()
    xen = next(each for each in report["measurements"] if each["role"] == "xen")
    assert xen["source"]["path"] == "/boot/xen.gz"
    assert xen["source"]["cmdline"] == r"a \xff"
    assert xen["digests"]["sha256"] == module_digest(b"a \xff", b"new Xen").hex()
    assert report["refusals"] == []


def test_a_refused_pcr_is_absent_from_next() -> None:
    prediction = next_boot(
        running(replace(LEGACY, policy="ab" * 32), a_boot()), a_boot()
    )
    report = predict_report(prediction, PcrSelection(SHA256, (13, 17)), {})
    assert report["complete"] is False
    assert set(json.loads(json.dumps(report["next"]))["sha256"]) == {"13"}
    refusals = json.loads(json.dumps(report["refusals"]))
    assert [each["pcr"] for each in refusals] == [17, 18, 19]


def test_a_refused_pcr_does_not_stop_a_selection_without_it() -> None:
    machine = replace(LEGACY, sinit=(*LEGACY.sinit, (0x4FE, 18, b"random")))
    prediction = next_boot(running(machine, a_boot()), a_boot())
    required = prediction.require(PcrSelection(SHA256, (13, 17, 19)))
    assert {pcr: digest.value for pcr, digest in required.items()} == {
        pcr: machine.values(a_boot())[pcr] for pcr in (13, 17, 19)
    }
    with pytest.raises(PredictionError, match="PCR 18: event"):
        prediction.require(PcrSelection(SHA256, (13, 17, 18)))
