# SPDX-License-Identifier: GPL-2.0-or-later
"""New generations, for the tests that begin them, cut them short and attack them."""

from __future__ import annotations

from dataclasses import replace

from unsealer import NoAcceptanceError, RefusedError
from vault_world import BOOTS, INTERNAL, NEWER, STICK, Boot, World

from aemseal.flows.generation import Anew, begin_anew, retired_by
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Pin, Secret
from aemseal.flows.vault import Vault
from aemseal.world.config import Medium

CARRIED = tuple(replace(each, carried=True) for each in (INTERNAL, STICK))
"""Both media as what their owner takes along: no PIN has to be asked for."""

ANEW = b"a second text, which nobody saw before"


def to_seal(pin: Pin | None = None, text: bytes = ANEW) -> tuple[ToSeal, ...]:
    return (ToSeal(Secret("text", "text", text), pin),)


def recovered(
    vault: Vault,
    running: Boot = NEWER,
    media: tuple[Medium, ...] = CARRIED,
    foreign_owner: bytes | None = None,
) -> Anew:
    """Begin anew with the running boot alone, as `recover` does."""
    before = vault.require()
    state = replace(
        before,
        media=media,
        baseline=running.sealed.boot,
        accepted=(running.sealed,),
        staged=(),
        retired=retired_by(before, running.policy),
    )
    return begin_anew(
        vault, before, state, to_seal(), "recover", foreign_owner=foreign_owner
    )


def shown(world: World, medium: Medium = INTERNAL) -> dict[str, bytes]:
    """What each boot shows now from a medium; those that show nothing are left out."""
    found = {}
    for boot in BOOTS:
        world.launch(boot)
        try:
            found[boot.name] = world.unseal(medium)
        except (RefusedError, NoAcceptanceError, FileNotFoundError):
            continue
    return found
