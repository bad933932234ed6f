# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal as bytes: it comes back as it was written, or it is damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_values import JSON
from vault_world import OLD, World

from aemseal.flows.journal import Journal, MediumFiles, Sealing, parse_journal
from aemseal.words.errors import VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    with World(tmp_path_factory.mktemp("journal")) as world:
        world.boot(OLD)
        state = world.enrol(OLD)
    return Journal("stage", 2, 3, state)


def test_a_journal_comes_back_as_it_was_written(journal: Journal) -> None:
    assert parse_journal(journal.to_bytes()) == journal


@pytest.mark.parametrize("field", ["move", "before", "after", "state", "kind"])
def test_a_journal_without_a_field_is_damaged(journal: Journal, field: str) -> None:
    fields = json.loads(journal.to_bytes())
    del fields[field]
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        parse_journal(json.dumps(fields).encode())


@given(st.data())
def test_a_journal_with_any_field_changed_is_read_or_damaged(
    journal: Journal, data: st.DataObject
) -> None:
    fields = json.loads(journal.to_bytes())
    place = fields
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(JSON)
    try:
        parse_journal(json.dumps(fields).encode())
    except VaultError as refused:
        assert "damaged" in refused.message  # noqa: PT017 - it may also be read


@given(st.sampled_from([[], ["files"], ["files", "internal"]]), st.data())
def test_a_sealings_journal_with_any_of_its_files_changed_is_read_or_damaged(
    journal: Journal, way: list[str], data: st.DataObject
) -> None:
    files = {"internal": MediumFiles(b"a vault", b"an acceptance")}
    fields = json.loads(Sealing("enrol", journal.state, True, files).to_bytes())
    place = fields
    for name in way:
        place = place[name]
    name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(JSON)
    try:
        parse_journal(json.dumps(fields).encode())
    except VaultError as refused:
        assert "damaged" in refused.message  # noqa: PT017 - it may also be read


@given(st.binary(max_size=60))
def test_any_bytes_are_a_damaged_journal(data: bytes) -> None:
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        parse_journal(data)


def test_a_journal_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(VaultError, match=r"journal.json is damaged"):
        parse_journal(b"[" * 100_000)
