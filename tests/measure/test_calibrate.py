# SPDX-License-Identifier: GPL-2.0-or-later
"""Calibration: which rules the running boot has confirmed, and which it has not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from predictions import MORE, OTHER_UUID, by_role, next_boot, running, values
from tboot_boots import (
    DA,
    LEGACY,
    SHA1,
    SHA256,
    UUID,
    a_boot,
    facts_of,
    luks_record,
    sha256,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Calibrated
from aemseal.measure.luks import luks_value, require_luks
from aemseal.words.digest import Digest, PcrBank, PcrSelection
from aemseal.words.errors import PredictionError, ReplayError

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
        prediction.require(PcrSelection(SHA256, (13, 18, 19)))
    with pytest.raises(PredictionError, match="PCR 17: the SINIT module"):
        prediction.require(PcrSelection(SHA256, (13, 17)))


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
    with pytest.raises(PredictionError, match="nothing predictable extends it"):
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
