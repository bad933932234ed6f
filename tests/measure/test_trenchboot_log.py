# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading logs of launches by TrenchBoot: parts, roles, and what is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from event_log_bytes import VECTORS, needs_vectors
from trenchboot_boots import (
    MACHINES,
    SHA256,
    SKINIT,
    SKINIT_UEFI,
    SLAUNCH,
    TXT,
    Machine,
    facts_of,
    sha256,
    verified,
)
from trenchboot_predictions import next_boot, running, updated, values

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Calibrated, SourceKind
from aemseal.measure.replay import replay, verify
from aemseal.measure.stack import identify
from aemseal.measure.trenchboot import TrenchBootLaunch
from aemseal.words.digest import PcrBank, PcrSelection
from aemseal.words.errors import PredictionError

Extends = list[tuple[int, int, bytes, bytes]]
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda each: each.name)


def roles_of(machine: Machine) -> list[tuple[int, Role]]:
    launch = identify(machine.launched(machine.boot))[0]
    return [(each.pcr, each.role) for each in launch.extends]


# What the log tells


@every_machine
def test_every_generations_log_is_read_and_explained_by_its_files(
    machine: Machine,
) -> None:
    calibration = running(machine, machine.boot)
    assert {each.calibrated for each in calibration.measured} == {Calibrated.NOW}
    assert calibration.entry == machine.boot.entry
    assert calibration.launch.stack == f"trenchboot-{machine.name.split('-')[0]}"
    assert calibration.launch.map == "da"
    assert calibration.launch.default_pcrs == {17, 18}
    assert values(next_boot(calibration, machine.boot)) == machine.values(machine.boot)


def test_on_amd_the_loader_tells_of_xen_and_xen_of_the_rest() -> None:
    assert roles_of(SKINIT) == [
        (17, Role.SKL),
        (17, Role.MLE),
        (17, Role.XEN),
        (18, Role.BOOT_INFO),
        (18, Role.PLATFORM),
        (17, Role.KERNEL),
        (17, Role.INITRAMFS),
    ]


def test_on_intel_sinit_tells_of_xen() -> None:
    assert roles_of(TXT) == [
        (17, Role.SINIT),
        (17, Role.PLATFORM),
        (17, Role.PLATFORM),
        (17, Role.XEN),
        (18, Role.SINIT),
        (18, Role.PLATFORM),
        (18, Role.PLATFORM),
        (18, Role.BOOT_INFO),
        (18, Role.PLATFORM),
        (18, Role.PLATFORM),
        (17, Role.KERNEL),
        (17, Role.INITRAMFS),
    ]


def test_under_uefi_each_module_follows_its_command_line() -> None:
    assert roles_of(SKINIT_UEFI)[3:] == [
        (18, Role.PLATFORM),
        (18, Role.CMDLINE),
        (18, Role.CMDLINE),
        (17, Role.KERNEL),
        (18, Role.CMDLINE),
        (17, Role.INITRAMFS),
    ]


@every_machine
def test_the_rule_of_the_generation_is_found_by_the_files(machine: Machine) -> None:
    launch = running(machine, machine.boot).launch
    assert isinstance(launch, TrenchBootLaunch)
    rules = launch.rules
    assert rules.is_efi is machine.is_efi
    if machine.is_efi:
        assert rules.names_image is machine.named
    else:
        assert machine.boot.entry.slaunch_mle_wanted(rules.mle_rule).view is machine.mle


def test_where_two_rules_explain_as_much_the_newest_is_taken() -> None:
    """A Xen that no rule gives tells nothing of the rule."""
    calibration = running(SKINIT, SKINIT.boot, SKINIT.boot.with_xen(image=b"other"))
    launch = calibration.launch
    assert (
        launch == identify(SKINIT.launched(SKINIT.boot), SKINIT.system(SKINIT.boot))[0]
    )


def test_sources_name_the_file_of_each_part() -> None:
    measured = running(TXT, TXT.boot).measured
    told = {
        each.role: each.source for each in measured if each.role is not Role.PLATFORM
    }
    assert (told[Role.SINIT].path, told[Role.SINIT].version) == (
        "/boot/SKL_SINIT.BIN",
        "20190708",
    )
    assert (told[Role.XEN].path, told[Role.XEN].version) == ("/boot/xen", "4.17.5")
    assert told[Role.BOOT_INFO].kind is SourceKind.CARRIED
    skl = running(SKINIT, SKINIT.boot)
    table = next(each for each in skl.measured if each.role is Role.PLATFORM)
    assert (table.source.path, table.source.notes["psp_version"]) == (
        "/boot/skl.bin",
        str(0x1234),
    )


def test_a_table_that_no_version_gives_is_carried() -> None:
    extends = [
        (kind, pcr, sha256(b"?") if (pcr, data) == (18, b"") else digest, data)
        for kind, pcr, digest, data in SKINIT.extends(SKINIT.boot)
    ]
    candidates = [Candidate(SKINIT.boot.entry, facts_of(SKINIT.boot))]
    measured = calibrate(verified(extends), candidates).measured
    table = next(each for each in measured if each.role is Role.PLATFORM)
    assert table.source.kind is SourceKind.CARRIED


# The baseline


