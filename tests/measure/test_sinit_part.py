# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT's part of launches by tboot and TrenchBoot: its file and its events."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import tboot_boots
import trenchboot_boots
from predictions import next_boot as next_by_tboot
from predictions import refused, values
from sinit_boots import facts as sinit_facts_of
from sinit_modules import ALDER_LAKE, ALDER_LAKE_CPU, SKYLAKE_CPU, Made, modulus
from tboot_boots import DA, Boot, File, a_boot, facts_of
from trenchboot_boots import FIRMWARES, SINIT, SKYLAKE, TXT
from trenchboot_predictions import next_boot, running, updated

from aemseal.measure.baseline import Baseline
from aemseal.measure.beside import files_beside
from aemseal.measure.boot_entry import Role
from aemseal.measure.calibrate import Calibration, Candidate, calibrate
from aemseal.measure.claims import (
    Calibrated,
    Prediction,
    Source,
    SourceKind,
    require_covered,
)
from aemseal.measure.consent import require_origins
from aemseal.measure.plan import plan
from aemseal.measure.predict import predict
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import BootFileError, EvidenceError, OriginError
from aemseal.words.wanted import FileFacts, View, Wanted

NEWER = Made(
    date=0x20210101,
    code=b"a later release",
    processors=(SKYLAKE_CPU, (0x506E0, 0xFFF3FF0, 0, 0)),
)
OLDER = replace(SKYLAKE, date=0x20180101, code=b"an earlier release")
FOREIGN = Made(chipsets=(ALDER_LAKE,), processors=(ALDER_LAKE_CPU,), code=b"foreign")
PATH = "/boot/SINIT.BIN"


# By tboot: a machine whose log begins with a module's events


def by_tboot(*modules: Made, nounzip: bool = False) -> Boot:
    """A boot that loads SINIT modules behind the initramfs."""
    files = tuple(
        File(
            f"{PATH}{number or ''}",
            made.file,
            notes={"tboot_skips": "sinit-acm"},
            nounzip=nounzip,
        )
        for number, made in enumerate(modules)
    )
    return replace(a_boot(), modules=(*a_boot().modules, *files), headers=())


def tboots_facts(boot: Boot) -> dict[Wanted, FileFacts]:
    known = facts_of(boot)
    made = {each.path: each.image for each in boot.modules}
    for wanted in known:
        if wanted.view is View.ACM and wanted.path.startswith(PATH):
            [module] = [m for m in MODULES if m.file == made[wanted.path]]
            known[wanted] = sinit_facts_of(wanted.path, module)
    return known


MODULES = (OLDER, SKYLAKE, NEWER, FOREIGN, FIRMWARES)


def launching(made: Made) -> tboot_boots.Machine:
    """tboot's machine, its SINIT module being this one."""
    start = hashlib.sha256(made.measured).digest() + bytes(4)
    rows = [
        (kind, pcr, start if kind == 0x402 else data) for kind, pcr, data in DA.sinit
    ]
    return replace(DA, sinit=tuple(rows))


def calibrated(
    made: Made, boot: Boot, now: Boot | None = None, kept: Baseline | None = None
) -> Calibration:
    there = now or boot
    candidates = [Candidate(there.entry, tboots_facts(there))]
    return calibrate(launching(made).launched(boot), candidates, kept)


def update_by_tboot(made: Made, boot: Boot, following: Boot) -> Prediction:
    kept = calibrated(made, boot).baseline(boot.title)
    again = calibrated(made, boot, following, Baseline.from_json(kept.to_json()))
    return predict(
        again, following.entry, tboots_facts(following), hook_measures_luks=False
    )


def test_tboots_launched_module_is_the_source_of_its_event() -> None:
    boot = by_tboot(FOREIGN, SKYLAKE)
    measured = calibrated(SKYLAKE, boot).measured
    start = measured[0]
    assert (start.role, start.calibrated) == (Role.SINIT, Calibrated.NOW)
    assert (start.source.kind, start.source.path) == (SourceKind.FILE, f"{PATH}1")
    assert start.source.version == "20190708"
    key = next(each for each in measured if each.pcr == 18)
    assert key.source.kind is SourceKind.CARRIED  # the E5470's key, not this module's


def test_a_newer_module_for_tboot_is_predicted_and_asked_for_by_name() -> None:
    boot, following = by_tboot(FOREIGN, SKYLAKE), by_tboot(FOREIGN, NEWER)
    kept = calibrated(SKYLAKE, boot).baseline("")
    again = calibrated(SKYLAKE, boot, following, kept)
    start = again.measured[0]
    assert (start.source.path, start.calibrated) == (f"{PATH}1", Calibrated.BASELINE)
    prediction = update_by_tboot(SKYLAKE, boot, following)
    assert values(prediction) == launching(NEWER).values(following)
    told = prediction.measurements[0]
    assert (told.source.path, told.source.version, told.calibrated) == (
        f"{PATH}1",
        "20210101",
        Calibrated.BASELINE,
    )
    assert "another SINIT module than was launched" in prediction.cautions[0]
    changes = plan(again.measured, prediction)
    with pytest.raises(OriginError, match=rf"sinit \({PATH}1\)") as refusal:
        require_origins([changes], [], tboot_boots.SHA256)
    assert refusal.value.hint is not None
    assert "--accept sinit=" in refusal.value.hint


