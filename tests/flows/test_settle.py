# SPDX-License-Identifier: GPL-2.0-or-later
"""settle: a move that was cut short is undone or finished, and who is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from power_cuts import PowerCut, PowerCutError
from publishing import count_on, do_stage, file, publish_again, unchanged_after
from vault_world import INTERNAL, NEW, OLD, STICK, World, called, enrolled

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.moves import stage
from aemseal.flows.owner import LOCKOUT_FILE
from aemseal.flows.vault import Vault
from aemseal.words.errors import TpmChangedError, VaultError
from aemseal.world.seam import Seam
from aemseal.world.tpm import Hierarchy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled there on two media."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        yield world


def cut_before_count(world: World) -> None:
    """Leave a stage half done, with its acceptance written and nothing counted."""

    class AtCount(PowerCut):
        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            if what == "NV_Increment":
                self.at = len(self.steps)
            with super().step(what):
                yield

    with pytest.raises(PowerCutError), world.vault(AtCount()) as vault:
        stage(vault, vault.require(), OLD.policy, NEW.sealed)
    world.boot(OLD)


def test_no_move_is_made_over_one_that_was_cut_short(world: World) -> None:
    cut_before_count(world)
    told = unchanged_after(world, publish_again, VaultError)
    assert told.message == "an earlier move was cut short"


def test_settling_says_what_was_undone_and_goes_past_its_number(world: World) -> None:
    cut_before_count(world)
    with world.vault() as vault:
        before = vault.require()
        assert vault.settle() == "stage was cut short: undid it"
        after = vault.require()
        assert vault.settle() is None
    assert after == replace(before, count=before.count + 2)
    assert world.opening() == world.opening_for_attacker() == called(OLD)


def test_undoing_makes_an_absent_medium_stale(world: World) -> None:
    cut_before_count(world)
    folder = world.file("", STICK)
    folder.rename(world.folder / "in a drawer")
    with world.vault() as vault:
        vault.settle()
        assert vault.require().stale == (STICK.label,)
    (world.folder / "in a drawer").rename(folder)
    world.look()
    assert world.opening_for_attacker() == called(OLD)


def test_settling_waits_for_a_medium(world: World) -> None:
    cut_before_count(world)
    kept = world.folder / "kept"
    world.file("").rename(kept)
    shutil.rmtree(world.file("", STICK))
    told = unchanged_after(world, Vault.settle, VaultError)
    assert "no medium is at hand" in told.message
    kept.rename(world.file(""))
    with world.vault() as vault:
        assert vault.settle() == "stage was cut short: undid it"


def test_a_counter_that_went_elsewhere_is_not_settled(world: World) -> None:
    cut_before_count(world)
    count_on(world)
    count_on(world)
    told = unchanged_after(world, Vault.settle, VaultError)
    assert told.message.startswith("the vault is shut")


def test_a_tpm_that_was_cleared_is_not_settled(world: World) -> None:
    cut_before_count(world)
    lockout = file(world, LOCKOUT_FILE).read_bytes()
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, lockout)
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)
    unchanged_after(world, Vault.settle, TpmChangedError)


def test_a_count_by_somebody_else_in_the_middle_is_noticed(world: World) -> None:
    class Counting(Seam):
        vault: Vault | None = None

        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            yield
            if what == "NV_Increment" and self.vault is not None:
                vault, self.vault = self.vault, None
                with vault.owner_session(vault.require()) as session:
                    vault.tpm.increment(0x01A10AE0, session)

    seam = Counting()
    with world.vault(seam) as vault:
        seam.vault = vault
        with pytest.raises(TpmChangedError, match="went from 1 to 3 instead of 2"):
            publish_again(vault)
    assert world.opening() == set()


def test_what_cannot_be_removed_from_a_medium_does_not_stop_a_move(
    world: World,
) -> None:
    world.file("acceptance.0").mkdir()
    state = do_stage(world)
    assert not file(world, JOURNAL_FILE).exists()
    assert not world.file(f"acceptance.{state.count - 1}", STICK).exists()
    world.file("acceptance.0").rmdir()
    assert world.opening() == called(OLD, NEW)


def test_a_fifo_where_the_acceptance_goes_does_not_stop_a_move(world: World) -> None:
    os.mkfifo(world.file(".acceptance.3.new"))
    os.mkfifo(world.file("acceptance.3"))
    do_stage(world)
    assert world.opening() == called(OLD, NEW)
