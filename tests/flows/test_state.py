# SPDX-License-Identifier: GPL-2.0-or-later
"""state.json comes back as written; anything else is damaged, and says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_values import JSON

from aemseal.flows.state import KeptSecret, NextBootCheck, SealedBoot, VaultState
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import (
    Calibrated,
    Measurement,
    Refusal,
    Source,
    SourceKind,
)
from aemseal.measure.foreseen import Foreseen
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import SelectionError, VaultError
from aemseal.world.config import Medium
from aemseal.world.storage_key import StorageKey

SHA256 = HashAlgorithm.SHA256
XEN = Measurement(
    18,
    {SHA256: SHA256.hash(b"xen")},
    Role.XEN,
    Source(SourceKind.FILE, path="/boot/xen.gz", cmdline=b"ucode=scan \xff"),
    Calibrated.NOW,
)


def boot(name: str, policy: int) -> SealedBoot:
    baseline = Baseline(name, "tboot", "legacy", (XEN,))
    return SealedBoot(name, "2026-01-01T00:00:00Z", bytes([policy]) * 32, baseline)


STATE = VaultState(
    generation=1,
    selection=PcrSelection.of(SHA256, {13, 17, 18}),
    storage=StorageKey(0x81000001, b"\0\x0b" + bytes(32), b"serialized"),
    counter=0x01A10AE0,
    count=7,
    media=(Medium("internal", "/boot/aemseal"), Medium("stick", "/mnt/aemseal")),
    secrets=(KeptSecret("text", "text"),),
    baseline=boot("Xen 4.17.5", 1).boot,
    accepted=(boot("Xen 4.17.5", 1),),
    staged=(boot("Xen 4.17.7", 2),),
    retired=(boot("Xen 4.17.3", 3), boot("Xen 4.17.4", 4)),
    stale=("stick",),
    checked=NextBootCheck("staged", "2026-01-01T00:00:00Z"),
)


def test_a_state_comes_back_as_it_was_written() -> None:
    assert VaultState.parse(STATE.to_bytes()) == STATE


def test_a_state_with_nothing_optional_does_too() -> None:
    least = replace(STATE, staged=(), retired=(), stale=(), checked=None)
    assert VaultState.parse(least.to_bytes()) == least


def test_a_selection_that_must_not_be_sealed_to_makes_no_state() -> None:
    for pcrs in ({17, 18}, {13, 18}, {13, 17, 20}):
        with pytest.raises(SelectionError):
            replace(STATE, selection=PcrSelection.of(SHA256, pcrs))


FORESEEN = Foreseen(
    boot("foreseen", 5).boot,
    (Refusal(18, "PCR 18 holds the multiboot information", 4), Refusal(17, "a doubt")),
    "2026-01-01T00:00:00Z",
)


def test_what_was_foreseen_of_a_blind_boot_comes_back_too() -> None:
    state = replace(STATE, foreseen=FORESEEN)
    assert VaultState.parse(state.to_bytes()) == state


def test_a_state_from_before_blind_boots_were_foreseen_has_nothing_of_one() -> None:
    assert "foreseen" not in json.loads(STATE.to_bytes())
    fields = json.loads(replace(STATE, foreseen=FORESEEN).to_bytes())
    fields["foreseen"] = None
    assert VaultState.parse(json.dumps(fields).encode()) == STATE


REQUIRED = sorted(json.loads(STATE.to_bytes()))


@pytest.mark.parametrize("field", REQUIRED)
def test_a_state_without_a_field_is_damaged(field: str) -> None:
    fields = json.loads(STATE.to_bytes())
    del fields[field]
    with pytest.raises(VaultError, match=r"state.json is damaged") as told:
        VaultState.parse(json.dumps(fields).encode())
    assert told.value.hint is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("selection", "sha256:17"),
        ("selection", "md5:13,17"),
        ("counter", "x"),
        ("count", None),
        ("count", float("inf")),
        ("media", [{"label": "a/b", "path": "/x"}]),
        ("media", [{"label": "a", "path": "x"}]),
        ("accepted", [{}]),
        ("accepted", 1),
        ("storage", {"handle": 1, "name": "zz", "serialized": ""}),
        ("baseline", []),
        ("checked", 1),
        ("foreseen", 1),
        ("foreseen", {}),
    ],
)
def test_a_field_of_another_shape_is_damage(field: str, value: object) -> None:
    fields = json.loads(STATE.to_bytes())
    fields[field] = value
    with pytest.raises(VaultError, match=r"state.json is damaged"):
        VaultState.parse(json.dumps(fields).encode())


@given(st.data())
def test_any_field_changed_anywhere_is_read_or_damaged(data: st.DataObject) -> None:
    fields = json.loads(STATE.to_bytes())
    place = fields
    while True:
        names = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        name = data.draw(st.sampled_from(names))
        inner = place[name]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[name] = data.draw(JSON)
    try:
        state = VaultState.parse(json.dumps(fields).encode())
    except VaultError as refused:
        assert "damaged" in refused.message  # noqa: PT017 - it may also be read
    else:
        assert VaultState.parse(state.to_bytes()) == state


@given(st.binary(max_size=60))
def test_any_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(VaultError, match=r"state.json is damaged"):
        VaultState.parse(data)


def test_json_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(VaultError, match=r"state.json is damaged"):
        VaultState.parse(b"[" * 100_000)
