# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy and the bank after an update of tboot: another version, other options."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from custom_policies import explained, with_policy, with_version, with_words
from predictions import next_boot, refused, running, values
from tboot_boots import (
    DA,
    LEGACY,
    SHA1,
    Boot,
    Machine,
    a_boot,
)
from tboot_policies import ANY, HALT, NONE, Entry, digest_of, packed

from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import Prediction
from aemseal.measure.launch import RunningSystem
from aemseal.measure.predict import predict
from aemseal.measure.replay import verify
from aemseal.words.digest import Digest, PcrBank, PcrSelection
from aemseal.words.events import Event, EventLog
from aemseal.words.wanted import FileFacts, Wanted

OWN = [Entry(0, NONE), Entry(1, 18), Entry(ANY, 19)]
OPTIONS = ["extpol", "pcr_map", "measure_nv", "force_tpm2_legacy_log", "force_pmrs"]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("machine", [DA, LEGACY], ids=["da", "legacy"])
def test_an_option_that_changes_what_is_extended_refuses_every_pcr(
    machine: Machine, name: str
) -> None:
    plain = a_boot()
    first, second = (with_words(plain, f"{name}={v}".encode()) for v in ("a", "b"))
    for before, after in ((plain, first), (first, plain), (first, second)):
        prediction = next_boot(running(machine, before), after)
        for pcr in {*machine.values(plain)} - {13}:
            assert f"tboot's option {name} changes" in refused(prediction)[pcr]
    kept = first.with_tboot(image=b"another tboot")
    assert next_boot(running(machine, first), kept).is_complete


def test_other_words_of_tboots_command_line_change_the_mle_alone() -> None:
    following = with_words(a_boot(), b"logging=serial extpol extpolicy=sha1")
    prediction = next_boot(running(DA, a_boot()), following)
    assert values(prediction) == DA.values(following)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.10.5", "1.11.12"),
        ("1.9.5", "1.9.11"),
        ("1.9.11", "1.9.12"),
        ("1.9.4", "9.9"),
    ],
)
def test_an_own_policy_stays_with_another_tboot(before: str, after: str) -> None:
    own = with_policy(LEGACY, OWN)
    old, new = with_version(a_boot(), before, b"tboot"), with_version(a_boot(), after)
    prediction = next_boot(explained(own, old), new)
    assert values(prediction) == own.values(new)


def test_an_own_policy_is_not_predicted_for_a_tboot_that_drops_first_words() -> None:
    old, new = a_boot(), with_version(a_boot(), "1.8.3")
    prediction = next_boot(explained(with_policy(LEGACY, OWN), old), new)
    assert "drops the first word" in refused(prediction)[18]


def test_an_own_policy_is_not_predicted_for_a_tboot_of_unknown_version() -> None:
    own = with_policy(LEGACY, OWN)
    new = a_boot().with_tboot(image=b"new", notes={})
    prediction = next_boot(explained(own, a_boot()), new)
    assert "does not tell its version" in refused(prediction)[18]


def test_going_back_before_1_9_12_may_extend_another_bank() -> None:
    own = with_policy(LEGACY, OWN)
    old = with_version(a_boot(), "1.9.11")
    prediction = next_boot(explained(own, a_boot()), old)
    assert "tboot 1.9.11 may extend another bank than sha256" in refused(prediction)[17]
    named = with_words(a_boot(), b"extpol=sha256")
    kept = with_version(named, "1.9.11")
    assert values(next_boot(explained(own, named), kept)) == own.values(kept)


# A TPM 1.2, or the sha1 bank: the log and the files' digests in sha1 alone


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


@dataclass(frozen=True)
class Sha1Machine:
    """tboot's policy and modules in sha1; SINIT's part is one event and the MLE."""

    policy: bytes
    places: Sequence[int]
    mle: int = 18
    policy_pcrs: tuple[int, ...] = (17,)

    def extends(self, boot: Boot) -> list[tuple[int, int, bytes]]:
        modules = [sha1(sha1(each.cmdline) + sha1(each.image)) for each in boot.modules]
        return [
            (0x402, 17, sha1(b"acm")),
            (0x404, self.mle, sha1(b"mle" + boot.tboot.image + boot.tboot.cmdline)),
            *((0x501, pcr, self.policy) for pcr in self.policy_pcrs),
            *(
                (0x501, pcr, digest)
                for pcr, digest in zip(self.places, modules, strict=True)
            ),
        ]

    def values(self, boot: Boot) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for _, pcr, digest in self.extends(boot):
            found[pcr] = sha1(found.get(pcr, bytes(20)) + digest)
        return found


