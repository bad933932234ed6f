# SPDX-License-Identifier: GPL-2.0-or-later
"""Calibration, the baseline, and what the next boot will measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tboot_boots import (
    CAPABILITIES,
    DA,
    LEGACY,
    MACHINES,
    SHA1,
    SHA256,
    UUID,
    Boot,
    File,
    Machine,
    a_boot,
    facts_of,
    log_of,
    luks_record,
    mle_digest,
    module_digest,
    sha256,
    verified,
)

from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Calibrated, Prediction, SourceKind
from aemseal.measure.luks import luks_value, require_luks
from aemseal.measure.predict import predict
from aemseal.measure.reports import predict_report
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    BankError,
    BootFileError,
    EvidenceError,
    PredictionError,
    ReplayError,
)
from aemseal.words.wanted import FileFacts, Wanted

OTHER_UUID = "00000000-aaaa-bbbb-cccc-dddddddddddd"
MORE = File("/boot/ucode.bin", b"ucode", b"", {})


def running(
    machine: Machine,
    boot: Boot,
    *now: Boot,
    baseline: Baseline | None = None,
    with_luks: bool = True,
) -> Calibration:
    """Calibrate a boot, the files now being those of `now` (else the boot's own)."""
    candidates = [Candidate(each.entry, facts_of(each)) for each in now or (boot,)]
    luks = luks_record(boot) if with_luks else []
    return calibrate(machine.launched(boot), candidates, baseline, luks)


def next_boot(calibration: Calibration, boot: Boot, *, luks: bool = True) -> Prediction:
    facts = facts_of(boot)
    return predict(calibration, boot.entry, facts, hook_measures_luks=luks)


def values(prediction: Prediction) -> dict[int, bytes]:
    return {pcr: d.value for pcr, d in prediction.bank(SHA256).values.items()}


def by_role(calibration: Calibration) -> dict[Role, Calibrated]:
    return {each.role: each.calibrated for each in calibration.measured}


bytes_ = st.binary(min_size=1, max_size=8)
cmdlines = st.binary(max_size=12).map(lambda b: b.replace(b"\0", b" "))


@st.composite
def boots(draw: st.DrawFn) -> Boot:
    """A boot with one to six modules, some of them dropped, and up to two headers."""
    modules = []
    for number in range(draw(st.integers(1, 6))):
        skipped = number > 0 and draw(st.booleans()) and draw(st.booleans())
        modules.append(
            File(
                f"/boot/module-{number}",
                draw(bytes_),
                draw(cmdlines),
                {"tboot_skips": "sinit-acm"} if skipped else {},
                nounzip=draw(st.booleans()),
            )
        )
    tboot = replace(a_boot().tboot, image=draw(bytes_), cmdline=draw(cmdlines))
    uuids = draw(st.sampled_from([(), (UUID,), (UUID, OTHER_UUID)]))
    return Boot(tboot, tuple(modules), tuple((uuid, draw(bytes_)) for uuid in uuids))


machines = st.sampled_from(list(MACHINES.values()))


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


# What is calibrated, and what is not


def test_files_replaced_before_any_baseline_are_not_calibrated() -> None:
    boot = a_boot()
    following = boot.with_module(0, image=b"new Xen")
    calibration = running(LEGACY, boot, following)
    roles = by_role(calibration)
    assert roles[Role.XEN] is Calibrated.NO
    assert roles[Role.KERNEL] is roles[Role.MLE] is Calibrated.NOW
    assert calibration.entry is None
    prediction = next_boot(calibration, following)
    assert not prediction.is_calibrated
    with pytest.raises(PredictionError, match="rule for xen"):
        prediction.require(PcrSelection(SHA256, (13, 17, 18, 19)))


def test_an_update_leaves_what_it_did_not_touch_calibrated_now() -> None:
    boot = a_boot()
    kept = running(LEGACY, boot).baseline(boot.title)
    again = running(LEGACY, boot, boot.with_module(0, image=b"new"), baseline=kept)
    roles = by_role(again)
    assert roles[Role.XEN] is Calibrated.BASELINE
    assert roles[Role.KERNEL] is Calibrated.NOW
    xen = next(each for each in again.measured if each.role is Role.XEN)
    assert (xen.source.path, xen.source.version) == ("/boot/xen.gz", "4.17.5")
    prediction = next_boot(again, boot.with_module(0, image=b"new"))
    answers = {each.role: each.calibrated for each in prediction.measurements}
    assert answers[Role.XEN] is Calibrated.BASELINE
    assert answers[Role.KERNEL] is Calibrated.NOW
    assert prediction.require(PcrSelection(SHA256, (13, 17, 18, 19)))


def test_a_kept_digest_is_nothing_without_the_rule_that_gives_it() -> None:
    """A baseline whose extended digests are right and whose file digests are not."""
    boot = a_boot()
    kept = running(LEGACY, boot).baseline(boot.title)
    wrong = replace(
        kept,
        measurements=tuple(
            replace(
                each,
                source=replace(each.source, file_digests={SHA256: SHA256.hash(b"?")}),
            )
            for each in kept.measurements
        ),
    )
    again = calibrate(LEGACY.launched(boot), [], wrong, luks_record(boot))
    for role in (Role.MLE, Role.XEN, Role.KERNEL, Role.INITRAMFS, Role.LUKS):
        assert by_role(again)[role] is Calibrated.NO


def test_a_baseline_of_another_bank_calibrates_nothing() -> None:
    boot = a_boot()
    kept = running(LEGACY, boot).baseline(boot.title)
    only_sha1 = replace(
        kept,
        measurements=tuple(
            replace(
                each,
                source=replace(each.source, file_digests={SHA1: SHA1.hash(b"x")}),
            )
            for each in kept.measurements
        ),
    )
    again = calibrate(LEGACY.launched(boot), [], only_sha1, luks_record(boot))
    assert by_role(again)[Role.XEN] is Calibrated.NO


def test_a_wrong_rule_is_found_out_by_the_running_boot() -> None:
    """The launcher measured other bytes than the tool hashes: nothing is trusted."""
    boot = a_boot()
    launched = boot.with_module(2, image=b"as GRUB really hands it over")
    calibration = running(DA, launched, boot)
    assert by_role(calibration)[Role.INITRAMFS] is Calibrated.NO
    assert not next_boot(calibration, boot).is_calibrated


def test_the_entry_that_booted_is_found_among_several() -> None:
    boot = a_boot()
    older = replace(boot.with_module(1, path="/boot/vmlinuz-1"), title="older")
    newer = replace(
        boot.with_module(1, path="/boot/vmlinuz-2", image=b"newer"), title="newer"
    )
    calibration = running(DA, older, newer, older)
    assert calibration.entry == older.entry
    sources = {each.role: each.source.path for each in calibration.measured}
    assert sources[Role.KERNEL] == "/boot/vmlinuz-1"


def test_a_module_more_counts_as_calibrated_through_any_other() -> None:
    boot = a_boot()
    calibration = running(DA, boot)
    assert calibration.rule(Role.MODULE) is Calibrated.NOW
    assert next_boot(calibration, replace(boot, modules=(*boot.modules, MORE))).require(
        PcrSelection(SHA256, (13, 17, 18))
    )


def test_an_initramfs_where_there_was_none_counts_through_any_module() -> None:
    boot = a_boot()
    without = replace(boot, modules=boot.modules[:2])
    assert running(DA, without).rule(Role.INITRAMFS) is Calibrated.NOW


def test_a_syntax_used_for_the_first_time_is_a_caution() -> None:
    boot = a_boot()
    following = boot.with_module(1, cmdline=b'a="b c"', nounzip=True)
    plain = boot.with_module(2, nounzip=False)
    assert next_boot(running(DA, boot), following).cautions == (
        "/boot/vmlinuz (kernel) is the first with quotes in its command line",
    )
    assert next_boot(running(DA, plain), boot).cautions == (
        "/boot/initramfs.img (initramfs) is the first to be loaded with --nounzip",
    )
    assert next_boot(running(DA, following), following).cautions == ()


# LUKS headers


def test_without_a_hook_pcr_13_is_not_predicted() -> None:
    prediction = next_boot(running(DA, a_boot()), a_boot(), luks=False)
    assert 13 not in values(prediction)
    with pytest.raises(PredictionError, match="nothing extends it"):
        prediction.require(PcrSelection(SHA256, (13, 17)))


def test_headers_that_no_hook_has_measured_yet_are_not_calibrated() -> None:
    calibration = running(DA, a_boot(), with_luks=False)
    prediction = next_boot(calibration, a_boot())
    with pytest.raises(PredictionError, match=r"luks \(PCR 13\)"):
        prediction.require(PcrSelection(SHA256, (13, 17)))


def test_headers_measured_in_another_order_than_ours_are_not_calibrated() -> None:
    boot = replace(a_boot(), headers=((UUID, b"1"), (OTHER_UUID, b"2")))
    record = list(reversed(luks_record(boot)))
    candidates = [Candidate(boot.entry, facts_of(boot))]
    calibration = calibrate(DA.launched(boot), candidates, None, record)
    assert calibration.rule(Role.LUKS) is Calibrated.NO


def test_a_header_changed_since_the_boot_is_calibrated_by_the_baseline() -> None:
    boot = a_boot()
    kept = running(DA, boot).baseline(boot.title)
    edited = replace(boot, headers=((UUID, b"one more key slot"),))
    again = running(DA, boot, edited, baseline=kept)
    assert again.rule(Role.LUKS) is Calibrated.BASELINE
    assert running(DA, boot, edited).rule(Role.LUKS) is Calibrated.NO
    assert values(next_boot(again, edited))[13] == DA.values(edited)[13]


def test_a_record_of_another_bank_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="sha1 bank"):
        calibrate(DA.launched(a_boot()), [], None, [(UUID, SHA1.hash(b"h"))])