@every_machine
def test_overwritten_files_are_explained_by_what_was_kept_of_them(
    machine: Machine,
) -> None:
    boot = machine.boot
    kept = running(machine, boot).baseline(boot.title)
    assert Baseline.from_json(kept.to_json()) == kept
    gone = replace(boot, modules=(replace(boot.modules[0], image=b"x"),))
    again = running(machine, boot, gone.with_xen(image=b"y"), baseline=kept)
    assert again.is_calibrated
    assert again.entry is None
    assert again.known_as == kept
    roles = {each.role: each.calibrated for each in again.measured}
    assert roles[Role.INITRAMFS] is Calibrated.BASELINE
    back = next_boot(again, boot)
    assert values(back) == machine.values(boot)


@every_machine
def test_what_was_kept_tells_the_rule_when_all_files_are_overwritten(
    machine: Machine,
) -> None:
    """A digest kept by one rule would fit any other, and the next Xen none."""
    boot = machine.boot.with_xen(cmdline=b"placeholder other")
    following = machine.boot.with_xen(image=b"neX")
    prediction = updated(machine, boot, following)
    assert prediction.is_calibrated
    right = machine.values(following)
    known = {17} if not machine.is_efi else {18} - ({18} if machine.is_intel else set())
    assert {pcr: right[pcr] for pcr in known} == values(prediction)


def test_without_a_record_overwritten_files_explain_nothing() -> None:
    boot = SKINIT.boot
    calibration = running(SKINIT, boot, boot.with_module(0, image=b"other.."))
    roles = {each.role: each.calibrated for each in calibration.measured}
    assert (roles[Role.KERNEL], roles[Role.XEN]) == (Calibrated.NO, Calibrated.NOW)
    assert not calibration.is_calibrated


# What is refused


def named(extends: Sequence[tuple[int, int, bytes, bytes]], message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        identify(verified(extends))


@pytest.fixture
def skinit() -> Extends:
    return SKINIT.extends(SKINIT.boot)


@pytest.mark.parametrize("text", [b"Measured Kernel initrd", b"\xff", b"SKINIT"])
def test_a_text_that_is_not_known_is_named(skinit: Extends, text: bytes) -> None:
    skinit.insert(3, (SLAUNCH, 18, sha256(b"x"), text))
    named(skinit, r"event 3 \(SLAUNCH.*\) in PCR 18 is no part of a launch of Xen")


def test_a_record_without_a_text_in_pcr_17_is_named(skinit: Extends) -> None:
    skinit.insert(3, (SLAUNCH, 17, sha256(b"x"), b""))
    named(skinit, "event 3 .* in PCR 17 is no part")


def test_a_third_record_without_a_text_is_named(skinit: Extends) -> None:
    skinit.insert(5, (SLAUNCH, 18, sha256(b"x"), b""))
    named(skinit, "event 5 in PCR 18 has no text and is none of the records")


def test_under_uefi_only_the_table_has_no_text() -> None:
    extends = SKINIT_UEFI.extends(SKINIT_UEFI.boot)
    extends.insert(4, (SLAUNCH, 18, sha256(b"x"), b""))
    named(extends, "event 4 in PCR 18 has no text")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "0 times of the secure kernel loader"),
        (1, "0 times of Xen's entry point"),
        (2, "0 times of Xen as it lies in memory"),
    ],
)
def test_a_part_that_is_missing_is_named(
    skinit: Extends, number: int, message: str
) -> None:
    del skinit[number]
    named(skinit, message)


def test_a_part_that_comes_twice_is_named(skinit: Extends) -> None:
    named([skinit[0], *skinit], "2 times of the secure kernel loader")


def test_a_launch_without_modules_is_refused(skinit: Extends) -> None:
    named(skinit[:5], "tells of 0 modules and of 0 command lines")


def test_under_uefi_a_module_has_its_command_line() -> None:
    named(SKINIT_UEFI.extends(SKINIT_UEFI.boot)[:-1], "1 modules and of 2 command")


def test_what_follows_the_modules_is_named(skinit: Extends) -> None:
    skinit.append((SLAUNCH, 17, sha256(b"x"), b"SKINIT"))
    del skinit[0]
    named(skinit, "event 6 follows a module in PCR 17: nothing is known")


def test_a_pcr_that_does_not_replay_is_named(skinit: Extends) -> None:
    log = verified(skinit).log
    live = PcrBank(SHA256, dict(replay(log).banks[SHA256].values) | {18: SHA256.zero()})
    evidence = verify(log, live, PcrSelection(SHA256, (17,)))
    with pytest.raises(
        PredictionError, match=r"PCR 18 \(event 3\) is not what the TPM"
    ):
        identify(evidence)


@needs_vectors
def test_a_launch_of_linux_is_refused_by_its_first_record() -> None:
    path = VECTORS / "drtm/amd-qemu-drtm-linux-v0.5.3-rc1.eventlog.bin"
    log = parse_event_log(path.read_bytes())
    live = PcrBank(SHA256, dict(replay(log).banks[SHA256].values))
    evidence = verify(log, live, PcrSelection(SHA256, (17,)))
    with pytest.raises(
        PredictionError, match=r"Measured .* is no part of a launch of Xen"
    ):
        identify(evidence)
