# SPDX-License-Identifier: GPL-2.0-or-later
"""What confirm and status say of what the TPM has counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attacker import AEM_SRK_PUBLIC, Attacker
from contract import check
from laptop import Laptop, MakeLaptop
from unsealer import connected

from aemseal.flows.owner import LOCKOUT_FILE, OWNER_FILE
from aemseal.flows.state import STATE_FILE, KeptSecret, VaultState

pytestmark = pytest.mark.tpm


@pytest.fixture
def laptop(own: MakeLaptop) -> Laptop:
    """A laptop that runs an accepted boot; its text is said to have a PIN."""
    made = own()
    state = VaultState.parse(made.path(STATE_FILE).read_bytes())
    guarded = replace(state, secrets=(KeptSecret("text", "text", pin=True),))
    made.write(STATE_FILE, guarded.to_bytes())
    return made


def guess(laptop: Laptop, times: int) -> None:
    """Guess at a key of another tool: what the TPM counts, it counts for all."""
    owner = laptop.path(OWNER_FILE).read_bytes()
    with connected(laptop.machine.tcti) as esapi:
        key = Attacker(esapi, owner).primary(AEM_SRK_PUBLIC, b"right")
        esapi.tr_set_auth(esys_handle=key, auth_value=b"wrong")
        for _ in range(times):
            with pytest.raises(Exception, match="tpm:"):
                esapi.create(parent_handle=key, in_sensitive=None, in_public="ecc")
        esapi.flush_context(flush_handle=key)


def test_tries_are_told_loud_when_few_are_left_and_forgotten_by_confirm(
    laptop: Laptop,
) -> None:
    guess(laptop, 2)
    quiet = laptop.aemseal("status")
    assert "PIN tries: 2 of 32 counted as failed\n" in quiet.out
    assert "warning:" not in quiet.out
    guess(laptop, 24)
    loud = laptop.aemseal("status")
    assert loud.code == 0
    assert "warning:   6 of 32 tries are left" in loud.out
    report = laptop.aemseal("status", "--json").report
    check(report, "status")
    assert report["tries"] == {"counted": 26, "left": 6, "most": 32}
    assert len(report["warnings"]) == 1
    confirmed = laptop.aemseal("confirm")
    assert "counted since the last time: 26\n" in confirmed.out
    assert "PIN tries: 0 of 32" in laptop.aemseal("status").out


def test_tries_that_cannot_be_forgotten_are_told_why(laptop: Laptop) -> None:
    guess(laptop, 1)
    laptop.path(LOCKOUT_FILE).unlink()
    told = laptop.aemseal("confirm", "--json")
    assert told.code == 0
    check(told.report, "confirm")
    assert told.report["tries_counted"] == 1
    assert "lockout.auth is missing" in told.report["tries_trouble"]
    assert "they are counted still: " in laptop.aemseal("confirm").out


def test_a_secret_without_a_pin_has_no_tries_to_lose(own: MakeLaptop) -> None:
    laptop = own()
    guess(laptop, 30)
    report = laptop.aemseal("status", "--json").report
    assert report["tries"] is None
    assert report["warnings"] == []


def test_switch_ons_without_a_confirmed_boot_are_told_until_one_is(
    laptop: Laptop,
) -> None:
    laptop.aemseal("confirm")
    for _ in range(3):
        laptop.reboot()
    told = "the machine was switched on 2 times since "
    assert f"warning:   {told}" in laptop.aemseal("status").out
    report = laptop.aemseal("status", "--json").report
    check(report, "status")
    assert report["resets"]["count"] == 2
    confirmed = laptop.aemseal("confirm", "--json").report
    check(confirmed, "confirm")
    assert confirmed["resets"] == report["resets"]
    assert laptop.aemseal("confirm", "--json").report["resets"] is None
    assert "warning" not in laptop.aemseal("status").out
