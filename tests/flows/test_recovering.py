# SPDX-License-Identifier: GPL-2.0-or-later
"""Recover: what is asked for, and what it says where it cannot go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vault_world import OLD, World, enrolled

from aemseal.flows.enrol_halfway import RebootFirstError
from aemseal.flows.recover import kinds_to_ask, recover
from aemseal.flows.state import KeptSecret, LuksSlot
from aemseal.words.errors import VaultError

pytestmark = pytest.mark.tpm

TEXT, TOTP = KeptSecret("text", "text"), KeptSecret("totp", "totp")
KEY = KeptSecret("keyfile", "keyfile", pin=True, disk=LuksSlot("uuid", 1))
LOST = replace(KEY, disk=None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with enrolled(tmp_path) as world:
        yield world


def kinds(world: World, *secrets: KeptSecret) -> tuple[str, ...]:
    with world.vault() as vault:
        return kinds_to_ask(replace(vault.require(), secrets=secrets))


def test_every_kind_that_is_sealed_is_asked_for_but_a_key_that_opens_no_disk(
    world: World,
) -> None:
    assert kinds(world, TEXT, TOTP, KEY) == ("text", "totp", "keyfile")
    assert kinds(world, TEXT, LOST) == ("text",)
    with pytest.raises(VaultError, match="opens no disk"):
        kinds(world, LOST)


def test_where_the_build_cannot_be_predicted_recover_comes_after_a_reboot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object) -> Any:
        raise RebootFirstError("nothing is sealed yet: PCR 18", "enrol again")

    monkeypatch.setattr("aemseal.flows.recover.first_boot", built)
    with world.vault() as vault:
        setting: Any = SimpleNamespace(vault=vault)
        with pytest.raises(RebootFirstError, match="nothing is sealed yet") as told:
            recover(setting, vault.require(), lambda _: built())
    assert (told.value.hint or "").startswith("reboot now, then again: aemseal recover")
    world.boot(OLD)
    assert world.opening() == {OLD.name}
