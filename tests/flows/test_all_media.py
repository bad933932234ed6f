# SPDX-License-Identifier: GPL-2.0-or-later
"""`confirm --all-media`: nothing is signed that a medium on its way would not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fallback_boots import OLD as OLD_ENTRY
from fallback_boots import OLD_SPARE, confirmed, confirming, entry_world, fallbacks_of
from fallback_boots import staging as staging_beside
from moving import do, names, staging, state_of
from vault_world import INTERNAL, NEW, OLD, STICK, World, called, enrolled

from aemseal.flows.moves import Circumstances
from aemseal.words.errors import VaultError
from aemseal.world.config import Medium

pytestmark = pytest.mark.tpm

ALL_MEDIA = Circumstances(all_media=True)
AWAY = "medium stick is not at hand"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled on two media."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        yield world


def take_away(world: World, medium: Medium = STICK) -> None:
    folder = world.file("", medium)
    folder.rename(folder.with_name("away"))


def put_back(world: World, medium: Medium = STICK) -> None:
    folder = world.file("", medium)
    folder.with_name("away").rename(folder)


def test_a_staged_boot_waits_for_a_medium_that_is_away(world: World) -> None:
    do(world, staging(OLD, NEW))
    before = state_of(world)
    take_away(world)
    with pytest.raises(VaultError, match=AWAY) as refused:
        confirmed(world, NEW, ALL_MEDIA)
    assert refused.value.hint == "mount it, then: aemseal confirm"
    assert state_of(world) == before
    put_back(world)
    for medium in (INTERNAL, STICK):
        assert world.opening(medium) == called(OLD, NEW)
    done = confirmed(world, NEW, ALL_MEDIA)
    assert (done.was_staged, done.state.stale) == (True, ())


def test_without_it_the_medium_is_stale(world: World) -> None:
    do(world, staging(OLD, NEW))
    take_away(world)
    assert confirmed(world, NEW, Circumstances()).state.stale == ("stick",)


def test_a_medium_that_is_stale_already_is_not_waited_for(world: World) -> None:
    take_away(world)
    do(world, staging(OLD, NEW))
    assert state_of(world).stale == ("stick",)
    done = confirmed(world, NEW, ALL_MEDIA)
    assert (done.was_staged, done.state.stale) == (True, ("stick",))


def test_an_accepted_boot_is_not_rotated_while_a_medium_is_away(world: World) -> None:
    before = state_of(world)
    take_away(world)
    done = confirmed(world, OLD, replace(ALL_MEDIA, rotate=True))
    assert (done.rotated, done.not_rotated) == (False, AWAY)
    assert done.state == before == state_of(world)
    put_back(world)
    assert confirmed(world, OLD, replace(ALL_MEDIA, rotate=True)).rotated


def test_where_nothing_is_to_be_signed_nothing_is_said(world: World) -> None:
    take_away(world)
    done = confirmed(world, OLD, ALL_MEDIA)
    assert (done.rotated, done.not_rotated) == (False, None)


def test_a_fallback_that_was_taken_out_stays_until_the_medium_is_there(
    tmp_path: Path,
) -> None:
    with entry_world(tmp_path) as world:
        do(world, staging_beside(OLD_ENTRY, OLD_ENTRY, OLD_SPARE))
        do(world, confirming(OLD_ENTRY))
        before = state_of(world)
        assert fallbacks_of(before) == called(OLD_SPARE)
        take_away(world, INTERNAL)
        done = confirmed(world, OLD_ENTRY, ALL_MEDIA)
        assert (done.rotated, done.retired, done.not_rotated) == (False, (), None)
        assert (state_of(world).count, names(done.state)) == (
            before.count,
            names(before),
        )
        put_back(world, INTERNAL)
        done = confirmed(world, OLD_ENTRY, ALL_MEDIA)
        assert done.retired == (OLD_SPARE.name,)
