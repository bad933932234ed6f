# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold of a machine on which a move was cut short or met an error."""

from __future__ import annotations

from campaign_cases import Case, make, state_of
from opened import NOTHING, Opened, opened, opened_by_anyone
from vault_world import BOOTS, World

from aemseal.flows.state import VaultState
from aemseal.words.errors import AemsealError

UNDONE, FINISHED, NOTHING_TO_DO = "undone", "finished", "nothing to settle"


def held(world: World, case: Case, where: str) -> str:
    """Hold a machine that was just booted to the vault's promises.

    Before settling, after it, and after the move was made (again). Returns what
    settling did; AssertionError, which says `where`, when a promise is broken.
    """
    world.look()
    where = f"{case.name}, {where}"
    found = opened(world, case.media, case.pins)
    for label, here in found.items():
        assert here in (case.before, case.after), f"{where}: {label}, unsettled"
    anyone = opened_by_anyone(world, case.pins)
    assert anyone <= case.before | case.after, f"{where}: by anyone, unsettled"
    side = None
    said = _settled(world)
    if case.is_journalled:
        side = _side(world, case, where, found, said)
    try:
        make(world, case.move)
    except AemsealError:
        assert side == case.after, f"{where}: the move cannot be made again"
    for label, here in opened(world, case.media, case.pins).items():
        assert here == case.after, f"{where}: {label}, then the move again"
    _require_lost(world, case, where)
    anyone = opened_by_anyone(world, case.pins)
    if case.is_journalled or case.before == case.after:
        assert anyone == case.after, f"{where}: by anyone, then the move again"
    return said


def _require_lost(world: World, case: Case, where: str) -> None:
    """A medium that is revoked opens nothing, whichever of its files come back."""
    if case.loses is not None:
        found = opened_by_anyone(world, case.pins, sealed_to=case.loses)
        assert found == NOTHING, f"{where}: {case.loses.label}, then the move again"


def _side(
    world: World, case: Case, where: str, found: dict[str, Opened], said: str
) -> Opened:
    """Every medium is of before, or every one of after, and so is the state."""
    was_begun = case.after in found.values()
    if said != NOTHING_TO_DO:
        found |= opened(world, case.media, case.pins)
    sides = set(found.values())
    assert len(sides) == 1, f"{where}: {said}, and the media differ"
    side = sides.pop()
    assert side in (case.before, case.after), f"{where}: {said}"
    if case.before != case.after and was_begun:
        assert side == case.after, f"{where}: settling took back what was in force"
    assert opened_by_anyone(world, case.pins) == side, f"{where}: by anyone, {said}"
    named = _named(state_of(world))
    assert named == {boot for boot, _ in side}, f"{where}: {said}: the state"
    return side


def _settled(world: World) -> str:
    with world.vault() as vault:
        said = vault.settle()
        assert vault.settle() is None
    if said is None:
        return NOTHING_TO_DO
    return UNDONE if said.endswith("undid it") else FINISHED


def _named(state: VaultState | None) -> set[str]:
    """The boots that the state calls accepted or staged, of those that are tried."""
    if state is None:
        return set()
    named = {boot.name for boot in (*state.accepted, *state.staged)}
    assert named <= {boot.name for boot in BOOTS}
    return named
