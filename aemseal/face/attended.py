# SPDX-License-Identifier: GPL-2.0-or-later
"""What confirm does besides: it keeps what the TPM counted, and has it count anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aemseal.face.render import resets_report
from aemseal.flows.attendance import attend
from aemseal.words.errors import TpmError

if TYPE_CHECKING:
    from aemseal.flows.state import VaultState
    from aemseal.flows.vault import Vault
    from aemseal.world.host import Host


@dataclass(frozen=True, slots=True)
class Attended:
    """What is to be added to confirm's JSON object, and to its lines."""

    report: dict[str, Any]
    lines: list[str]


def attended(vault: Vault, state: VaultState, host: Host, *, is_new: bool) -> Attended:
    """Attend to an accepted boot, which is confirmed by now: no failure takes it back.

    A PIN's failed tries are forgotten, and how often the machine was switched on is
    written down. `is_new` says that this boot was not accepted before.
    """
    from aemseal.flows.tries import Forgotten, forget_tries  # loads the TPM's library

    _, missed = attend(vault, state, host, is_new=is_new)
    try:
        tries = forget_tries(vault)
    except TpmError as error:
        tries = Forgotten(None, error.message)
    lines = [] if missed is None else [f"warning: {missed.sentence}"]
    if tries.counted:
        lines.append(
            "failed PIN tries, or power cuts after a right PIN, that the TPM had "
            f"counted since the last time: {tries.counted}"
        )
    if tries.trouble is not None:
        lines.append(f"they are counted still: {tries.trouble}")
    report = {
        "resets": resets_report(missed),
        "tries_counted": tries.counted,
        "tries_trouble": tries.trouble,
    }
    return Attended(report, lines)