def test_a_module_for_another_machine_changes_nothing_for_tboot() -> None:
    boot, following = by_tboot(SKYLAKE), by_tboot(SKYLAKE, FOREIGN)
    prediction = update_by_tboot(SKYLAKE, boot, following)
    assert values(prediction) == launching(SKYLAKE).values(boot)
    assert prediction.beside is not None
    assert [each.path for each in prediction.beside] == [PATH, f"{PATH}1"]


def test_an_older_module_is_refused_with_its_date() -> None:
    prediction = update_by_tboot(SKYLAKE, by_tboot(SKYLAKE), by_tboot(OLDER))
    why = refused(prediction)[17]
    assert f"{PATH} (20180101) is older than the SINIT module" in why
    assert 18 in refused(prediction)


def test_other_modules_beside_the_firmwares_own_are_refused() -> None:
    boot, following = by_tboot(FOREIGN), by_tboot(FOREIGN, SKYLAKE)
    prediction = update_by_tboot(FIRMWARES, boot, following)
    assert "the firmware's SINIT module was launched" in refused(prediction)[17]
    same = update_by_tboot(FIRMWARES, boot, boot)
    assert values(same) == launching(FIRMWARES).values(boot)
    assert same.cautions == ()


def test_a_replaced_module_does_not_pass_for_the_firmwares_own() -> None:
    """By the facts of now nothing was launched: the record of before tells."""
    boot, following = by_tboot(SKYLAKE), by_tboot(NEWER)
    assert values(update_by_tboot(SKYLAKE, boot, following)) == launching(NEWER).values(
        following
    )


def test_without_a_record_the_firmwares_own_is_a_caution() -> None:
    boot = by_tboot(FOREIGN)
    prediction = predict(
        calibrated(FIRMWARES, boot),
        boot.entry,
        tboots_facts(boot),
        hook_measures_luks=False,
    )
    assert values(prediction) == launching(FIRMWARES).values(boot)
    (caution,) = prediction.cautions
    assert "taken for the firmware's own" in caution
    plain = replace(a_boot(), headers=())
    assert next_by_tboot(calibrated(FIRMWARES, plain), plain, luks=False).cautions == ()


def test_without_a_record_and_without_the_files_sinit_is_not_known() -> None:
    boot, now = by_tboot(SKYLAKE), by_tboot(NEWER).with_module(0, image=b"new Xen")
    calibration = calibrated(SKYLAKE, boot, now)
    assert calibration.beside is None
    prediction = predict(
        calibration, now.entry, tboots_facts(now), hook_measures_luks=False
    )
    assert "or has been replaced since" in refused(prediction)[17]


def test_a_packed_module_with_nounzip_is_none_for_tboot() -> None:
    boot = by_tboot(SKYLAKE, nounzip=True)
    facts = tboots_facts(boot)
    assert [each.path for each in files_beside(boot.entry, facts)] == [PATH]
    raw = boot.entry.modules[-1].wanted
    assert raw.view is View.RAW
    packed = facts | {raw: replace(facts[raw], notes={})}
    assert files_beside(boot.entry, packed) == ()


def test_a_module_with_nounzip_in_the_initramfs_place_is_refused() -> None:
    boot = by_tboot(SKYLAKE)
    *others, last = boot.entry.modules
    odd = replace(last, decompress=False, role=Role.INITRAMFS)
    entry = replace(boot.entry, modules=(*others, odd))
    facts = tboots_facts(boot) | {
        odd.wanted: FileFacts(odd.wanted, 1, {}, {"tboot_skips": "sinit-acm"})
    }
    with pytest.raises(BootFileError, match=rf"{PATH} is a SINIT module, loaded with"):
        files_beside(entry, facts)


# By TrenchBoot


def test_trenchboots_module_is_the_source_of_both_its_events() -> None:
    measured = running(TXT, TXT.boot).measured
    told = [(e.pcr, e.source.path) for e in measured if e.role is Role.SINIT]
    assert told == [(17, SINIT), (18, SINIT)]
    require_covered(measured, PcrSelection(tboot_boots.SHA256, (17, 18)))


def with_sinit(*modules: Made) -> trenchboot_boots.Boot:
    paths = (f"{SINIT}{number or ''}" for number in range(len(modules)))
    return replace(TXT.boot, sinit=tuple(zip(paths, modules, strict=True)))


