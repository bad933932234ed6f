# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot hook left behind it, and what of that is true after every run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hook_world import Machine

CAP = b"aemseal cap"
EXITS = {
    "unsealed": 0,
    "not-accepted": 10,
    "no-launch": 11,
    "no-tpm": 12,
    "tpm-changed": 13,
    "lockout": 14,
    "no-medium": 15,
    "stale": 16,
    "bad-medium": 17,
    "not-enrolled": 18,
    "cap-failed": 19,
    "no-luks": 20,
    "failed": 21,
    "wrong-pin": 22,
    "no-pin": 23,
    "two-disks": 24,
}
OLD_BOOT = "aemseal: This is the boot from before the update that you staged.\n"
PCRS_DIFFER = r"(PCR \d+ differs|PCR \d+(, PCR \d+)* and PCR \d+ differ)"


@dataclass(frozen=True)
class Outcome:
    """What the hook left: exit code, screen, and the record's lines by their key."""

    code: int
    stdout: bytes
    stderr: str
    record: dict[str, list[str]] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return self.record["outcome"][0] if self.record else ""


def assert_closed(outcome: Outcome) -> None:
    """Nothing but the secrets, or one fixed sentence; both where the PIN failed.

    Before the secrets there is a line where the record says: from before an update.
    """
    told = OLD_BOOT.encode() if "role" in outcome.record else b""
    assert outcome.stdout.startswith(told)
    assert outcome.stdout.count(OLD_BOOT.encode()) == ("role" in outcome.record)
    if outcome.code == 0:
        assert outcome.stderr == ""
        return
    end = "What it guards stays closed"
    if "secret" not in outcome.record:
        assert outcome.stdout == told
        end = "Do not type your disk passphrase"
    sentence = rf"aemseal: [A-Za-z ,:]+(: {PCRS_DIFFER})?\. {end}\.\n"
    assert re.fullmatch(sentence, outcome.stderr), outcome.stderr


def held(
    machine: Machine,
    outcome: Outcome,
    word: str,
    *,
    measured: bool = True,
    opened: Sequence[str] | None = None,
    before_update: bool = False,
) -> None:
    """Check what must be true after every run that ended with this outcome.

    PCR 13 is capped, nothing is left in the TPM, nor in /run but the record and an
    unsealed keyfile, the screen shows one fixed sentence or the secrets, and the record
    says the same as the exit code. `opened` are its `secret` lines: a lone text where
    the outcome is that it was unsealed. `before_update`: another boot is staged.
    """
    if opened is None:
        opened = ["text text"] if word == "unsealed" else []
    assert (outcome.code, outcome.word) == (EXITS[word], word), outcome
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=measured)
    assert machine.left_behind() == []
    kept = ["keyfile"] if any(each.endswith(" keyfile") for each in opened) else []
    assert sorted(each.name for each in machine.run.iterdir()) == [*kept, "record"]
    assert outcome.record["aemseal-record"] == ["3"]
    keys = ["aemseal-record", "bank", "pcrs", "pin", "luks", "cap", "outcome"]
    if not measured:
        keys.remove("luks")
    if opened or word in ("unsealed", "wrong-pin", "no-pin"):
        keys += ["count", "branch"]
    if before_update:
        keys.append("role")
        assert outcome.record["role"] == ["before-update"]
    if opened:
        keys.append("secret")
    assert list(outcome.record) == keys
    assert outcome.record["cap"] == [hashlib.new(machine.bank, CAP).hexdigest()]
    assert outcome.record.get("secret", []) == list(opened)
