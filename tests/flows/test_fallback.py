# SPDX-License-Identifier: GPL-2.0-or-later
"""Fallback boots: accepted beside the usual one, and gone with its launcher and Xen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fallback_boots import (
    NEW_BOTH,
    NEW_KERNEL,
    NEW_RESCUE,
    NEW_SPARE,
    NEW_XEN,
    NEWER_KERNEL,
    NEWEST,
    NEWEST_SPARE,
    OLD,
    OLD_SPARE,
    RESCUE,
    SPARE,
    TITLES,
    USUAL,
    confirmed,
    confirming,
    entry,
    entry_world,
    fallbacks_of,
    staging,
)
from moving import cancelling, do, names, state_of
from vault_world import World, called

from aemseal.flows.fallback import has_launch_of, is_named, titles_of
from aemseal.flows.moves import ACCEPTED, RETIRED, STAGED, Circumstances, standing
from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import VaultError

pytestmark = pytest.mark.tpm


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A machine that runs the old Xen and kernel, enrolled there."""
    with entry_world(tmp_path) as world:
        yield world


def opens(world: World, *boots: object) -> bool:
    """Whether these boots get the secret and no other, with any files at all."""
    wanted = called(*boots)  # type: ignore[arg-type] # entries are boots
    return world.opening() == world.opening_for_attacker() == wanted


# --- reseal ---


def test_all_are_staged_in_one_publish(world: World) -> None:
    before = state_of(world).count
    state = do(world, staging(OLD, NEW_XEN, NEW_SPARE, NEW_RESCUE))
    assert state.count == before + 1
    assert opens(world, OLD, NEW_XEN, NEW_SPARE, NEW_RESCUE)
    assert [boot.fallback for boot in state.staged] == [False, True, True]
    assert state.checked is not None
    assert state.checked.result == STAGED


def test_a_fallback_that_is_the_next_boot_costs_no_branch(world: World) -> None:
    state = do(world, staging(OLD, NEW_XEN, NEW_XEN.under(RESCUE)))
    assert [(boot.name, boot.fallback) for boot in state.staged] == [
        (NEW_XEN.name, False)
    ]
    assert opens(world, OLD, NEW_XEN)


def test_entries_that_boot_the_same_cost_one_branch(world: World) -> None:
    again = NEW_SPARE.under(RESCUE)
    state = do(world, staging(OLD, NEW_XEN, NEW_SPARE, again))
    assert len(state.staged) == 2


def test_the_boot_before_a_new_kernel_is_marked_and_costs_no_branch(
    world: World,
) -> None:
    state = do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE)))
    assert names(state) == called(OLD, NEW_KERNEL)
    assert fallbacks_of(state) == called(OLD)
    assert state.accepted[0].boot.title == RESCUE
    state = do(world, confirming(NEW_KERNEL))
    assert opens(world, OLD, NEW_KERNEL)
    assert standing(state, OLD.policy) == ACCEPTED


def test_where_the_next_boot_is_accepted_the_fallbacks_alone_are_staged(
    world: World,
) -> None:
    state = do(world, staging(OLD, OLD, OLD_SPARE))
    assert (names(state), fallbacks_of(state)) == (called(OLD, OLD_SPARE), set())
    assert state.checked is not None
    assert state.checked.result == ACCEPTED
    before = state_of(world)
    assert do(world, staging(OLD, OLD, OLD_SPARE)) == before, "nothing is left to do"


def test_a_mark_alone_is_written_down_without_a_publish(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    do(world, staging(OLD, NEW_KERNEL, OLD_SPARE))
    do(world, confirming(NEW_KERNEL))
    count = state_of(world).count
    # the entry boots the same as the usual one since
    state = do(world, staging(NEW_KERNEL, NEW_KERNEL, NEW_KERNEL.under(SPARE)))
    assert fallbacks_of(state) == set()
    assert state == state_of(world)
    assert state.count == count
    state = do(world, staging(NEW_KERNEL, NEW_KERNEL, OLD_SPARE))
    assert fallbacks_of(state) == called(OLD_SPARE)
    assert state.count == count


def test_an_accepted_fallback_that_becomes_the_usual_boot_is_none_any_more(
    world: World,
) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE)))
    state = do(world, staging(OLD, OLD, OLD.under(RESCUE)))
    assert fallbacks_of(state) == set()
    assert state.accepted[0].boot.title == USUAL