def sha1_facts(boot: Boot) -> dict[Wanted, FileFacts]:
    files = {each.path: each for each in boot.modules}
    entry = entry_of(boot)
    mle = sha1(b"mle" + boot.tboot.image + boot.tboot.cmdline)
    facts = {entry.mle_wanted: (mle, boot.tboot.notes, len(boot.tboot.image))}
    for each in entry.modules:
        image = files[each.path].image
        facts[each.wanted] = (sha1(image), {}, len(image))
    for wanted in entry.sinit_wanted:
        image = files[wanted.path].image
        facts[wanted] = (sha1(image), {}, len(image))
    return {
        wanted: FileFacts(wanted, size, {SHA1: Digest(SHA1, digest)}, notes)
        for wanted, (digest, notes, size) in facts.items()
    }


def entry_of(boot: Boot) -> BootEntry:
    return Boot(boot.tboot, boot.modules, ()).entry


def sha1_running(machine: Sha1Machine, boot: Boot, *policies: bytes) -> Calibration:
    events = tuple(
        Event(number, pcr, kind, {SHA1: Digest(SHA1, digest)})
        for number, (kind, pcr, digest) in enumerate(machine.extends(boot))
    )
    live = {pcr: Digest(SHA1, value) for pcr, value in machine.values(boot).items()}
    log = EventLog("txt-container", (SHA1,), events)
    evidence = verify(log, PcrBank(SHA1, live), PcrSelection(SHA1, (17,)))
    candidates = [Candidate(entry_of(boot), sha1_facts(boot))]
    system = RunningSystem(policies=policies)
    return calibrate(evidence, candidates, system=system)


def sha1_next(calibration: Calibration, boot: Boot) -> Prediction:
    facts = sha1_facts(boot)
    return predict(calibration, entry_of(boot), facts, hook_measures_luks=False)


def sha1_values(prediction: Prediction) -> dict[int, bytes]:
    return {pcr: each.value for pcr, each in prediction.bank(SHA1).values.items()}


TPM12_DA_OLD = "fbb1b9eab0c92ac09c2814f538b5ad02afe0eeaf"
TPM12_DEFAULT = "c3438497fda827be3b321c5309a204f0c9e53943"


def default(hex_: str, places: Sequence[int], *, da: bool = False) -> Sha1Machine:
    policy = bytes.fromhex(hex_)
    return Sha1Machine(policy, places, *((17, (17, 18)) if da else (18, (17,))))


def test_tpm_1_2_with_the_da_map_has_modules_in_pcr_19_since_1_10() -> None:
    machine = default(TPM12_DEFAULT, (17, 19, 19), da=True)
    calibration = sha1_running(machine, a_boot())
    assert calibration.is_calibrated
    assert calibration.launch.default_pcrs == {17, 18, 19}
    following = with_version(a_boot(), "1.11.2").with_module(1, image=b"new kernel")
    assert sha1_values(sha1_next(calibration, following)) == machine.values(following)


def test_modules_move_to_where_the_next_versions_default_policy_puts_them() -> None:
    """1.7 on a TPM 1.2 with the da map had them in PCR 17."""
    before = default("fb519d3c44a45a2708b59da63cdc2461e73acf6f", (17, 17, 17), da=True)
    after = default(TPM12_DEFAULT, (17, 19, 19), da=True)
    calibration = sha1_running(before, with_version(a_boot(), "1.7.4", b"tboot"))
    following = with_version(a_boot(), "1.10.5")
    assert sha1_values(sha1_next(calibration, following)) == after.values(following)


def test_a_da_log_of_before_1_10_may_be_of_two_kinds_of_machine() -> None:
    """On a TPM 1.2 the update would move the modules, on a TPM 2.0 the bank."""
    machine = default(TPM12_DA_OLD, (17, 17, 17), da=True)
    old = with_version(a_boot(), "1.9.11", b"tboot")
    prediction = sha1_next(
        sha1_running(machine, old), with_version(old, "1.10.5", b"n")
    )
    reasons = {each.pcr: each.reason for each in prediction.refusals}
    assert "more than one may be its" in reasons[17]


def test_a_tpm_1_2_keeps_its_bank_when_tboots_default_one_changes() -> None:
    machine = default(TPM12_DEFAULT, (18, 19, 19))
    old = with_version(a_boot(), "1.9.11", b"tboot")
    following = with_version(old, "1.10.5", b"new")
    prediction = sha1_next(sha1_running(machine, old), following)
    assert sha1_values(prediction) == machine.values(following)


def own_in_sha1(
    algorithm: int, *, as_stored: bool = False
) -> tuple[Sha1Machine, bytes]:
    stored = packed(OWN, algorithm=algorithm)
    taken = stored if as_stored or algorithm else packed(OWN, algorithm=4)
    digest = digest_of(taken, "sha1", "sha1")
    return Sha1Machine(digest, (18, 18, 19)), stored


