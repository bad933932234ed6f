# SPDX-License-Identifier: GPL-2.0-or-later
"""One-time codes from a shared seed and the time, and how a phone is given the seed.

RFC 4226 (HOTP) and RFC 6238 (TOTP) with what every authenticator app takes for
granted: HMAC-SHA-1, 6 digits, a step of 30 seconds from the epoch. The URI:
https://github.com/google/google-authenticator/wiki/Key-Uri-Format, which leaves these
three out where they are so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

SEED_SIZE = 20
"""Bytes, as many as SHA-1 gives (RFC 4226 section 4, R6: 160 bits recommended)."""

DIGITS = 6
STEP = 30
"""Seconds that a code stands (RFC 6238 section 4.1, X)."""

ISSUER = "aemseal"
ACCOUNT_LIMIT = 64
"""Characters of a host name in Linux (gethostname(2), HOST_NAME_MAX)."""

_GROUP = 4


def hotp(seed: bytes, counter: int, digits: int = DIGITS) -> str:
    """Return the code for a counter of 64 bits, with leading zeros (RFC 4226, 5.3)."""
    mac = hmac.new(seed, counter.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = mac[-1] & 0xF
    truncated = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{truncated % 10**digits:0{digits}}"


def step_of(time: float) -> int:
    """Return the number of the step that a time (seconds since 1970, UTC) is in."""
    return int(time // STEP)


def totp(seed: bytes, time: float, digits: int = DIGITS) -> str:
    """Return the code of that time (RFC 6238, 4.2)."""
    return hotp(seed, step_of(time), digits)


def steps_off(seed: bytes, code: str, time: float, reach: int) -> int | None:
    """Return how many steps from now the code is of, the nearest; None beyond reach.

    Positive where the clock that made it is ahead. `reach` bounds the work: it takes
    two codes for each step.
    """
    now = step_of(time)
    for distance in range(reach + 1):
        for off in dict.fromkeys((distance, -distance)):
            step = now + off
            if step >= 0 and hmac.compare_digest(hotp(seed, step), code):
                return off
    return None


def seed_text(seed: bytes) -> str:
    """Return the seed in base32 without padding (RFC 4648 section 6), in upper case."""
    return base64.b32encode(seed).decode("ascii").rstrip("=")


def in_groups(text: str) -> str:
    """Return a text in groups of four, as it is typed in by hand."""
    return " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def otpauth_uri(seed: bytes, account: str) -> str:
    """Return the URI that an authenticator app scans.

    `account` tells this machine from others: a name of at most 64 characters, of which
    what a URI does not carry as it is gets percent-encoded.
    """
    label = f"{quote(ISSUER, safe='')}:{quote(account[:ACCOUNT_LIMIT], safe='')}"
    return f"otpauth://totp/{label}?secret={seed_text(seed)}&issuer={ISSUER}"