def test_one_asked_for_by_its_title_stays_a_fallback(world: World) -> None:
    state = do(world, staging(OLD, OLD_SPARE, OLD_SPARE, is_next=False))
    assert [boot.fallback for boot in state.staged] == [True]
    assert state.checked is None
    do(world, confirming(OLD))
    state = do(world, staging(OLD, OLD_SPARE, OLD_SPARE, is_next=False))
    assert fallbacks_of(state) == called(OLD_SPARE)


def test_more_boots_than_fit_are_refused_by_name(world: World) -> None:
    many = [entry(SPARE, "xen-5", f"kernel-{number}") for number in range(20, 28)]
    before = state_of(world)
    with pytest.raises(
        VaultError, match=r"^9 boots do not fit, 8 do: .*kernel-26"
    ) as e:
        do(world, staging(OLD, NEW_KERNEL, *many[:7]))
    assert e.value.hint is not None
    assert "fallback_entries" in e.value.hint
    assert state_of(world) == before
    assert len(names(do(world, staging(OLD, NEW_KERNEL, *many[:6])))) == 8


def test_new_only_keeps_what_the_fallback_entries_boot(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    state = do(world, staging(OLD, NEW_KERNEL, OLD_SPARE, new_only=True))
    assert opens(world, NEW_KERNEL, OLD_SPARE)
    assert standing(state, OLD.policy) == RETIRED


# --- confirm of the usual boot ---


def test_confirm_keeps_the_fallbacks_of_the_running_xen(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    do(world, staging(OLD, NEW_BOTH, NEW_SPARE, NEW_RESCUE))
    done = confirmed(world, NEW_BOTH)
    assert opens(world, NEW_BOTH, NEW_SPARE, NEW_RESCUE)
    assert set(done.retired) == called(OLD, OLD_SPARE)
    assert set(done.fallbacks) == fallbacks_of(done.state)
    assert fallbacks_of(done.state) == called(NEW_SPARE, NEW_RESCUE)
    assert done.state.staged == ()


def test_an_older_xen_goes_for_good_whatever_entry_boots_it(world: World) -> None:
    do(world, staging(OLD, NEW_XEN, OLD.under(RESCUE)))
    state = do(world, confirming(NEW_XEN))
    assert opens(world, NEW_XEN)
    assert standing(state, OLD.policy) == RETIRED
    with pytest.raises(VaultError, match="is retired"):
        do(world, staging(NEW_XEN, NEW_BOTH, OLD.under(RESCUE)))
    assert opens(world, NEW_XEN)


def test_an_older_tboot_goes_too(world: World) -> None:
    new_tboot = entry(USUAL, "xen-5", "kernel-2", mle="tboot-2")
    do(world, staging(OLD, new_tboot, OLD.under(RESCUE)))
    state = do(world, confirming(new_tboot))
    assert standing(state, OLD.policy) == RETIRED


def test_the_same_xen_with_another_command_line_is_the_same_xen(world: World) -> None:
    verbose = entry(RESCUE, "xen-5 loglvl=all", "kernel-1")
    do(world, staging(OLD, NEW_KERNEL, verbose))
    state = do(world, confirming(NEW_KERNEL))
    assert fallbacks_of(state) == {verbose.name}


def test_a_boot_without_a_launcher_on_record_is_no_fallback() -> None:
    nothing = replace(OLD.sealed, boot=replace(OLD.sealed.boot, measurements=()))
    assert not has_launch_of(nothing, (OLD.sealed,))
    assert has_launch_of(OLD_SPARE.sealed, (OLD.sealed,))


def test_one_that_is_configured_no_more_goes(world: World) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE), OLD_SPARE))
    state = do(world, confirming(NEW_KERNEL, frozenset({SPARE})))
    assert names(state) == called(NEW_KERNEL, OLD_SPARE)
    assert standing(state, OLD.policy) == RETIRED
    assert opens(world, NEW_KERNEL, OLD_SPARE)


def test_a_staged_one_that_is_configured_no_more_is_not_accepted(world: World) -> None:
    do(world, staging(OLD, NEW_XEN, NEW_SPARE))
    state = do(world, confirming(NEW_XEN, frozenset()))
    assert names(state) == called(NEW_XEN)
    assert opens(world, NEW_XEN)


