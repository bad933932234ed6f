# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that the attacks of the vault's design are made on, each on a real TPM.

The victim was enrolled on the old Xen, updated, and has confirmed the new one: the new
Xen is accepted, the old one retired. Every file that ever lay on a medium was copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacker import Attacker
from unsealer import RefusedError, Unsealer, connected
from vault_world import INTERNAL, NEW, OLD, STICK, World

from aemseal.flows.moves import confirm, stage
from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile, acceptance_file
from aemseal.world.tpm import NV_RANGE

COUNTER = NV_RANGE.start

RC_BRANCH = 0x1C4
"""TPM_RC_VALUE for parameter 1: PolicyOR with a digest that is none of its list."""

RC_APPROVED = 0x1C4
"""The same of PolicyAuthorize: the session's policy is not the approved one."""

RC_COUNT = 0x126
"""TPM_RC_POLICY: PolicyNV does not hold."""

RC_SIGNATURE = 0x2DB
RC_POLICY_FAIL = 0x99D
RC_AUTH_UNAVAILABLE = 0x12F
RC_AUTH_TYPE = 0x124
"""A policy is asked for: adminWithPolicy, and the DUP role always."""

RC_INTEGRITY = 0x1DF


@contextmanager
def victim(folder: Path) -> Iterator[World]:
    """The victim's machine, as the attacker finds it."""
    with World(folder) as world:
        world.boot(OLD)
        world.enrol(OLD, media=(INTERNAL, STICK))
        with world.vault() as vault:
            stage(vault, vault.require(), OLD.policy, NEW.sealed)
        world.boot(NEW)
        with world.vault() as vault:
            confirm(vault, vault.require(), NEW.sealed)
        yield world


@contextmanager
def attacking(world: World) -> Iterator[Attacker]:
    with connected(world.chip.tcti) as esapi:
        yield Attacker(esapi)


def code_of(attempt: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(RefusedError) as refused:
        attempt(*arguments)
    return refused.value.code


def in_force(world: World, medium: Any = INTERNAL) -> tuple[VaultFile, Acceptance]:
    """Read the vault and the newest acceptance of a medium."""
    vault = VaultFile.parse(world.file(VAULT_FILE, medium).read_bytes())
    newest = max(
        int(each.name.rpartition(".")[2])
        for each in world.file("", medium).glob("acceptance.*")
    )
    path = world.file(acceptance_file(newest), medium)
    return vault, Acceptance.parse(path.read_bytes())


@contextmanager
def unsealing(world: World, medium: Any = INTERNAL, **other: Any) -> Iterator[Unsealer]:
    """The hook's way, step by step, with the files in force or with `other` ones."""
    vault, acceptance = in_force(world, medium)
    with (
        connected(world.chip.tcti) as esapi,
        Unsealer(
            esapi, other.get("vault", vault), other.get("acceptance", acceptance)
        ) as unsealer,
    ):
        yield unsealer


def kept(world: World, count: int, medium: Any = INTERNAL) -> Acceptance:
    """An acceptance of earlier, from the attacker's copies."""
    path = f"{medium.path}/{acceptance_file(count)}"
    (data,) = world.seen[path]
    return Acceptance.parse(data)


def stopped_at_the_branches(world: World, **other: Any) -> None:
    """Whatever the PCRs are, they are none of the accepted ones."""
    with unsealing(world, **other) as hook:
        session = hook.session()
        hook.policy_pcr(session)
        assert code_of(hook.policy_or, session) == RC_BRANCH
        assert code_of(hook.take, hook.load(), session) == RC_POLICY_FAIL
