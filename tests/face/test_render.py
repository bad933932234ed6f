# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports as lines, where a machine seldom has them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from contract import check
from laptop import Laptop, MakeLaptop, changed

from aemseal.face.render import explanation_lines, status_lines, status_report
from aemseal.flows.state import KeptSecret, VaultState
from aemseal.flows.status import nothing_enrolled
from aemseal.measure.boot_entry import Role
from aemseal.measure.explain import Explanation, Verdict
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import VaultError

SHA256 = HashAlgorithm.SHA256
MEASURED = Digest(SHA256, bytes(range(32)))


def test_a_measurement_that_was_added_is_told_without_a_name() -> None:
    lines = explanation_lines(
        Explanation(
            Verdict.CHANGED, "Advice.", pcr=19, measured=MEASURED, differences=2
        )
    )
    assert lines == [
        "Advice.",
        "first difference: PCR 19, a measurement that is not known",
        f"  measured sha256:{MEASURED.hex}",
        "also differ: 1 added or moved",
    ]


def test_what_differs_besides_is_told_by_role_each_once() -> None:
    lines = explanation_lines(
        Explanation(
            Verdict.CHANGED,
            "Advice.",
            role=Role.KERNEL,
            differences=4,
            others=(Role.INITRAMFS, Role.MODULE, Role.MODULE),
        )
    )
    assert lines[-1] == "also differ: initramfs, module"


def test_the_status_names_what_is_sealed_and_what_is_asked_a_pin() -> None:
    some = nothing_enrolled()
    assert status_report(some)["secrets"] == []
    assert not any(line.startswith("secrets:") for line in status_lines(some))
    secrets = (KeptSecret("text", "text"), KeptSecret("totp", "totp", pin=True))
    found = dataclasses.replace(some, secrets=secrets)
    assert "secrets:   text, totp (PIN)" in status_lines(found)
    assert status_report(found)["secrets"] == [
        {"name": "text", "kind": "text", "pin": False},
        {"name": "totp", "kind": "totp", "pin": True},
    ]


def test_a_stale_medium_stays_in_the_status() -> None:
    found = dataclasses.replace(nothing_enrolled(), stale=("stick",))
    assert "not refreshed: stick" in status_lines(found)
    assert status_report(found)["stale_media"] == ["stick"]


def test_a_problem_without_a_hint_is_one_line() -> None:
    lines = status_lines(nothing_enrolled(VaultError("no")))
    assert "problem:   no" in lines
    assert not any(each.startswith("hint:") for each in lines)


@pytest.mark.tpm
def test_a_medium_that_was_away_is_named_until_it_is_refreshed(
    own: MakeLaptop,
) -> None:
    laptop = own()
    laptop.path("/var/lib/aemseal/state.json").unlink()
    stick = laptop.path("/media/stick")
    (stick / "aemseal").mkdir(parents=True)
    media = (("inside", "/boot/aemseal"), ("stick", "/media/stick/aemseal"))
    listed = [
        f"  - label: {label}\n    path: {path}\n    carried: true\n"
        for label, path in media
    ]
    laptop.write("/etc/aemseal.yaml", "media:\n" + "".join(listed))
    assert laptop.enrol().code == 0
    away = laptop.root / "away"
    stick.rename(away)
    laptop.write("/boot/vmlinuz", b"another kernel")
    staged = laptop.aemseal("reseal", "--accept", "kernel")
    assert staged.code == 0
    assert "aemseal: not refreshed: stick\n" in staged.told
    assert laptop.aemseal("status", "--json").report["stale_media"] == ["stick"]
    assert "not refreshed: stick\n" in laptop.aemseal("status").out
    assert laptop.shows_the_secret()
    away.rename(stick)
    confirmed = laptop.aemseal("confirm", "--json")
    assert confirmed.report["stale_media"] == []
    assert laptop.aemseal("status", "--json").report["stale_media"] == []


@pytest.mark.tpm
def test_without_a_medium_the_next_boot_is_told_to_need_one(lent_da: Laptop) -> None:
    step = "the next boot will show the secret"
    assert lent_da.aemseal("status", "--json").report["next_step"].endswith(step)
    with changed(lent_da, "/boot/aemseal", None):
        report = lent_da.aemseal("status", "--json").report
    assert report["next_step"].endswith(f"{step}, with a medium in: stick")


@pytest.mark.tpm
def test_status_says_first_that_nothing_is_sealed(lent_da: Laptop) -> None:
    with changed(lent_da, "/var/lib/aemseal/state.json", None):
        told = lent_da.aemseal("status").out.splitlines()
    assert told[0] == "nothing is sealed on this machine"
    assert lent_da.aemseal("status").out.splitlines()[0].startswith("accepted:  Xen ")


@pytest.mark.tpm
def test_a_module_that_was_added_or_taken_out_is_planned(lent_da: Laptop) -> None:
    menu = lent_da.path("/boot/grub/grub.cfg").read_text()
    line = "\tmodule2\t/initramfs.img\n"
    head, tail = menu.split(line, 1)
    more = head + line + "\tmodule2\t/vmlinuz as-well\n" + tail
    with changed(lent_da, "/boot/grub/grub.cfg", more.encode()):
        added = lent_da.aemseal("plan", "--json")
        text = lent_da.aemseal("plan").out
    check(added.report, "plan")
    (change,) = added.report["changes"]
    assert change["before"] is None
    assert "! module (PCR 17): " in text
    assert "    command line: -\n               -> as-well\n" in text
    with changed(lent_da, "/boot/grub/grub.cfg", (head + tail).encode()):
        gone = lent_da.aemseal("plan", "--json")
        text = lent_da.aemseal("plan").out
    check(gone.report, "plan")
    (change,) = gone.report["changes"]
    assert (change["role"], change["after"]) == ("initramfs", None)
    assert "it is no longer part of the boot entry" in text


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value of a JSON object, lists by their first item."""
    if isinstance(value, dict):
        return [path, *(p for key in value for p in leaves(value[key], (*path, key)))]
    if isinstance(value, list) and value:
        return [path, *leaves(value[0], (*path, 0))]
    return [path]


@pytest.mark.tpm
def test_no_value_of_a_state_that_is_wrong_ends_in_a_traceback(
    lent_da: Laptop,
) -> None:
    """Each value in turn is of each other type; what is read at all is read safely."""
    whole = json.loads(lent_da.path("/var/lib/aemseal/state.json").read_bytes())
    refused: list[str] = []
    for path in leaves(whole)[1:]:
        for wrong in (None, 5, -1, 1e999, "x", [], {}, [5], {"x": 5}, True):
            spoilt = json.loads(json.dumps(whole))
            holder = spoilt
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = wrong
            try:
                VaultState.parse(json.dumps(spoilt).encode())
            except VaultError as error:
                refused.append(error.message)
    assert len(refused) > 300
    assert all("state.json is damaged: " in each for each in refused)