def test_what_the_entry_booted_before_goes_with_the_next_boot(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    rebuilt = entry(SPARE, "xen-5", "kernel-0-rebuilt")
    do(world, staging(OLD, NEW_KERNEL, rebuilt))
    state = do(world, confirming(NEW_KERNEL))
    assert names(state) == {NEW_KERNEL.name, rebuilt.name}
    assert standing(state, OLD_SPARE.policy) == RETIRED


def test_and_with_a_confirm_of_the_usual_boot_that_is_accepted(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    rebuilt = entry(SPARE, "xen-5", "kernel-0-rebuilt")
    state = do(world, staging(OLD, OLD, rebuilt))
    assert fallbacks_of(state) == called(OLD_SPARE), "until then both are fallbacks"
    done = confirmed(world, OLD)
    assert (done.retired, done.fallbacks) == ((OLD_SPARE.name,), (rebuilt.name,))
    assert names(done.state) == {OLD.name, rebuilt.name}


def test_and_not_while_it_runs_itself(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    rebuilt = entry(SPARE, "xen-5", "kernel-0-rebuilt")
    do(world, staging(OLD_SPARE, OLD, rebuilt))
    done = confirmed(world, OLD_SPARE)
    assert done.retired == ()
    assert fallbacks_of(done.state) == {OLD_SPARE.name, rebuilt.name}
    do(world, staging(OLD_SPARE, NEW_KERNEL, rebuilt))
    state = do(world, confirming(NEW_KERNEL))
    assert names(state) == {NEW_KERNEL.name, rebuilt.name}


def test_an_accepted_boot_that_an_entry_boots_now_replaces_the_one_before(
    world: World,
) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    do(world, staging(OLD, NEW_KERNEL, OLD.under(SPARE)))
    state = do(world, confirming(NEW_KERNEL))
    assert names(state) == called(NEW_KERNEL, OLD)
    assert standing(state, OLD_SPARE.policy) == RETIRED


def test_fallbacks_staged_since_stay_staged(world: World) -> None:
    do(world, staging(OLD, NEW_BOTH, NEW_SPARE))
    do(world, staging(NEW_BOTH, NEWEST, NEWEST_SPARE))
    state = do(world, confirming(NEW_BOTH))
    assert {boot.name for boot in state.accepted} == called(NEW_BOTH)
    assert {boot.name for boot in state.staged} == called(NEWEST, NEWEST_SPARE)
    assert opens(world, NEW_BOTH, NEWEST, NEWEST_SPARE)
    state = do(world, confirming(NEWEST))
    assert names(state) == called(NEWEST, NEWEST_SPARE)


def test_fallbacks_staged_since_go_with_an_older_xen(world: World) -> None:
    do(world, staging(OLD, NEW_XEN))
    do(world, staging(NEW_XEN, NEWER_KERNEL, OLD_SPARE))
    state = do(world, confirming(NEW_XEN))
    assert names(state) == called(NEW_XEN)
    assert opens(world, NEW_XEN)


# --- a fallback runs ---


def test_an_accepted_fallback_retires_nothing(world: World) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE)))
    do(world, confirming(NEW_KERNEL))
    before = state_of(world)
    world.boot(OLD)
    done = confirmed(world, OLD)
    assert (done.accepted_as, done.retired) == (OLD.name, ())
    assert done.state == before == state_of(world)
    assert opens(world, OLD, NEW_KERNEL)


def test_nor_does_it_when_another_title_was_taken_out(world: World) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE), OLD_SPARE))
    do(world, confirming(NEW_KERNEL))
    state = do(world, confirming(OLD_SPARE, frozenset({SPARE})))
    assert opens(world, OLD, NEW_KERNEL, OLD_SPARE)
    state = do(world, confirming(NEW_KERNEL, frozenset({SPARE})))
    assert standing(state, OLD.policy) == RETIRED


def test_a_fallback_makes_every_move(world: World) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD.under(RESCUE)))
    do(world, confirming(NEW_KERNEL))
    do(world, staging(OLD, NEWER_KERNEL, OLD.under(RESCUE)))
    assert opens(world, OLD, NEW_KERNEL, NEWER_KERNEL)
    state = do(world, cancelling(OLD))
    assert fallbacks_of(state) == called(OLD)
    assert opens(world, OLD, NEW_KERNEL)


