# SPDX-License-Identifier: GPL-2.0-or-later
"""What no prediction is made for, by PCR and event."""

from __future__ import annotations

import struct
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
    verified,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Candidate, calibrate
from aemseal.measure.claims import Calibrated
from aemseal.measure.plan import OriginKind, plan
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


def capable(image: bytes, capabilities: str | None, version: str = "1.11.10") -> Boot:
    """A boot whose tboot tells these capabilities in its MLE header."""
    notes = {"tboot_version": version}
    if capabilities:
        notes["mle_capabilities"] = capabilities
    return a_boot().with_tboot(image=image, notes=notes)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (None, "0x627", "the running tboot's capabilities are not known"),
        ("0x627", None, "the next tboot's capabilities are not known"),
        ("0x4627", "0x627", "tboot with 0x4627 in its MLE header asks SINIT for"),
    ],
)
def test_what_is_asked_of_sinit_is_refused_in_both_pcrs_where_it_is_not_known(
    before: str | None, after: str | None, reason: str
) -> None:
    old, new = capable(b"old", before), capable(b"new", after)
    prediction = next_boot(running(DA, old), new)
    assert {(each.pcr, each.event) for each in prediction.refusals} == {
        (17, 7),
        (18, 12),
    }
    assert reason in refused(prediction)[17]
    assert set(values(prediction)) == {13}
    assert next_boot(running(DA, old), old).is_complete


def asking(machine: Machine, word: bytes) -> Machine:
    """The machine whose tboot asks SINIT for this word (0x40f)."""
    sinit = tuple(
        (kind, pcr, word if kind == 0x40F else data)
        for kind, pcr, data in machine.sinit
    )
    return replace(machine, sinit=sinit)


def test_other_capabilities_change_0x40f_in_both_pcrs() -> None:
    """They are a constant of tboot and SINIT: neither is asked for by itself."""
    new = capable(b"new", "0x4627")
    prediction = next_boot(running(DA, capable(b"old", "0x627")), new)
    assert values(prediction) == asking(DA, b"\2\x46\0\0").values(new)
    changed = plan(running(DA, capable(b"old", "0x627")).measured, prediction)
    kinds = {each.name: each.origin.kind for each in changed.changes}
    assert kinds == {
        "mle": OriginKind.UNKNOWN,
        "platform 6": OriginKind.CONSTANT,
        "platform 9": OriginKind.CONSTANT,
    }
    [told, _] = [e for e in changed.changes if e.origin.kind is OriginKind.CONSTANT]
    assert told.origin.detail == "what the launcher asks of SINIT, as both files say"


@pytest.mark.parametrize("word", [b"force_pmrs=true", b"force_pmrs=1"])
def test_a_tboot_that_rewrites_itself_is_refused_by_its_option(word: bytes) -> None:
    def with_option(version: str) -> Boot:
        boot = capable(b"tboot", "0x627", version)
        return boot.with_tboot(cmdline=b"logging=memory " + word)

    boot = with_option("1.11.12")
    why = refused(next_boot(running(DA, boot), boot))
    assert set(why) == {17}
    assert "tboot's option force_pmrs has /boot/tboot.gz rewrite its header" in why[17]
    old = with_option("1.11.10")
    assert next_boot(running(DA, old), old).is_complete
    off = boot.with_tboot(cmdline=b"force_pmrs=false")
    assert next_boot(running(DA, off), off).is_complete


def combined(control: int = 0, policy: bytes = bytes(20), word: int = 0) -> bytes:
    """TPM 1.2's combined data: what of it does not change is zero."""
    return struct.pack("<20sQ20sI20sI", b"", 0, b"", control, policy, word)


def with_combined(machine: Machine, data: bytes) -> Machine:
    sinit = list(machine.sinit)
    sinit.insert(2, (0x403, 17, data))
    return replace(machine, sinit=tuple(sinit))


def test_a_combined_event_that_holds_nothing_of_tboot_stays() -> None:
    new = a_boot().with_tboot(image=b"new")
    plain = with_combined(LEGACY, combined())
    assert values(next_boot(running(plain, a_boot()), new)) == plain.values(new)


def test_a_combined_event_that_may_hold_the_mles_hash_is_refused_with_a_new_tboot() -> (
    None
):
    """Seen on a ThinkPad X200: the launch control policy's hash was the MLE's."""
    boot = a_boot()
    holding = with_combined(LEGACY, combined(policy=b"\1" * 20))
    assert next_boot(running(holding, boot), boot).is_complete
    prediction = next_boot(running(holding, boot), boot.with_tboot(image=b"new"))
    assert refused(prediction) == {
        17: "COMBINED_HASH (event 2) holds a SHA-1 digest, which may be the running "
        "MLE's"
    }


def test_a_combined_event_with_foreign_data_is_refused_with_a_new_tboot() -> None:
    boot = a_boot()
    extends = with_combined(LEGACY, combined()).extends(boot)
    kind, pcr, digest, _ = extends[2]
    extends[2] = (kind, pcr, digest, b"other data")
    candidates = [Candidate(boot.entry, facts_of(boot))]
    calibration = calibrate(verified(log_of(extends)), candidates)
    prediction = next_boot(calibration, boot.with_tboot(image=b"new"))
    assert "(event 2) has no data that tells what changes" in refused(prediction)[17]


def test_a_combined_event_follows_the_capabilities_that_it_holds() -> None:
    old, new = capable(b"old", "0x627"), capable(b"new", "0x4627")
    holding = with_combined(LEGACY, combined(control=2, word=0x602))
    following = with_combined(LEGACY, combined(control=2, word=0x4602))
    assert values(next_boot(running(holding, old), new)) == following.values(new)


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


@pytest.mark.parametrize("number", range(7))
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
