# SPDX-License-Identifier: GPL-2.0-or-later
"""The power fails in an enrolment: the secret is sealed, or nothing is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from enrolling import file
from power_cuts import PowerCut, PowerCutError, Watching
from vault_world import INTERNAL, OLD, STICK, World, enrol

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.world.tpm import Hierarchy

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

pytestmark = pytest.mark.tpm

TEMPORARY = re.compile(r"\.(vault|acceptance\.2)\.[0-9a-f]{16}\.new")
"""What a write that was cut short leaves on a medium; the next one sweeps it."""

PROMISE = f"rename {JOURNAL_FILE}"
"""The first journal begins the sealing, the second one promises it."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen; nothing is enrolled."""
    with World(tmp_path) as world:
        world.boot(OLD)
        yield world


def watched(world: World) -> Watching:
    seam = Watching(world.fingerprint)
    world.enrol(OLD, media=(INTERNAL, STICK), seam=seam)
    return seam


def cut(world: World, at: int, *, after: bool) -> None:
    with pytest.raises(PowerCutError):
        world.enrol(OLD, media=(INTERNAL, STICK), seam=PowerCut(at, after=after))
    world.boot(OLD)


def try_again(world: World) -> None:
    with world.vault() as vault:
        if vault.load() is None:
            enrol(vault, OLD, media=(INTERNAL, STICK))


def test_wherever_the_power_fails_the_secret_is_sealed_or_nothing_is(
    world: World,
) -> None:
    world.snapshot("start")
    seam = watched(world)
    outcomes = set()
    for at, after in seam.cuts():
        where = f"{'after' if after else 'before'} {seam.steps[at]}"
        world.restore("start")
        world.boot(OLD)
        cut(world, at, after=after)
        found = world.opening()
        assert found in (set(), {OLD.name}), f"{where}, before settling"
        world.boot(OLD)
        with world.vault() as vault:
            said = vault.settle()
            assert vault.settle() is None
            enrolled = vault.load() is not None
        assert enrolled or not found, where
        found = {OLD.name} if enrolled else set()
        assert world.opening() == world.opening_for_attacker() == found, where
        if not enrolled:
            left = [each.name for each in world.file("").iterdir()]
            assert all(map(TEMPORARY.fullmatch, left)), where
        try_again(world)
        for medium in (INTERNAL, STICK):
            assert world.opening(medium) == {OLD.name}, f"{where}, then again"
        assert world.opening_for_attacker() == {OLD.name}, where
        outcomes.add((enrolled, said))
    assert outcomes == {
        (False, None),
        (False, "enrol was cut short: undid it"),
        (True, "enrol was cut short: finished it"),
        (True, None),
    }


@pytest.mark.parametrize("journal", [1, 2], ids=["begun", "promised"])
def test_the_power_may_fail_while_an_enrolment_is_taken_back_or_finished(
    world: World, journal: int
) -> None:
    world.snapshot("start")
    steps = watched(world).steps
    at = [number for number, step in enumerate(steps) if step == PROMISE]

    def half_done() -> None:
        world.restore("start")
        world.boot(OLD)
        cut(world, at[journal - 1] + 1, after=True)

    half_done()
    seam = Watching(world.fingerprint)
    with world.vault(seam) as vault:
        vault.settle()
    expected = {OLD.name} if journal == 2 else set()
    assert world.opening() == expected
    for step, after in seam.cuts():
        half_done()
        with (
            pytest.raises(PowerCutError),
            world.vault(PowerCut(step, after=after)) as vault,
        ):
            vault.settle()
        world.boot(OLD)
        with world.vault() as vault:
            vault.settle()
        assert world.opening() == world.opening_for_attacker() == expected
        try_again(world)
        assert world.opening_for_attacker() == {OLD.name}


def test_an_enrolment_half_done_on_a_tpm_cleared_since_is_taken_back(
    world: World,
) -> None:
    world.snapshot("start")
    steps = watched(world).steps
    world.restore("start")
    world.boot(OLD)
    cut(world, steps.index("NV_Increment"), after=True)
    with world.vault() as vault, vault.tpm.session() as session:
        vault.tpm.set_auth(Hierarchy.LOCKOUT, file(world, LOCKOUT_FILE))
        vault.tpm.esapi.clear(auth_handle=ESYS_TR.LOCKOUT, session1=session)
    with world.vault() as vault:
        assert vault.settle() == "enrol was cut short: undid it"
    try_again(world)
    assert world.opening() == {OLD.name}


def test_no_authorisation_is_in_the_tpm_before_it_is_on_the_disk(
    world: World,
) -> None:
    steps = watched(world).steps
    changes = [
        number for number, step in enumerate(steps) if step == "HierarchyChangeAuth"
    ]
    for number, path in zip(changes, (OWNER_FILE, LOCKOUT_FILE), strict=True):
        assert steps[number - 2] == f"sync {path}"
        assert steps[number - 1] == "SetPrimaryPolicy", "a planted one goes first"
