# SPDX-License-Identifier: GPL-2.0-or-later
"""How often the machine was switched on since a boot was last confirmed.

The TPM counts it (TPM 2.0 Library part 1 section 36.6, TPMS_CLOCK_INFO). resetCount is
a power-on after TPM2_Shutdown(CLEAR) or none at all; restartCount, which starts at 0
with each of those, is one after TPM2_Shutdown(STATE), and each wake from suspend to
RAM. Whoever sends a Shutdown(STATE) before they leave has the next power-on counted
there instead, so both are kept, less the suspends that the kernel tells of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aemseal.flows.state import STATE_FILE, Attendance, VaultState
from aemseal.words.errors import AemsealError
from aemseal.world.host import Host

if TYPE_CHECKING:
    from aemseal.flows.vault import Vault
    from aemseal.world.tpm import Tpm

SUSPENDS = "/sys/power/suspend_stats/success"
"""Suspends of the running kernel (Linux Documentation/ABI/testing/sysfs-power)."""

_IF_NOT_YOU = "if it was not you, somebody was at it: look at what they could reach"


@dataclass(frozen=True, slots=True)
class SwitchedOn:
    """Switch-ons without a confirmed boot, this one left out, and since when.

    At least so many: a restart counted between two resets is forgotten. None at all
    (`is_other_tpm`) where the TPM counts less than before.
    """

    count: int
    since: str
    is_other_tpm: bool = False

    @property
    def sentence(self) -> str:
        """Say so to a person."""
        if self.is_other_tpm:
            return (
                f"the TPM has counted less than at {self.since}: it was cleared since, "
                "or it is another one"
            )
        times = "once" if self.count == 1 else f"{self.count} times"
        return (
            f"the machine was switched on {times} since {self.since} without a "
            f"confirmed boot: {_IF_NOT_YOU}"
        )


def counted_now(tpm: Tpm, host: Host) -> Attendance:
    """Ask the TPM what it has counted, and the kernel how often it was asleep."""
    resets, restarts = tpm.starts()
    return Attendance(resets, host.now(), max(0, restarts - _suspends(host)))


def _suspends(host: Host) -> int:
    """Return how often the running kernel was suspended; a kernel that is not tells 0.

    A suspend to idle leaves the TPM alone and is counted here all the same: then fewer
    restarts are told than there were.
    """
    try:
        return int(host.small_file(SUSPENDS) or b"0")
    except (AemsealError, ValueError):
        return 0


def switched_on(last: Attendance | None, now: Attendance) -> SwitchedOn | None:
    """Say what was counted since the last confirmed boot, beyond one switch-on.

    None where that was all, in the boot that was confirmed, or where none was yet.
    """
    if last is None:
        return None
    if now.resets < last.resets:
        return SwitchedOn(0, last.time, is_other_tpm=True)
    before = last.restarts if now.resets == last.resets else 0
    times = now.resets - last.resets + max(0, now.restarts - before)
    return SwitchedOn(times - 1, last.time) if times > 1 else None


def attend(
    vault: Vault, state: VaultState, host: Host
) -> tuple[VaultState, SwitchedOn | None]:
    """Keep what the TPM has counted up to a boot that is confirmed.

    The vault must be held. Returns the state as kept, and what was counted before.
    """
    now = counted_now(vault.tpm, host)
    missed = switched_on(state.attendance, now)
    state = replace(state, attendance=now)
    vault.files.write(STATE_FILE, state.to_bytes())
    return state, missed
