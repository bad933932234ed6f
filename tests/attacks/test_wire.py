# SPDX-License-Identifier: GPL-2.0-or-later
"""The bus in every move: no four bytes of a secret, a PIN or a TPM's value go by.

The hook's part of the bus is in tests/hooks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from pin_victim import PIN, open_with, pin_victim
from unsealer import Unsealer
from vault_world import OLD, SECRET, Wire, World
from victim import in_force
from wire_moves import READING, ROWS, listen, names_of_moves, told, values_of

from aemseal.face.cli import parser
from aemseal.world.tpm import Hierarchy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESAPI

pytestmark = pytest.mark.tpm


@pytest.mark.parametrize("name", ROWS)
def test_no_move_tells_the_bus_a_secret_a_pin_or_an_authorisation(
    tmp_path: Path, name: str
) -> None:
    wire, heard = listen(tmp_path / "once", ROWS[name])
    assert len(wire.heard) > 6
    if heard:
        # By chance in some hundred bytes of random values; not twice at one place.
        heard &= listen(tmp_path / "again", ROWS[name])[1]
    assert heard == set()


def test_every_verb_has_a_row_or_only_reads() -> None:
    (verbs,) = [
        each.choices
        for each in parser()._actions
        if isinstance(each, argparse._SubParsersAction)
    ]
    in_rows = {verb for row in ROWS.values() for verb in row.verbs}
    assert sorted(set(verbs) - in_rows - READING) == []


def test_every_move_of_the_journals_has_a_row() -> None:
    in_rows = {move for row in ROWS.values() for move in row.moves}
    assert {"enrol", "stage", "confirm", "undo"} <= names_of_moves()
    assert sorted(names_of_moves() - in_rows) == []


# --- what the listener would hear ---


def test_the_listener_hears_a_pin_and_a_secret_that_are_sealed_in_the_open(
    tmp_path: Path,
) -> None:
    with World(tmp_path) as world:
        wire = Wire(world.chip.tcti)
        with world.vault(wire=wire) as vault:
            key = vault.storage.provide()
            parent = vault.storage.pinned(key)
            with vault.tpm.session() as session:  # not salted, so not encrypted
                vault.storage.seal(SECRET, bytes(32), parent, session, PIN)
        whole = {(name, 0) for name in ("secret", "PIN")}
        assert whole <= told(wire.heard, values_of(world))


def test_the_listener_hears_an_authorisation_that_is_set_in_the_open(
    tmp_path: Path,
) -> None:
    value = b"the owner's value"
    with World(tmp_path) as world:
        wire = Wire(world.chip.tcti)
        with world.vault(wire=wire) as vault, vault.tpm.session() as session:
            vault.tpm.change_auth(Hierarchy.OWNER, value, session)
    assert len(told(wire.heard, {"value": value})) == len(value) - 3


def test_the_listener_hears_a_response(tmp_path: Path) -> None:
    """The tests' own unsealer asks in a session that is not salted."""
    with pin_victim(tmp_path) as world:
        world.boot(OLD)
        assert open_with(world, PIN) == SECRET
        wire = Wire(world.chip.tcti)
        esapi = ESAPI(tcti=wire)
        try:
            with Unsealer(esapi, *in_force(world), typed=PIN) as unsealer:
                assert unsealer.secret() == SECRET
        finally:
            esapi.close()
        assert len(told(wire.heard, {"secret": SECRET})) == len(SECRET) - 3
        assert any(SECRET in each for each in wire.heard[1::2])
        assert told(wire.heard, {"PIN": PIN}) == set()  # PolicyAuthValue never sends it
