# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of enrolling read from the encrypted root."""

from __future__ import annotations

from vault_world import World


def file(world: World, path: str) -> bytes:
    return (world.root / path.lstrip("/")).read_bytes()
