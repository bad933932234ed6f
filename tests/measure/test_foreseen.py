# SPDX-License-Identifier: GPL-2.0-or-later
"""A blind boot held against what of it could be predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trenchboot_boots import (
    MACHINES,
    SHA256,
    SKINIT,
    SKINIT_UEFI,
    TXT,
    TXT_UEFI,
    Boot,
    File,
    Machine,
    Skl,
)
from trenchboot_predictions import running, updated

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Refusal
from aemseal.measure.differences import seen_in
from aemseal.measure.explain import BootStatus, KnownBoot, explain, held_against
from aemseal.measure.foreseen import MOST_REFUSALS, Foreseen, Held
from aemseal.measure.reports import explain_report
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import EvidenceError

SELECTION = PcrSelection.of(SHA256, {13, 17, 18})
TIME = "2026-01-01T00:00:00Z"
machines = pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda machine: machine.name
)


def longer(machine: Machine) -> Boot:
    return machine.boot.with_module(1, image=b"a longer initramfs")


def foreseen(machine: Machine, following: Boot | None = None) -> Foreseen:
    prediction = updated(machine, machine.boot, following or longer(machine))
    found = Foreseen.of(prediction, SELECTION, TIME)
    assert found is not None
    return found


def held(machine: Machine, boot: Boot, what: Foreseen | None = None) -> Held:
    seen = seen_in(machine.launched(boot))
    return (what or foreseen(machine)).held_against(seen, SELECTION, with_luks=True)


def test_a_boot_that_can_be_known_is_not_foreseen_in_part() -> None:
    same = SKINIT.boot.with_module(1, image=b"INITRAMFS")
    prediction = updated(SKINIT, SKINIT.boot, same)
    assert Foreseen.of(prediction, SELECTION, TIME) is None


def test_a_refusal_outside_the_selection_does_not_count() -> None:
    prediction = updated(SKINIT, SKINIT.boot, longer(SKINIT))
    only = PcrSelection.of(SHA256, {13, 17})
    assert {each.pcr for each in prediction.refusals} == {18}
    assert Foreseen.of(prediction, only, TIME) is None


def test_refusals_are_bounded() -> None:
    prediction = updated(SKINIT, SKINIT.boot, longer(SKINIT))
    many = replace(prediction, refusals=prediction.refusals * 99)
    found = Foreseen.of(many, SELECTION, TIME)
    assert found is not None
    assert len(found.refusals) == MOST_REFUSALS


@machines
def test_the_boot_that_was_foreseen_is_as_predicted(machine: Machine) -> None:
    found = held(machine, longer(machine))
    assert found.is_as_foreseen
    assert "kernel, initramfs" in found.known_words


def test_the_words_name_what_was_known_and_what_was_not() -> None:
    found = held(SKINIT, longer(SKINIT))
    assert found.known_words == "secure kernel loader, Xen, kernel, initramfs"
    assert found.unproven_words == "the command lines"
    found = held(TXT, longer(TXT))
    assert found.known_words == "SINIT, Xen, kernel, initramfs"
    assert found.unproven_words == "the command lines or the launch's own tables"
    found = held(SKINIT_UEFI, longer(SKINIT_UEFI))
    assert found.known_words == (
        "secure kernel loader, command lines, kernel, initramfs"
    )
    assert found.unproven_words == "which Xen this is"
    found = held(TXT_UEFI, longer(TXT_UEFI))
    assert found.unproven_words == "which Xen this is or the launch's own tables"


CHANGES: dict[str, Callable[[Boot], Boot]] = {
    "xen": lambda boot: boot.with_xen(image=b"evil", tail=b"evil"),
    "kernel": lambda boot: boot.with_module(0, image=b"evil"),
    "initramfs": lambda boot: boot.with_module(1, image=b"evil"),
}


@pytest.mark.parametrize("role", CHANGES)
def test_anything_else_that_changed_is_named(role: str) -> None:
    found = held(SKINIT, CHANGES[role](longer(SKINIT)))
    assert not found.is_as_foreseen
    assert found.difference.expected is not None
    # another Xen has another entry point, which is measured before it
    named = "mle" if role == "xen" else role
    assert str(found.difference.expected.role) == named


def test_an_added_module_is_none_that_was_foreseen() -> None:
    boot = longer(SKINIT)
    found = held(
        SKINIT, replace(boot, modules=(*boot.modules, File("/boot/evil", b"e")))
    )
    assert (found.difference.expected, found.is_as_foreseen) == (None, False)


def test_what_could_not_be_known_may_be_anything_in_its_place_alone() -> None:
    what = foreseen(SKINIT)
    assert [each.role for each in what.unknown] == [Role.BOOT_INFO]
    boot = longer(SKINIT).with_module(0, cmdline=b"init=/bin/sh")
    assert held(SKINIT, boot).is_as_foreseen
    seen = [each for each in seen_in(SKINIT.launched(boot)) if each[0] == 17]
    found = what.held_against(seen, SELECTION, with_luks=True)
    assert not found.is_as_foreseen
    elsewhere = [
        (17 if number == 3 else pcr, digest)
        for number, (pcr, digest) in enumerate(seen_in(SKINIT.launched(boot)))
    ]
    found = what.held_against(elsewhere, SELECTION, with_luks=True)
    assert found.difference.expected is what.unknown[0]


def test_a_refusal_of_no_event_is_of_its_whole_pcr() -> None:
    what = replace(foreseen(SKINIT), refusals=(Refusal(17, "a doubt"),))
    assert {each.pcr for each in what.unknown} == {17}
    boot = longer(SKINIT).with_xen(image=b"another", tail=b"")
    other_loader = Skl(measured=b"evil")
    assert not held(SKINIT, boot, what).is_as_foreseen, "18 has to fit"
    what = replace(what, refusals=(*what.refusals, Refusal(18, "a doubt", 999)))
    found = held(SKINIT, replace(boot, skl=other_loader), what)
    assert (found.is_as_foreseen, found.known_words) == (True, "")


def explanation(boot: Boot) -> Any:
    known = KnownBoot("now", BootStatus.ACCEPTED, running(SKINIT, SKINIT.boot).measured)
    found = explain(seen_in(SKINIT.launched(boot)), [known])
    return held_against(found, held(SKINIT, boot))


def test_the_advice_says_what_can_be_concluded_and_never_to_type() -> None:
    advice = explanation(longer(SKINIT)).advice
    assert advice == (
        "This boot is not accepted, but all that could be predicted of it came as "
        "predicted: secure kernel loader, Xen, kernel, initramfs. Nothing proves the "
        "command lines. If this is the update you expected, accept it by your own "
        "word: aemseal recover."
    )
    changed = explanation(longer(SKINIT).with_module(0, image=b"evil")).advice
    assert changed.startswith(
        "Do not trust this boot unless you changed /boot/vmlinuz yourself"
    )
    more = (*longer(SKINIT).modules, File("/boot/evil", b"e"))
    added = explanation(replace(longer(SKINIT), modules=more)).advice
    assert added.startswith(
        "Do not trust this boot: something was measured into PCR 17"
    )
    for each in (changed, added):
        assert "Put the accepted files back, or do not use this machine" in each
        assert "Only if you made the change, accept it: aemseal recover" in each
    for each in (advice, changed, added):
        assert "safe" not in each
        assert "type" not in each


def test_the_report_tells_the_prediction_and_where_the_boot_parts_from_it() -> None:
    report: Any = explain_report(explanation(longer(SKINIT)))["prediction"]
    assert report["as_predicted"] is True
    assert (report["time"], report["differences"], report["role"]) == (TIME, 0, None)
    assert report["not_known"] == [
        "PCR 18 holds the multiboot information, and the initramfs grew by 9 bytes"
    ]
    boot = longer(SKINIT).with_module(0, image=b"evil")
    report = json.loads(json.dumps(explain_report(explanation(boot))))["prediction"]
    assert report["as_predicted"] is False
    assert (report["pcr"], report["role"], report["path"]) == (
        17,
        "kernel",
        "/boot/vmlinuz",
    )
    assert report["measured"]["digests"]["sha256"] == SHA256.hash(b"evil").hex
    assert report["expected"]["digests"]["sha256"] == SHA256.hash(b"kernel").hex
    more = (*longer(SKINIT).modules, File("/boot/evil", b"e"))
    report = explain_report(explanation(replace(longer(SKINIT), modules=more)))[
        "prediction"
    ]
    assert (report["pcr"], report["role"], report["expected"]) == (17, None, None)


@machines
def test_it_comes_back_from_json_as_it_was(machine: Machine) -> None:
    what = foreseen(machine)
    assert Foreseen.from_json(json.loads(json.dumps(what.to_json()))) == what


def spoilt(*path: str | int, value: object) -> object:
    fields: Any = json.loads(json.dumps(foreseen(SKINIT).to_json()))
    place = fields
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return fields


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        spoilt("refusals", value={}),
        spoilt("refusals", value=[]),
        spoilt("refusals", value=[None]),
        spoilt("refusals", value=[{"pcr": 18, "reason": "r"}] * (MOST_REFUSALS + 1)),
        spoilt("refusals", 0, "pcr", value=None),
        spoilt("refusals", 0, "pcr", value=24),
        spoilt("refusals", 0, "pcr", value=True),
        spoilt("refusals", 0, "reason", value=None),
        spoilt("refusals", 0, "event", value="4"),
        spoilt("time", value=4),
        spoilt("boot", value=None),
        spoilt("boot", "measurements", 0, "role", value="evil"),
    ],
)
def test_anything_else_is_refused(data: object) -> None:
    with pytest.raises(EvidenceError):
        Foreseen.from_json(data)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=4)


@given(st.data())
def test_any_field_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    fields: Any = json.loads(json.dumps(WRITTEN))
    place = fields
    while True:
        names = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        name = data.draw(st.sampled_from(names))
        if not isinstance(place[name], dict | list) or not place[name]:
            break
        place = place[name]
    place[name] = data.draw(SCALARS)
    with suppress(EvidenceError):
        found = Foreseen.from_json(fields)
        assert Foreseen.from_json(found.to_json()) == found


WRITTEN = foreseen(SKINIT).to_json()