def test_an_own_policy_in_sha1_may_be_of_a_tpm_2_whose_bank_changes() -> None:
    machine, stored = own_in_sha1(4)
    old = with_version(a_boot(), "1.9.11", b"tboot")
    calibration = sha1_running(machine, old, stored)
    same = with_version(old, "1.9.10", b"new")
    assert sha1_values(sha1_next(calibration, same)) == machine.values(same)
    prediction = sha1_next(calibration, with_version(old, "1.10.5", b"new"))
    reasons = {each.pcr: each.reason for each in prediction.refusals}
    assert "may extend another bank than sha1" in reasons[18]


def test_lists_in_another_algorithm_than_the_banks_are_not_looked_at() -> None:
    """The policy's own hash shows it: tboot extends every bank, and compares none."""
    entries = [Entry(0, NONE), Entry(1, 18, (bytes(32),)), Entry(ANY, 19)]
    data = packed(entries, kind=HALT)
    machine = Sha1Machine(digest_of(data, "sha1", "sha256"), (18, 18, 19))
    calibration = sha1_running(machine, a_boot(), data)
    following = a_boot().with_module(1, image=b"new kernel")
    assert sha1_values(sha1_next(calibration, following)) == machine.values(following)


def test_an_own_policy_of_algorithm_0_is_measured_as_4_since_1_8() -> None:
    before, stored = own_in_sha1(0, as_stored=True)
    after, _ = own_in_sha1(0)
    old = with_version(a_boot(), "1.7.4", b"tboot")
    new = with_version(old, "1.9.10", b"new")
    prediction = sha1_next(sha1_running(before, old, stored), new)
    assert sha1_values(prediction) == after.values(new)
    assert before.policy != after.policy


def test_algorithm_0_is_not_predicted_for_a_tboot_of_which_nothing_is_known() -> None:
    machine, stored = own_in_sha1(0)
    calibration = sha1_running(machine, a_boot(), stored)
    newer = with_version(a_boot(), "1.12.0")
    reasons = {each.pcr: each.reason for each in sha1_next(calibration, newer).refusals}
    assert "names hash algorithm 0" in reasons[18]
    known = with_version(a_boot(), "1.11.12")
    assert sha1_next(calibration, known).is_complete


def test_the_x200s_own_policy_explains_and_predicts_its_tboots_measurements() -> None:
    """ThinkPad X200, Fedora 15, tboot of 2011: its MLE, kernel and initramfs hashes."""
    mle = "88431cc60c5f115b29082f04438dde9493476246"
    modules = [
        "d25c5b182a9a62ce15e46d08919d4efc1b7cfcad",
        "0f93a82c3b3b2030986139a2032e3823733fc642",
    ]
    kernel, initramfs = ((bytes.fromhex(each),) for each in modules)
    policy = packed([Entry(0, NONE, kernel), Entry(1, 19, initramfs)], algorithm=0)
    logged = [(17, "a821ffbe396921f3bd8d79e770ec8f7541ba5c5e")]
    logged += [(18, modules[0]), (19, modules[1])]
    events = [(0x404, 18, mle), *((0x501, pcr, digest) for pcr, digest in logged)]
    log = EventLog(
        "tboot-text",
        (SHA1,),
        tuple(
            Event(number, pcr, kind, {SHA1: Digest.from_hex(SHA1, digest)})
            for number, (kind, pcr, digest) in enumerate(events)
        ),
    )
    values_: dict[int, bytes] = {}
    for _, pcr, digest in events:
        values_[pcr] = sha1(values_.get(pcr, bytes(20)) + bytes.fromhex(digest))
    assert values_[18].hex() == "5e2463eff8ee13c3281e1303d20ed479695f15d7"
    live = PcrBank(SHA1, {pcr: Digest(SHA1, value) for pcr, value in values_.items()})
    evidence = verify(log, live, PcrSelection(SHA1, (17, 18, 19)))
    system = RunningSystem(policies=(policy,))
    calibration = calibrate(evidence, [], system=system)
    assert calibration.launch.default_pcrs == {17, 18, 19}
    roles = [(each.role, each.pcr) for each in calibration.measured]
    assert roles == [
        (Role.MLE, 18),
        (Role.POLICY, 17),
        (Role.XEN, 18),
        (Role.KERNEL, 19),
    ]


def test_the_logged_digest_is_kept_while_tboot_is_the_same() -> None:
    before, stored = own_in_sha1(0, as_stored=True)
    boot = with_version(a_boot(), "1.9.10", b"tboot")
    calibration = sha1_running(before, boot, stored)
    following = boot.with_module(1, image=b"new kernel")
    prediction = sha1_next(calibration, following)
    assert sha1_values(prediction) == before.values(following)
