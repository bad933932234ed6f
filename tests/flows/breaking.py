# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done to a healthy machine so that one check of doctor finds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attacker import COUNTER_LIKE_OURS, Attacker
from disk_layouts import BOOT, ROOT, qubes_laptop
from power_cuts import PowerCutError
from unsealer import connected
from vault_world import INTERNAL, NEW, OLD, World

from aemseal.flows.journal import JOURNAL_FILE
from aemseal.flows.moves import stage
from aemseal.flows.owner import (
    LOCKOUT_FILE,
    OWNER_FILE,
    REFUSED_FILE,
    refused_mark,
)
from aemseal.flows.secret import Pin
from aemseal.flows.state import (
    STATE_FILE,
    Attendance,
    KeptSecret,
    LuksSlot,
    VaultState,
)
from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.world.seam import Seam
from aemseal.world.tpm import NV_RANGE, Hierarchy
from aemseal.world.tpm_lockout import LockoutSettings, set_lockout

Break = Callable[[World], object]

PIN = Pin(b"heron-1998")
TOTP = KeptSecret("totp", "totp", pin=True)
KEYFILE = KeptSecret(
    "keyfile", "keyfile", True, LuksSlot("0f0e7a6c-0000-4000-8000-000000000001", 1)
)


def at(world: World, path: str) -> Path:
    return world.root / path.lstrip("/")


def write(world: World, path: str, content: bytes) -> None:
    at(world, path).parent.mkdir(parents=True, exist_ok=True)
    at(world, path).write_bytes(content)


def damage(path: str, content: bytes = b"damaged") -> Break:
    return lambda world: write(world, path, content)


def lose(path: str) -> Break:
    return lambda world: at(world, path).unlink()


def restate(**fields: object) -> Break:
    """Have the state say otherwise."""

    def change(world: World) -> None:
        state = VaultState.parse(at(world, STATE_FILE).read_bytes())
        changed = replace(state, **fields)  # type: ignore[arg-type] # by name
        write(world, STATE_FILE, changed.to_bytes())

    return change


def change_auth(hierarchy: Hierarchy, value: bytes, kept: str) -> Break:
    """Have another tool, which knows our value, set its own."""

    def change(world: World) -> None:
        old = at(world, kept).read_bytes()
        with world.vault() as vault, vault.tpm.session() as session:
            vault.tpm.set_auth(hierarchy, old)
            vault.tpm.change_auth(hierarchy, value, session)

    return change


def as_owner(do: Callable[[Attacker], object]) -> Break:
    """Do something to the TPM as its owner."""

    def change(world: World) -> None:
        with connected(world.chip.tcti) as esapi:
            do(Attacker(esapi, at(world, OWNER_FILE).read_bytes()))

    return change


def guard_otherwise(world: World) -> None:
    other = LockoutSettings(max_tries=5, recovery=10, lockout_recovery=10)
    with world.vault() as vault:
        set_lockout(vault.tpm, other, at(world, LOCKOUT_FILE).read_bytes())


def fill_our_range(attacker: Attacker) -> None:
    for handle in NV_RANGE[1:]:
        attacker.define(handle, COUNTER_LIKE_OURS)


def plant_a_storage_key(world: World) -> None:
    """Pin a key of the attacker's, as if it had been vouched for."""

    def plant(attacker: Attacker) -> None:
        attacker.clear_persistent(0x81000001)
        attacker.plant_key(0x81000001, OWN_TEMPLATE.public)

    as_owner(plant)(world)
    with world.vault() as vault:
        restate(storage=vault.storage._key(0x81000001))(world)


class CutBehindJournal(Seam):
    """Cuts the power when the journal of a move has just been written."""

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        yield
        if what == f"sync {JOURNAL_FILE}":
            raise PowerCutError(what)


def cut_a_stage_short(world: World) -> None:
    with world.vault(CutBehindJournal()) as vault:
        state = vault.require()
        with pytest.raises(PowerCutError):
            stage(vault, state, OLD.policy, NEW.sealed)


def switch_on_twice_more(world: World) -> None:
    for _ in range(2):
        world.power_cycle()
    world.boot(OLD)


def refuse_the_lockout_value(world: World) -> None:
    mark = refused_mark(at(world, LOCKOUT_FILE).read_bytes())
    write(world, REFUSED_FILE, mark)


def link_the_copy(world: World) -> None:
    at(world, COPY).unlink()
    at(world, COPY).symlink_to("/boot/aemseal/vault")


def own_the_state(world: World) -> None:
    os.chown(at(world, STATE_FILE), 1000, 1000)


def enable_aem(world: World) -> None:
    wants = "/etc/systemd/system/basic.target.wants/anti-evil-maid-seal.service"
    at(world, wants).parent.mkdir(parents=True)
    at(world, wants).symlink_to("/usr/lib/systemd/system/anti-evil-maid-seal.service")


def mask_aem(world: World) -> None:
    enable_aem(world)
    unit = at(world, "/etc/systemd/system/anti-evil-maid-seal.service")
    unit.symlink_to("../../../dev/null")
    at(world, "/dev/null").symlink_to("/dev/null")


def lose_the_medium(world: World) -> None:
    at(world, INTERNAL.path).rename(at(world, "/boot/away"))


def call_it_carried(world: World) -> None:
    restate(media=(replace(INTERNAL, carried=True),))(world)


def boot_from_the_built_in_disk(world: World) -> None:
    call_it_carried(world)
    qubes_laptop(world.root).mounts(ROOT, BOOT)


def boot_from_the_root(world: World) -> None:
    call_it_carried(world)
    qubes_laptop(world.root).mounts(ROOT)


def forget_the_pin(world: World) -> None:
    restate(secrets=(KeptSecret("text", "text"),))(world)


KEY = "/var/lib/aemseal/key-1.pem"
COPY = "/var/lib/aemseal/vault-internal"
PINNED = "/var/lib/aemseal/hook/srk.tr"
ACCEPTANCE = "/boot/aemseal/acceptance.1"
LATER = Attendance(1, "2999-01-01T00:00:00Z")
