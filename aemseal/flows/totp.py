# SPDX-License-Identifier: GPL-2.0-or-later
"""A TOTP seed that a phone is given, and the proof that it got it.

Nothing is sealed before a code of the phone's was typed that is right by this machine's
clock: a seed that the phone got wrong, or a clock that is off, would show itself on the
first boot, as a code that is not the one expected.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aemseal.flows.secret import TOTP, Secret
from aemseal.formats.totp import DIGITS, SEED_SIZE, STEP, steps_off
from aemseal.words.errors import AemsealError, EvidenceError
from aemseal.world.rooted import Rooted

TRIES = 3
WINDOW = 1
"""Steps that a code may be off, either way: RFC 6238 section 5.2 recommends one, for
the time it takes to type."""

DRIFT = 24 * 60 * 60 // STEP
"""Steps that are tried for a hint about the clocks: a day, for a machine whose clock
keeps another time zone. A code of no step has 1 in 170 to be called one of these."""

CLOCK_TOLERANCE = STEP
"""Seconds that the hardware clock may be off before it is told."""

HOST_NAME = "/etc/hostname"
HARDWARE_CLOCK = "/sys/class/rtc/rtc0/since_epoch"
"""Seconds since 1970 as if it kept UTC (Linux drivers/rtc/sysfs.c)."""

_SMALL = 4096


def new_seed() -> bytes:
    """Return a fresh seed from the operating system's random numbers."""
    return secrets.token_bytes(SEED_SIZE)


@dataclass
class CodeCheck:
    """Holds the codes that a person types against a seed; none counts twice."""

    seed: bytes = field(repr=False)
    _typed: set[str] = field(default_factory=set, repr=False)

    def complaint(self, typed: str, time: float) -> str | None:
        """Return what is wrong with a code that was typed now, None where it is right.

        `time` is the system clock's, in seconds since 1970. A right code is one of
        this step or of a neighbour, and was not typed before: one that was refused
        since a clock is off does not become right by waiting.
        """
        code = "".join(typed.split())
        if len(code) != DIGITS or not (code.isascii() and code.isdecimal()):
            return f"a code is {DIGITS} digits"
        if code in self._typed:
            return "that code was typed before: wait for the next one"
        self._typed.add(code)
        off = steps_off(self.seed, code, time, DRIFT)
        if off is None:
            return "that is no code of this seed: is it the entry added just now?"
        if abs(off) <= WINDOW:
            return None
        return (
            "your phone's clock and this machine's differ by about "
            f"{_duration(abs(off) * STEP)}, the phone's being "
            f"{'ahead' if off > 0 else 'behind'}: set the one that is wrong"
        )

    @property
    def secret(self) -> Secret:
        """The seed, as what is sealed."""
        return Secret(TOTP, TOTP, self.seed)


def _duration(seconds: int) -> str:
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} minute{'s' if minutes != 1 else ''}"
    return f"{round(minutes / 60)} hours"


def account_name(files: Rooted) -> str:
    """Return what a phone tells this machine's codes by: its host name."""
    try:
        data = files.read(HOST_NAME, _SMALL, EvidenceError) or b""
    except AemsealError:
        data = b""
    name = data.decode("utf-8", "replace").strip()
    return name if name and name.isprintable() else "machine"


def clock_caution(files: Rooted, time: float) -> str | None:
    """Return what is wrong with the hardware clock, by which a boot tells the time.

    `time` is the system clock's. None where nothing is, or it cannot be read.
    """
    try:
        data = files.read(HARDWARE_CLOCK, _SMALL, EvidenceError)
        off = None if data is None else int(data) - time
    except (AemsealError, ValueError):
        return None
    if off is None or abs(off) <= CLOCK_TOLERANCE:
        return None
    return (
        f"the hardware clock is about {_duration(round(abs(off)))} "
        f"{'ahead of' if off > 0 else 'behind'} the system's, and the code at boot is "
        "told by it: set it with hwclock --systohc --utc"
    )