@pytest.mark.parametrize("cap", [None, SHA256.hash(b"cap")])
def test_the_hooks_record_is_held_against_pcr_13(cap: Digest | None) -> None:
    record = luks_record(a_boot())
    value = luks_value(record, SHA256, cap)
    header = sha256(bytes(32) + sha256(b"LUKS header"))
    assert value.value == (sha256(header + cap.value) if cap else header)
    require_luks(record, PcrBank(SHA256, {13: value}), cap)
    with pytest.raises(ReplayError, match="PCR 13"):
        require_luks([], PcrBank(SHA256, {13: value}), cap)


# What is refused


def refused(prediction: Prediction) -> dict[int, str]:
    return {each.pcr: each.reason for each in prediction.refusals}


@pytest.mark.parametrize(
    ("machine", "pcrs"), [(LEGACY, {17, 18, 19}), (DA, {17, 18})], ids=["legacy", "da"]
)
def test_a_custom_policy_is_refused(machine: Machine, pcrs: set[int]) -> None:
    custom = replace(machine, policy="ab" * 32)
    calibration = running(custom, a_boot())
    assert by_role(calibration)[Role.POLICY] is Calibrated.NO
    prediction = next_boot(calibration, a_boot())
    assert set(refused(prediction)) == pcrs
    assert "custom verified-launch policies" in refused(prediction)[17]
    with pytest.raises(PredictionError, match=r"PCR 17: event \d+, a policy"):
        prediction.require(PcrSelection(SHA256, (13, 17)))


