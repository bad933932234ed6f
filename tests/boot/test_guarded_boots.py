# SPDX-License-Identifier: GPL-2.0-or-later
"""Text, one-time code, and the disk's key behind a PIN: all that a person can meet."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest
from boot_secrets import PIN, GuardedWorld
from boot_world import PROMPT, SECRET, VERDICT
from scenes import BOOTED, enters_the_root, write_down
from tpm_sim.luks_root import rewrite_luks_root
from tpm_sim.qemu import Pc

from aemseal.flows.owner import LOCKOUT_FILE

pytestmark = pytest.mark.tpm

ASKS_PIN = "PIN of the aemseal vault:"
WRONG = "ford-at-dawn"
CODE = r"one-time code: (\d{6}) \((\d+) s left\)"
LOCKED = "The TPM is in lockout after wrong attempts."
STAYS_CLOSED = "What it guards stays closed."

LOOK_AROUND = f"""
b=/bin/busybox
echo INSIDE-BEGIN
cd /run/aemseal && for each in *; do echo "hook $each"; done
cd /run/cryptsetup-keys.d && for each in *.key; do
    [ ! -e $each ] || echo key $each
done
look() {{
    kind=$1; shift
    $b find /run -type f | while read -r each; do
        $b tr -c ' -~' '\\n' <$each | $b grep -qF "$@" && echo $kind $each
    done
}}
look unit -e 'Show the secret that proves'
look telling -e '{SECRET}' -e '{PIN}'
echo INSIDE-END
"""
"""What the entered root does: look through /run, and so through the journal, for what
the hook left there. The unit's name is there, so what is looked for can be found."""


def test_the_right_pin_shows_all_and_its_key_opens_the_disk(
    guarded: GuardedWorld,
) -> None:
    """Nobody asks for the passphrase; what was unsealed is nowhere in the system."""
    rewrite_luks_root(guarded.disk, guarded.cache, VERDICT, LOOK_AROUND)
    with guarded.pc() as pc:
        pc.wait_for(ASKS_PIN, BOOTED)
        assert SECRET not in pc.console
        pc.type(PIN)
        pc.wait_for(SECRET, 90)
        pc.wait_for("The disk key is ready.", 30)
        counts_down(pc, guarded)
        pc.type("")
        record = enters_the_root(pc, asked=False)
        write_down(pc, "guarded")
    assert "outcome unsealed\n" in record
    assert "secret keyfile keyfile\n" in record
    assert not re.search(PROMPT, pc.console)
    assert PIN not in pc.console
    found = left_inside(pc)
    assert set(found["hook"]) <= {"done", "record", "words"}
    assert any(each.startswith("/run/log/") for each in found["unit"])
    assert not found["key"]
    assert not found["telling"]


def test_who_types_no_pin_sees_what_has_none_and_types_the_passphrase(
    guarded: GuardedWorld,
) -> None:
    with guarded.pc() as pc:
        pc.wait_for(ASKS_PIN, BOOTED)
        pc.type("")
        pc.wait_for(SECRET, 90)
        counts_down(pc, guarded)
        pc.type("")
        record = enters_the_root(pc)
        write_down(pc, "no-pin")
    assert "outcome unsealed\n" in record
    assert "keyfile" not in record


def test_three_wrong_pins_leave_the_proof_and_take_the_key(
    guarded: GuardedWorld,
) -> None:
    with guarded.pc() as pc:
        pc.wait_for(ASKS_PIN, BOOTED)
        pc.type(WRONG)
        for _ in range(2):
            pc.wait_for(f"That PIN was wrong. {ASKS_PIN}", 60)
            pc.type(WRONG)
        record = is_proved_without_key(pc, guarded)
        write_down(pc, "wrong-pin")
    assert f"aemseal: The PIN was wrong three times. {STAYS_CLOSED}" in pc.console
    assert "outcome wrong-pin\n" in record


def test_in_lockout_not_even_the_right_pin_gets_the_key(guarded: GuardedWorld) -> None:
    lock_after(guarded, 3)
    assert guarded.boot_here(WRONG).code == 22
    with guarded.pc() as pc:
        pc.wait_for(ASKS_PIN, BOOTED)
        pc.type(PIN)
        record = is_proved_without_key(pc, guarded)
        write_down(pc, "lockout")
    assert f"aemseal: {LOCKED} {STAYS_CLOSED}" in pc.console
    assert "outcome lockout\n" in record


def is_proved_without_key(pc: Pc, guarded: GuardedWorld) -> str:
    """What has no PIN is shown; the passphrase opens the disk. Returns the record."""
    pc.wait_for(SECRET, 90)
    counts_down(pc, guarded)
    assert not re.search(PROMPT, pc.console)
    pc.type("")
    record = enters_the_root(pc)
    assert "The disk key is ready." not in pc.console
    return record


def counts_down(pc: Pc, guarded: GuardedWorld) -> None:
    """The phone's code stands there, with fewer and fewer seconds left."""
    found = re.fullmatch(CODE, pc.wait_for(CODE, 30))
    assert found is not None
    code, left = found.groups()
    assert code in guarded.codes(time.time())
    pc.wait_for("Compare it with your phone, then press Enter", 30)
    pc.wait_for(rf"one-time code: \d{{6}} \((?!{left} )\d+ s left\)", 30)


def lock_after(guarded: GuardedWorld, tries: int) -> None:
    """Have the TPM take that many wrong PINs, so that a lockout takes seconds here."""
    value = (guarded.root / LOCKOUT_FILE.lstrip("/")).read_bytes()
    guarded.pretend_boot()
    subprocess.run(
        [
            *("tpm2_dictionarylockout", "--setup-parameters", f"--max-tries={tries}"),
            *("--recovery-time=7200", "--lockout-recovery-time=86400"),
            f"--auth=hex:{value.hex()}",
        ],
        env={**os.environ, "TPM2TOOLS_TCTI": guarded.machine.tcti},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )


def left_inside(pc: Pc) -> dict[str, list[str]]:
    """What the entered root finds of the hook in /run, as its init prints it."""
    told = pc.console.split("INSIDE-BEGIN\n")[1].split("INSIDE-END")[0]
    found: dict[str, list[str]] = {"hook": [], "key": [], "unit": [], "telling": []}
    for line in told.splitlines():
        kind, name = line.split()
        found[kind].append(name)
    return found
