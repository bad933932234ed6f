# SPDX-License-Identifier: GPL-2.0-or-later
"""`rotate`: every confirm signs anew, and a copy of a medium is dead after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fallback_boots import confirmed
from moving import cancelling, do, staging, state_of
from vault_world import INTERNAL, NEW, OLD, STICK, World, called, enrolled

from aemseal.flows.moves import Circumstances

pytestmark = pytest.mark.tpm

ROTATING = Circumstances(rotate=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled on two media."""
    with enrolled(tmp_path, (INTERNAL, STICK)) as world:
        yield world


def folder(world: World) -> Path:
    return world.file("", INTERNAL)


def test_a_copy_from_before_is_dead_and_the_live_medium_opens(
    world: World, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder(world), copy)
    before = state_of(world)
    assert world.opens(OLD)
    done = confirmed(world, OLD, ROTATING)
    assert (done.was_staged, done.rotated, done.not_rotated) == (False, True, None)
    assert done.state.count == before.count + 1
    assert done.state == state_of(world)
    for medium in (INTERNAL, STICK):
        assert world.opening(medium) == called(OLD)
    live = tmp_path / "live"
    folder(world).rename(live)
    shutil.copytree(copy, folder(world))
    assert world.opening() == set(), "the copy opens no more"
    shutil.rmtree(folder(world))
    live.rename(folder(world))
    assert world.opening() == called(OLD)


def test_without_it_nothing_is_counted(world: World) -> None:
    before = state_of(world)
    done = confirmed(world, OLD, Circumstances())
    assert (done.rotated, done.not_rotated) == (False, None)
    assert done.state == before


def test_a_staged_boot_is_signed_for_anew_in_any_case(world: World) -> None:
    do(world, staging(OLD, NEW))
    count = state_of(world).count
    done = confirmed(world, NEW, ROTATING)
    assert (done.rotated, done.state.count) == (True, count + 1)


def test_what_is_staged_stays_staged(world: World) -> None:
    do(world, staging(OLD, NEW))
    confirmed(world, OLD, ROTATING)
    assert world.opening() == world.opening_for_attacker() == called(OLD, NEW)
    do(world, cancelling(OLD))
    assert world.opening() == called(OLD)


def test_a_medium_that_is_away_is_stale_by_name(world: World, tmp_path: Path) -> None:
    away = tmp_path / "away"
    world.file("", STICK).rename(away)
    done = confirmed(world, OLD, ROTATING)
    assert (done.rotated, done.state.stale) == (True, ("stick",))
    away.rename(world.file("", STICK))
    assert world.opening(STICK) == set()
    assert world.opening(INTERNAL) == called(OLD)


def test_without_a_medium_nothing_is_rotated_and_that_is_said(
    world: World, tmp_path: Path
) -> None:
    for medium in (INTERNAL, STICK):
        world.file("", medium).rename(tmp_path / medium.label)
    before = state_of(world)
    done = confirmed(world, OLD, ROTATING)
    assert not done.rotated
    assert done.not_rotated == "no medium is at hand (internal, stick)"
    assert done.state == before == state_of(world)
    for medium in (INTERNAL, STICK):
        (tmp_path / medium.label).rename(world.file("", medium))
    assert world.opening() == called(OLD)