def test_a_default_policy_of_another_version_is_not_this_tboots() -> None:
    boot = a_boot().with_tboot(notes={"tboot_version": "1.9.10"})
    assert "(1.9.10)" in refused(next_boot(running(DA, boot), boot))[17]


def test_a_tboot_that_tells_no_version_keeps_its_policy_while_it_is_unchanged() -> None:
    boot = a_boot().with_tboot(notes={"mle_capabilities": CAPABILITIES})
    assert next_boot(running(DA, boot), boot).is_complete
    changed = boot.with_tboot(image=b"another")
    prediction = next_boot(running(DA, boot), changed)
    assert "does not tell its version" in refused(prediction)[17]
    unknown = running(replace(DA, policy="ab" * 32), boot)
    assert "its version is not known" in refused(next_boot(unknown, boot))[17]


def test_a_new_tboot_gets_the_policy_of_its_version() -> None:
    old = a_boot().with_tboot(
        notes={"tboot_version": "1.9.11", "mle_capabilities": CAPABILITIES}
    )
    policy = "27808f64e6383982cd3bcc10cfcb3457c0b65f465f779d89b668839eaf263a67"
    new = a_boot().with_tboot(image=b"tboot 1.10.5")
    prediction = next_boot(running(replace(DA, policy=policy), old), new)
    assert values(prediction) == DA.values(new)
    events = {
        each.source.event
        for each in prediction.measurements
        if each.role is Role.POLICY
    }
    assert events == {None}


