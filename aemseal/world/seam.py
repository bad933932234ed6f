# SPDX-License-Identifier: GPL-2.0-or-later
"""The seam that every durable effect passes: a place where the power may fail.

The vault's promises are about cuts between two effects. Every TPM command and every
step of a file operation announces itself here, so that a test can stop the world
before or after any of them; in use the seam does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Seam:
    """Does nothing; a test's subclass raises, counts or records."""

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Surround one effect, named like "NV_Increment" or "rename /boot/x"."""
        _ = what
        yield