def test_a_newer_module_of_the_same_size_is_predicted() -> None:
    following = with_sinit(NEWER)
    prediction = updated(TXT, TXT.boot, following)
    assert values(prediction) == TXT.values(following)
    names = {e.name for e in plan(running(TXT, TXT.boot).measured, prediction).changes}
    assert names == {"sinit"}


def test_another_key_is_a_second_component() -> None:
    other = replace(NEWER, key=modulus("another"))
    prediction = updated(TXT, TXT.boot, with_sinit(other))
    assert values(prediction) == TXT.values(with_sinit(other))
    changes = plan(running(TXT, TXT.boot).measured, prediction).changes
    assert [(e.name, e.path) for e in changes] == [("sinit", SINIT), ("sinit 2", SINIT)]


def test_another_offer_changes_what_grub_asks_for() -> None:
    other = replace(NEWER, capabilities=0x36A)
    prediction = updated(TXT, TXT.boot, with_sinit(other))
    assert values(prediction) == TXT.values(with_sinit(other))
    asked = [e for e in prediction.measurements if e.source.kind is SourceKind.CONSTANT]
    assert [(e.pcr, e.role) for e in asked] == [
        (17, Role.PLATFORM),
        (18, Role.PLATFORM),
    ]


def test_the_firmwares_module_is_carried_with_the_same_files_alone() -> None:
    machine = replace(TXT, firmware=FIRMWARES)
    assert values(updated(machine, TXT.boot, TXT.boot)) == machine.values(TXT.boot)
    prediction = updated(machine, TXT.boot, with_sinit(NEWER))
    assert "the firmware's SINIT module was launched" in refused(prediction)[17]


def test_a_random_value_of_sinits_refuses_its_pcr() -> None:
    machine = replace(TXT, more=((0x4FE, 17, b"r" * 32, b""),))
    prediction = updated(machine, TXT.boot, TXT.boot)
    assert refused(prediction) == {
        17: "event 7 is a random value, another one in each boot"
    }
    assert next_boot(running(TXT, TXT.boot), TXT.boot).is_complete


# The record of it


def test_what_lies_beside_a_boot_survives_json() -> None:
    for kept in (
        running(TXT, TXT.boot).baseline("t"),
        Baseline.of_prediction(updated(TXT, TXT.boot, with_sinit(NEWER))),
    ):
        assert kept.beside is not None
        assert [each.view for each in kept.beside] == [View.GRUB, View.GRUB, View.ACM]
        assert Baseline.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_a_record_of_before_is_read_without_it() -> None:
    fields = running(TXT, TXT.boot).baseline("t").to_json()
    del fields["beside"]
    old = Baseline.from_json(fields)
    assert old.beside is None
    assert "beside" not in old.to_json()
    calibration = running(TXT, TXT.boot, baseline=old)
    assert calibration.known_as == old
    assert calibration.beside is not None
    assert not calibration.is_beside_kept


FILE = {"kind": "file", "path": "/boot/s", "view": "acm", "size": 1}


@pytest.mark.parametrize(
    "beside",
    [
        {},
        [1],
        [{}],
        [{**FILE, "kind": "rumour"}],
        [{**FILE, "kind": "carried"}],
        [{**FILE, "path": "boot/s"}],
        [{**FILE, "size": None}],
        [{**FILE, "view": None}],
        [FILE] * 257,
    ],
)
def test_a_malformed_record_of_it_is_refused(beside: object) -> None:
    fields = running(TXT, TXT.boot).baseline("t").to_json()
    with pytest.raises(EvidenceError):
        Baseline.from_json({**fields, "beside": beside})


def test_kept_facts_that_no_module_gives_are_refused_by_their_path() -> None:
    kept = running(TXT, TXT.boot).baseline("t")
    assert kept.beside is not None
    odd = [
        replace(each, notes={**each.notes, "sinit_date": "now"}) for each in kept.beside
    ]
    spoilt = replace(kept, beside=tuple(odd))
    with pytest.raises(BootFileError, match=SINIT):
        running(TXT, TXT.boot, with_sinit(NEWER), baseline=spoilt)


def test_a_file_that_was_not_read_is_named_with_its_view() -> None:
    facts = trenchboot_boots.facts_of(TXT.boot)
    del facts[TXT.boot.entry.whole_wanted[0]]
    with pytest.raises(BootFileError, match=r"/boot/xen was not read \(grub\)"):
        files_beside(TXT.boot.entry, facts)
    calibration = calibrate(TXT.launched(TXT.boot), [Candidate(TXT.boot.entry, facts)])
    assert calibration.entry is not None
    assert calibration.beside is None


def test_a_source_tells_a_module_as_the_facts_did() -> None:
    kept = running(TXT, TXT.boot).baseline("t").beside
    assert kept is not None
    module: Source = kept[-1]
    assert (module.path, module.version, module.view) == (SINIT, "20190708", View.ACM)
    assert module.notes["sinit_capabilities"] == "0x36e"
