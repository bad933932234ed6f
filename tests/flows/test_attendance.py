# SPDX-License-Identifier: GPL-2.0-or-later
"""Switch-ons between two confirmed boots, as a real TPM counts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moving import state_of
from tpm_sim import wire
from vault_world import OLD, World, enrolled

from aemseal.flows.attendance import (
    SUSPENDS,
    SwitchedOn,
    attend,
    counted_now,
    switched_on,
)
from aemseal.flows.state import Attendance
from aemseal.world.host import LiveHost

SINCE = "2026-01-02T03:04:05Z"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen, enrolled and confirmed there."""
    with enrolled(tmp_path) as world:
        attending(world)
        yield world


def attending(world: World, *, is_new: bool = False) -> SwitchedOn | None:
    """Confirm once more, as far as the count of switch-ons goes."""
    with world.vault() as vault:
        host = LiveHost(world.root)
        return attend(vault, vault.require(), host, is_new=is_new)[1]


def leave_as_if_asleep(world: World) -> None:
    """Send TPM2_Shutdown(STATE) and cut the power: what is counted next is hidden."""
    state = wire.shutdown()[:-2] + (1).to_bytes(2, "big")
    world.chip.send(state)
    world.chip.power_cut()


def suspended(world: World, times: int) -> None:
    """Have the kernel tell how often it was suspended in this boot."""
    path = world.root / SUSPENDS.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{times}\n")


@pytest.mark.tpm
class TestOnATpm:
    pytestmark = pytest.mark.tpm

    def test_the_usual_reboot_and_a_second_confirm_are_not_worth_a_word(
        self, world: World
    ) -> None:
        before = state_of(world).attendance
        assert attending(world) is None
        assert state_of(world).attendance is not None
        for _ in range(3):
            world.boot(OLD)
            assert attending(world) is None
        after = state_of(world).attendance
        assert before is not None
        assert after is not None
        assert after.resets == before.resets + 3

    def test_nothing_is_published_for_it(self, world: World) -> None:
        before = state_of(world)
        world.boot(OLD)
        attending(world)
        after = state_of(world)
        assert after == replace(before, attendance=after.attendance)

    @pytest.mark.parametrize("times", [1, 3])
    def test_switch_ons_without_a_confirmed_boot_are_counted_once(
        self, world: World, times: int
    ) -> None:
        for _ in range(times):
            world.power_cycle()
        world.boot(OLD)
        missed = attending(world)
        assert missed is not None
        assert missed.count == times
        assert attending(world) is None

    def test_a_switch_on_that_hides_behind_a_shutdown_for_sleep_is_counted(
        self, world: World
    ) -> None:
        """tpm2_shutdown sends STATE where it is not told otherwise."""
        world.power_cycle()
        leave_as_if_asleep(world)
        world.chip.power_on()
        world.launch(OLD)
        with world.vault() as vault:
            last = vault.require().attendance
            assert last is not None
            assert vault.tpm.reset_count() == last.resets + 1, "resetCount is deceived"
        missed = attending(world)
        assert missed is not None
        assert missed.count == 1

    def test_a_thief_who_hides_a_second_time_is_counted_again(
        self, world: World
    ) -> None:
        for _ in range(2):
            world.power_cycle()
            leave_as_if_asleep(world)
            world.chip.power_on()
            world.launch(OLD)
            missed = attending(world)
            assert missed is not None
            assert missed.count == 1

    def test_another_launcher_may_count_other_restarts(self, world: World) -> None:
        world.boot(OLD)
        world.launch(OLD)
        missed = attending(world, is_new=True)
        assert missed is not None
        world.boot(OLD)
        world.launch(OLD)
        assert attending(world) is None

    def test_a_battery_that_died_in_suspend_is_not_worth_a_word(
        self, world: World
    ) -> None:
        leave_as_if_asleep(world)
        world.chip.power_on()
        assert attending(world) is None

    def test_a_boot_that_was_suspended_is_held_against_resets_alone(
        self, world: World
    ) -> None:
        """Each wake is a restart, and tboot launches anew: these are not told apart."""
        world.boot(OLD)
        for _ in range(3):
            world.launch(OLD)
        suspended(world, 3)
        assert attending(world) is None
        suspended(world, 0)
        world.boot(OLD)
        assert attending(world) is None

    @pytest.mark.parametrize("told", [b"many\n", b"", b"x" * 70000])
    def test_a_kernel_that_does_not_tell_was_not_suspended(
        self, world: World, told: bytes
    ) -> None:
        suspended(world, 0)
        (world.root / SUSPENDS.lstrip("/")).write_bytes(told)
        with world.vault() as vault:
            assert counted_now(vault.tpm, LiveHost(world.root)).restarts == 1


def test_before_the_first_confirmed_boot_nothing_is_known() -> None:
    assert switched_on(None, Attendance(9, SINCE)) is None


def test_a_tpm_that_counts_less_than_before_is_another_one() -> None:
    found = switched_on(Attendance(9, SINCE), Attendance(2, "2026-02-02T00:00:00Z"))
    assert found == SwitchedOn(0, SINCE, is_other_tpm=True)
    assert "cleared since, or it is another one" in found.sentence


@pytest.mark.parametrize(("count", "words"), [(1, "on once since"), (3, "on 3 times")])
def test_a_person_is_told_how_often_and_since_when(count: int, words: str) -> None:
    told = SwitchedOn(count, SINCE).sentence
    assert words in told
    assert SINCE in told
    assert "if it was not you" in told
