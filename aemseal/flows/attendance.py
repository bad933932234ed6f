# SPDX-License-Identifier: GPL-2.0-or-later
"""How often the machine was switched on since a boot was last confirmed.

The TPM counts it (TPM 2.0 Library part 2, TPMS_CLOCK_INFO; part 1 section 36.6).
resetCount is a power-on after TPM2_Shutdown(CLEAR) or after none. restartCount starts
at 0 with each of those; it is a power-on after TPM2_Shutdown(STATE), a wake from
suspend to RAM, and a dynamic launch. Whoever sends a Shutdown(STATE) before they leave
has the next power-on counted there instead: so a boot that was never suspended is held
against the restarts of the confirmed ones before it, too.
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

    At least so many: restarts counted between two resets are forgotten. None at all
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
    """Ask the TPM what it has counted, and the kernel whether it was ever asleep."""
    resets, restarts = tpm.starts()
    return Attendance(resets, host.now(), None if _was_asleep(host) else restarts)


def _was_asleep(host: Host) -> bool:
    """Whether the running kernel was ever suspended; one that does not tell was not."""
    try:
        return int(host.small_file(SUSPENDS) or b"0") > 0
    except (AemsealError, ValueError):
        return False


def switched_on(last: Attendance | None, now: Attendance) -> SwitchedOn | None:
    """Say what was counted since the last confirmed boot, beyond one switch-on.

    None where that was all, in the boot that was confirmed, or where none was yet.
    """
    if last is None or now.resets == last.resets:
        return None
    if now.resets < last.resets:
        return SwitchedOn(0, last.time, is_other_tpm=True)
    times = now.resets - last.resets
    if now.restarts is not None and last.restarts is not None:
        times += max(0, now.restarts - last.restarts)
    return SwitchedOn(times - 1, last.time) if times > 1 else None


def attend(
    vault: Vault, state: VaultState, host: Host, *, is_new: bool = False
) -> tuple[VaultState, SwitchedOn | None]:
    """Keep what the TPM has counted up to a boot that is confirmed.

    `is_new` says that this one was not accepted before: another launcher may count
    other restarts. Else the fewest of any boot are kept. The vault must be held.
    Returns the state as kept, and what was counted before.
    """
    last, now = state.attendance, counted_now(vault.tpm, host)
    kept = now
    if last is not None and last.restarts is not None and not is_new:
        both = (last.restarts, now.restarts)
        kept = replace(now, restarts=min(each for each in both if each is not None))
    state = replace(state, attendance=kept)
    vault.files.write(STATE_FILE, state.to_bytes())
    return state, switched_on(last, now)
