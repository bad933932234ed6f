# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot hook said of this boot, and whether somebody went on against it.

Neither decides whether the boot is an accepted one: that is for the TPM's PCRs.
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.flows.evidence import read_hook_record
from aemseal.words.errors import AemsealError
from aemseal.world.host import Host

OVERRIDDEN = "/run/aemseal/overridden"
"""Left by boot-hooks/aemseal-boot where the words that start a refused boot were typed.
"""


@dataclass(frozen=True, slots=True)
class HookWord:
    """`outcome` is a word of docs/slot-format.md, None where no record tells one.

    `overridden`: the hook refused, and somebody typed the words to go on.
    """

    outcome: str | None
    overridden: bool


def hook_word(host: Host) -> HookWord:
    """Read both; what cannot be read, or is no record, tells nothing here."""
    outcome = None
    try:
        record = read_hook_record(host)
        outcome = None if record is None else record.outcome
    except AemsealError:
        pass
    return HookWord(outcome, was_overridden(host))


def was_overridden(host: Host) -> bool:
    """Whether the file is there; a recording made before there was one has none."""
    try:
        return host.small_file(OVERRIDDEN) is not None
    except AemsealError:
        return False
