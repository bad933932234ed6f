# SPDX-License-Identifier: GPL-2.0-or-later
"""Drafts of LUKS headers, for the tests of what becomes of them."""

from __future__ import annotations

from luks_disks import PASSPHRASE, UUID, LuksDisk

from aemseal.world.luks_headers import HeaderChange, LuksHeaders

KEY = bytes(range(256))[::4] + b"\n"
"""A key with a NUL, a line end at its end, and whatever else is no text."""


def drafted(headers: LuksHeaders, key: bytes = KEY) -> HeaderChange:
    headers.begin(UUID)
    headers.add(UUID, key, PASSPHRASE)
    return headers.change(UUID)


def left(disk: LuksDisk) -> list[str]:
    """What lies in the state folder."""
    return sorted(each.name for each in (disk.root / "var/lib/aemseal").iterdir())