def test_a_staged_fallback_that_runs_first_leaves_the_usual_boot_staged(
    world: World,
) -> None:
    do(world, staging(OLD, NEW_XEN, NEW_SPARE))
    state = do(world, confirming(NEW_SPARE))
    assert standing(state, NEW_XEN.policy) == STAGED
    assert standing(state, OLD.policy) == RETIRED, "its Xen is older than this one"
    assert opens(world, NEW_SPARE, NEW_XEN)
    state = do(world, confirming(NEW_XEN))
    assert fallbacks_of(state) == called(NEW_SPARE)
    assert opens(world, NEW_SPARE, NEW_XEN)


def test_and_does_not_retire_the_usual_boot_of_its_own_xen(world: World) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD_SPARE))
    state = do(world, confirming(OLD_SPARE))
    assert standing(state, OLD.policy) == ACCEPTED
    assert opens(world, OLD, NEW_KERNEL, OLD_SPARE)
    state = do(world, confirming(NEW_KERNEL))
    assert standing(state, OLD.policy) == RETIRED
    assert opens(world, NEW_KERNEL, OLD_SPARE)


def test_and_retires_what_its_own_entry_booted_before(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    rebuilt = entry(SPARE, "xen-5", "kernel-0-rebuilt")
    do(world, staging(OLD, NEW_KERNEL, rebuilt))
    state = do(world, confirming(rebuilt))
    assert standing(state, OLD_SPARE.policy) == RETIRED
    assert standing(state, OLD.policy) == ACCEPTED


def test_a_staged_fallback_that_is_configured_no_more_is_a_boot_like_any(
    world: World,
) -> None:
    do(world, staging(OLD, NEW_KERNEL, OLD_SPARE))
    state = do(world, confirming(OLD_SPARE, frozenset()))
    assert {boot.name for boot in state.accepted} == called(OLD_SPARE)
    assert fallbacks_of(state) == set()
    assert standing(state, OLD.policy) == RETIRED
    assert standing(state, NEW_KERNEL.policy) == STAGED


# --- confirm of a boot that is accepted already ---


def test_staged_fallbacks_become_accepted_without_a_publish(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    before = state_of(world)
    done = confirmed(world, OLD)
    assert done.fallbacks == (OLD_SPARE.name,)
    assert fallbacks_of(done.state) == called(OLD_SPARE)
    assert (done.state.staged, done.state.count) == ((), before.count)
    assert done.state == state_of(world)
    assert not done.rotated
    assert opens(world, OLD, OLD_SPARE)


def test_but_not_those_of_an_update_that_did_not_run_yet(world: World) -> None:
    do(world, staging(OLD, NEW_XEN, NEW_SPARE))
    done = confirmed(world, OLD)
    assert {boot.name for boot in done.state.staged} == called(NEW_XEN, NEW_SPARE)


def test_a_title_taken_out_retires_its_boot_at_once(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    none = Circumstances(next_policy=OLD.policy)
    done = confirmed(world, OLD, none)
    assert done.retired == (OLD_SPARE.name,)
    assert opens(world, OLD)
    assert done.state.checked is not None
    assert done.state.checked.result == ACCEPTED


def test_a_title_taken_out_takes_its_staged_boot_back(world: World) -> None:
    do(world, staging(OLD, NEW_XEN, NEW_SPARE))
    done = confirmed(world, OLD, Circumstances())
    assert done.retired == ()
    assert opens(world, OLD, NEW_XEN)


# --- cancel ---


def test_cancel_keeps_the_accepted_fallbacks(world: World) -> None:
    do(world, staging(OLD, OLD, OLD_SPARE))
    do(world, confirming(OLD))
    do(world, staging(OLD, NEW_XEN, NEW_SPARE))
    state = do(world, cancelling(OLD))
    assert names(state) == called(OLD, OLD_SPARE)
    assert opens(world, OLD, OLD_SPARE)


# --- what an entry is called ---


def test_an_entry_is_named_by_title_path_or_id() -> None:
    menu = evaluate(
        b"submenu Advanced { menuentry 'Qubes, spare' --id spare-id { true; } }", None
    )
    assert titles_of(["spare-id"], menu) == {"spare-id", SPARE}
    for name in ("spare-id", SPARE, "Qubes, spare"):
        assert is_named(OLD_SPARE.sealed, titles_of([name], menu)), name
    assert not is_named(OLD_SPARE.sealed, titles_of(["Advanced"], menu))
    assert not is_named(OLD.sealed, TITLES)