def test_a_tboot_without_a_known_policy_is_refused() -> None:
    old = a_boot()
    new = old.with_tboot(
        image=b"older", notes={"tboot_version": "1.9.5", "mle_capabilities": "0x627"}
    )
    prediction = next_boot(running(LEGACY, old), new)
    assert "tboot 1.9.5 on the legacy map" in refused(prediction)[18]


def test_a_tboot_that_drops_first_words_is_refused() -> None:
    notes = {"tboot_version": "1.8.3", "mle_capabilities": CAPABILITIES}
    boot = a_boot().with_tboot(image=b"old", notes=notes)
    prediction = next_boot(running(DA, a_boot()), boot)
    assert "drops the first word" in refused(prediction)[17]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("0x627", "0x4627", "change from 0x627 to 0x4627"),
        (None, "0x627", "the running tboot's capabilities are not known"),
        ("0x627", None, "the next tboot's capabilities are not known"),
    ],
)
def test_other_capabilities_change_0x40f_in_both_pcrs(
    before: str | None, after: str | None, reason: str
) -> None:
    def tboot(image: bytes, capabilities: str | None) -> Boot:
        notes = {"tboot_version": "1.11.10"}
        if capabilities:
            notes["mle_capabilities"] = capabilities
        return a_boot().with_tboot(image=image, notes=notes)

    old, new = tboot(b"old", before), tboot(b"new", after)
    prediction = next_boot(running(DA, old), new)
    assert {(each.pcr, each.event) for each in prediction.refusals} == {
        (17, 7),
        (18, 12),
    }
    assert reason in refused(prediction)[17]
    assert set(values(prediction)) == {13}
    assert next_boot(running(DA, old), old).is_complete


def with_combined(machine: Machine, data: bytes) -> Machine:
    sinit = list(machine.sinit)
    sinit.insert(2, (0x403, 17, data))
    return replace(machine, sinit=tuple(sinit))


def test_a_combined_event_that_holds_the_mles_hash_is_refused_with_a_new_tboot() -> (
    None
):
    boot = a_boot()
    mle = mle_digest(boot.tboot.image, boot.tboot.cmdline)
    new = boot.with_tboot(image=b"new")
    holding = with_combined(LEGACY, bytes(20) + mle + bytes(8))
    assert next_boot(running(holding, boot), boot).is_complete
    prediction = next_boot(running(holding, boot), new)
    assert refused(prediction) == {
        17: "event 2 holds the running tboot's hash, which changes"
    }
    plain = with_combined(LEGACY, bytes(80))
    assert values(next_boot(running(plain, boot), new)) == plain.values(new)


def test_a_combined_event_with_foreign_data_is_refused_with_a_new_tboot() -> None:
    boot = a_boot()
    extends = with_combined(LEGACY, bytes(80)).extends(boot)
    kind, pcr, digest, _ = extends[2]
    extends[2] = (kind, pcr, digest, b"other data")
    candidates = [Candidate(boot.entry, facts_of(boot))]
    calibration = calibrate(verified(log_of(extends)), candidates)
    prediction = next_boot(calibration, boot.with_tboot(image=b"new"))
    assert "event 2 has no data" in refused(prediction)[17]


def test_a_combined_event_is_refused_when_capabilities_change() -> None:
    boot = a_boot()
    new = boot.with_tboot(
        image=b"new", notes={"tboot_version": "1.11.6", "mle_capabilities": "0x4627"}
    )
    calibration = running(with_combined(LEGACY, bytes(80)), boot)
    assert "COMBINED_HASH (event 2) will" in refused(next_boot(calibration, new))[17]


