# SPDX-License-Identifier: GPL-2.0-or-later
"""What opens, for whom: every secret of every medium, on every boot, PIN and all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from unsealer import RefusedError, Unsealer, connected, read_count
from vault_world import BOOTS, Boot, World

from aemseal.formats.slot import (
    VAULT_FILE,
    Acceptance,
    SealedSecret,
    VaultFile,
    acceptance_file,
)
from aemseal.words.errors import FormatError
from aemseal.world.config import Medium

Opened = frozenset[tuple[str, bytes]]
"""Which boots (by name) get which secrets (by value)."""

NOTHING: Opened = frozenset()


def opened(
    world: World,
    media: Iterable[Medium],
    pins: Iterable[bytes] = (),
    boots: Iterable[Boot] = BOOTS,
) -> dict[str, Opened]:
    """What the hook shows from each medium to somebody who knows the PINs."""
    known = tuple(pins)
    found: dict[str, set[tuple[str, bytes]]] = {each.label: set() for each in media}
    for boot in boots:
        world.launch(boot)
        for medium in media:
            shown = _shown(world, medium, known)
            found[medium.label] |= {(boot.name, value) for value in shown}
    return {label: frozenset(each) for label, each in found.items()}


def opened_by_anyone(
    world: World,
    pins: Iterable[bytes] = (),
    boots: Iterable[Boot] = BOOTS,
    sealed_to: Medium | None = None,
) -> Opened:
    """What any of the files that were ever seen gives to somebody with the PINs.

    Of one medium's sealed objects alone, where `sealed_to` names it.
    """
    vaults = [
        each
        for each in _parsed(world.ever_seen(VAULT_FILE), VaultFile.parse)
        if sealed_to is None or each.medium == sealed_to.label
    ]
    acceptances = list(_parsed(world.ever_seen("acceptance."), Acceptance.parse))
    known = tuple(pins)

    found: set[tuple[str, bytes]] = set()
    for boot in boots:
        world.launch(boot)
        tried = _worth_trying(boot, acceptances)
        values = _unsealed(world, vaults, tried, known)
        found |= {(boot.name, value) for value in values}
    return frozenset(found)


def _worth_trying(boot: Boot, acceptances: list[Acceptance]) -> list[Acceptance]:
    """Those that list the boot, and the newest: PolicyOR refuses the others at once."""
    newest = max((each.count for each in acceptances), default=0)
    return [
        each
        for each in acceptances
        if each.count == newest
        or boot.policy in {branch.policy for branch in each.branches}
    ]


def _shown(world: World, medium: Medium, pins: tuple[bytes, ...]) -> set[bytes]:
    try:
        vault = VaultFile.parse(world.file(VAULT_FILE, medium).read_bytes())
        with connected(world.chip.tcti) as esapi:
            count = read_count(esapi, vault.counter)
        path = world.file(acceptance_file(count), medium)
        acceptance = Acceptance.parse(path.read_bytes())
    except (FileNotFoundError, RefusedError):
        return set()
    return _unsealed(world, [vault], [acceptance], pins)


def _unsealed(
    world: World,
    vaults: Iterable[VaultFile],
    acceptances: list[Acceptance],
    pins: tuple[bytes, ...],
) -> set[bytes]:
    found: set[bytes] = set()
    with connected(world.chip.tcti) as esapi:
        for vault in vaults:
            for acceptance in acceptances:
                found |= set(_values(esapi, vault, acceptance, pins))
    return found


def _values(
    esapi: Any, vault: VaultFile, acceptance: Acceptance, pins: tuple[bytes, ...]
) -> Iterator[bytes]:
    for secret in vault.secrets:
        for pin in _tried(secret, pins):
            with Unsealer(
                esapi, vault, acceptance, name=secret.name, typed=pin
            ) as unsealer:
                try:
                    yield unsealer.secret()
                except RefusedError:
                    continue
                break


def _tried(secret: SealedSecret, pins: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return pins if secret.pin else (b"",)


def _parsed(versions: Iterable[bytes], parse: Callable[[bytes], Any]) -> Iterator[Any]:
    """Parse what can be parsed: a write that was cut short leaves the rest."""
    for each in versions:
        try:
            yield parse(each)
        except FormatError:
            continue
