# SPDX-License-Identifier: GPL-2.0-or-later
"""What no prediction is made for, by PCR and event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from predictions import MORE, by_role, next_boot, refused, running, values
from tboot_boots import (
    CAPABILITIES,
    DA,
    LEGACY,
    SHA1,
    SHA256,
    Boot,
    Machine,
    a_boot,
    facts_of,
    log_of,
    mle_digest,
    verified,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Calibrated
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import BankError, BootFileError, PredictionError
from aemseal.words.wanted import FileFacts, Wanted


@pytest.mark.parametrize(
    ("machine", "pcrs"), [(LEGACY, {17, 18, 19}), (DA, {17, 18})], ids=["legacy", "da"]
)
def test_a_custom_policy_is_refused(machine: Machine, pcrs: set[int]) -> None:
    custom = replace(machine, policy="ab" * 32)
    calibration = running(custom, a_boot())
    assert by_role(calibration)[Role.POLICY] is Calibrated.NO
    prediction = next_boot(calibration, a_boot())
    assert set(refused(prediction)) == pcrs
    assert "no custom verified-launch policy was found" in refused(prediction)[17]
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
