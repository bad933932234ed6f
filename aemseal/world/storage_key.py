# SPDX-License-Identifier: GPL-2.0-or-later
"""The pinned storage key as a value: apart, so that reading it needs no TPM library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StorageKey:
    """A key that enrol vouched for.

    Its persistent handle, its Name (34 bytes), and the handle as ESYS_TR_Serialize
    writes it, with the public area in it.
    """

    handle: int
    name: bytes
    serialized: bytes
