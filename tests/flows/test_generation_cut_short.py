# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails while a new generation begins: the old one opens, or the new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anew import ANEW, recovered, shown
from power_cuts import PowerCut, PowerCutError, Watching
from unsealer import connected
from vault_world import INTERNAL, NEWER, OLD, SECRET, STICK, World, enrolled

from aemseal.flows.generation import require_settled
from aemseal.flows.journal import JOURNAL_FILE
from aemseal.words.errors import TpmChangedError
from aemseal.world.tpm import NV_RANGE

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

BEFORE, AFTER = {OLD.name: SECRET}, {NEWER.name: ANEW}
MEDIA = (INTERNAL, STICK)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine enrolled on the old Xen, after a blind boot of a newer one."""
    with enrolled(tmp_path, media=MEDIA) as world:
        world.boot(NEWER)
        yield world


def watched(world: World) -> Watching:
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        recovered(vault)
    return seam


def cut(world: World, at: int, *, after: bool) -> None:
    world.restore("start")
    world.boot(NEWER)
    with pytest.raises(PowerCutError), world.vault(PowerCut(at, after=after)) as vault:
        recovered(vault)
    world.boot(NEWER)


def counters(world: World) -> int:
    with world.vault() as vault:
        return len(vault.tpm.handles(NV_RANGE.start, len(NV_RANGE)))


def test_wherever_the_power_fails_the_old_generation_opens_or_the_new_one(
    world: World,
) -> None:
    world.snapshot("start")
    seam = watched(world)
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        cut(world, at, after=after)
        for medium in MEDIA:
            assert shown(world, medium) in (BEFORE, AFTER), f"{where}, not settled"
        with world.vault() as vault:
            said = vault.settle()
            assert vault.settle() is None, where
            generation = vault.require().generation
        expected = BEFORE if generation == 1 else AFTER
        for medium in MEDIA:
            assert shown(world, medium) == expected, where
        assert world.opening_for_attacker() == set(expected), where
        assert counters(world) == 1, where
        outcomes.add((generation, said))
    rotated = "a change of the TPM's authorisations was cut short: finished it"
    assert outcomes == {
        (1, None),
        (1, rotated),
        (1, "recover was cut short: undid it"),
        (2, "recover was cut short: finished it"),
        (2, None),
    }


@pytest.mark.parametrize("journal", [1, 2], ids=["begun", "promised"])
def test_the_power_may_fail_again_while_it_is_settled(
    world: World, journal: int
) -> None:
    world.snapshot("start")
    steps = watched(world).steps
    at = [
        number for number, step in enumerate(steps) if step == f"rename {JOURNAL_FILE}"
    ]

    def half_done() -> None:
        cut(world, at[journal - 1] + 1, after=True)

    half_done()
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        vault.settle()
    expected = BEFORE if journal == 1 else AFTER
    for step, after in seam.cuts():
        half_done()
        with (
            pytest.raises(PowerCutError),
            world.vault(PowerCut(step, after=after)) as vault,
        ):
            vault.settle()
        world.boot(NEWER)
        with world.vault() as vault:
            vault.settle()
        for medium in MEDIA:
            assert shown(world, medium) == expected
        assert world.opening_for_attacker() == set(expected)
        assert counters(world) == 1


def test_after_a_cut_it_is_begun_again(world: World) -> None:
    world.snapshot("start")
    seam = watched(world)
    for at, after in seam.cuts()[::7]:
        cut(world, at, after=after)
        with world.vault() as vault:
            vault.settle()
            recovered(vault)
        assert shown(world) == AFTER
        assert world.opening_for_attacker() == set(AFTER)
        assert counters(world) == 1


def promised(world: World) -> None:
    """Cut a new generation short once it is promised, before the old one goes."""
    world.snapshot("start")
    steps = watched(world).steps
    last = len(steps) - 1 - steps[::-1].index("NV_UndefineSpace")
    cut(world, last, after=False)


def test_a_tpm_cleared_before_the_old_one_is_taken_down_is_no_end(world: World) -> None:
    """Neither generation opens any more: what was promised is finished, for recover."""
    promised(world)
    with connected(world.chip.tcti) as esapi:
        esapi.clear(auth_handle=ESYS_TR.PLATFORM)
    world.boot(NEWER)
    with world.vault() as vault:
        assert vault.settle() == "recover was cut short: finished it"
        assert vault.require().generation == 2
        require_settled(vault)


def test_without_the_storage_key_alone_the_old_one_is_not_forgotten(
    world: World,
) -> None:
    promised(world)
    with world.vault() as vault:
        state = vault.require()
        with vault.owner_session(state) as session:
            vault.storage.evict(state.storage, session)
        with pytest.raises(TpmChangedError, match="storage key"):
            vault.settle()
        assert vault.files.read(JOURNAL_FILE) is not None