def test_a_random_value_in_the_log_is_refused() -> None:
    machine = replace(DA, sinit=(*DA.sinit, (0x4FE, 18, b"random")))
    prediction = next_boot(running(machine, a_boot()), a_boot())
    assert "random value" in refused(prediction)[18]
    assert set(values(prediction)) == {13, 17}


@pytest.mark.parametrize(("machine", "most"), [(LEGACY, 31), (DA, 30)])
def test_more_measurements_than_tboot_makes_are_refused(
    machine: Machine, most: int
) -> None:
    calibration = running(machine, a_boot())
    full = replace(a_boot(), modules=(MORE,) * most)
    assert values(next_boot(calibration, full)) == machine.values(full)
    with pytest.raises(PredictionError, match="33 measurements"):
        next_boot(calibration, replace(full, modules=(MORE,) * (most + 1)))


def test_an_entry_without_modules_is_refused() -> None:
    with pytest.raises(PredictionError, match="no Xen"):
        next_boot(running(DA, a_boot()), replace(a_boot(), modules=()))


@pytest.mark.parametrize("number", range(5))
def test_a_file_that_was_not_read_is_named(number: int) -> None:
    boot = a_boot()
    facts: dict[Wanted, FileFacts] = facts_of(boot)
    gone = list(facts)[number]
    del facts[gone]
    with pytest.raises(BootFileError, match=gone.path):
        predict(running(DA, boot), boot.entry, facts, hook_measures_luks=True)


def test_another_bank_than_the_verified_one_is_not_covered() -> None:
    """SINIT's events are logged in sha1 too, but no PCR has confirmed that bank."""
    with pytest.raises(BankError, match="sha1 bank"):
        next_boot(running(DA, a_boot()), a_boot()).bank(SHA1)


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
    return calibrate(log, [Candidate(boot.entry, {mle: facts})])


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


@given(machines, boots())
@settings(max_examples=30, deadline=None)
def test_a_baseline_survives_json(machine: Machine, boot: Boot) -> None:
    kept = running(machine, boot).baseline(boot.title)
    assert Baseline.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_a_staged_boot_is_kept_like_a_measured_one() -> None:
    prediction = next_boot(running(DA, a_boot()), a_boot())
    kept = Baseline.of_prediction(prediction)
    assert (kept.title, kept.stack, kept.map) == ("Qubes with tboot", "tboot", "da")
    assert kept.measurements == prediction.measurements


def spoilt(*path: str | int, value: object) -> object:
    data = json.loads(json.dumps(running(DA, a_boot()).baseline("t").to_json()))
    target = data
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return data


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"title": "t", "stack": "tboot", "map": "da"},
        {1: 2},
        spoilt("title", value=1),
        spoilt("measurements", value=[1]),
        spoilt("measurements", 0, "pcr", value=24),
        spoilt("measurements", 0, "pcr", value=True),
        spoilt("measurements", 0, "pcr", value="17"),
        spoilt("measurements", 0, "role", value="hostile"),
        spoilt("measurements", 0, "calibrated", value=None),
        spoilt("measurements", 0, "digests", value={"sha256": "00"}),
        spoilt("measurements", 0, "digests", value={"md5": "00"}),
        spoilt("measurements", 0, "digests", value={"sha256": 1}),
        spoilt("measurements", 0, "digests", value=[]),
        spoilt("measurements", 0, "source", value=None),
        spoilt("measurements", 0, "source", value={"kind": "rumour"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "path": 1}),
        spoilt("measurements", 0, "source", value={"kind": "file", "event": "1"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "cmdline_hex": "x"}),
        spoilt("measurements", 0, "source", value={"kind": "file", "view": "blurred"}),
        spoilt("measurements", value=[spoilt("title", value=1)] * 2000),
    ],
)
def test_a_malformed_baseline_is_refused(data: object) -> None:
    with pytest.raises(EvidenceError):
        Baseline.from_json(data)


def test_a_boot_of_a_thousand_measurements_is_not_kept() -> None:
    kept = running(DA, a_boot()).baseline("t")
    with pytest.raises(EvidenceError, match="measurements"):
        replace(kept, measurements=kept.measurements * 60)


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
