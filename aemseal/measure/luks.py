# SPDX-License-Identifier: GPL-2.0-or-later
"""PCR 13: the LUKS headers that the hook extended, and the cap after them.

Format of the record: docs/slot-format.md. PCR 13 starts at zeros at power-on.
"""

from __future__ import annotations

from collections.abc import Sequence

from aemseal.words.digest import Digest, HashAlgorithm, PcrBank
from aemseal.words.errors import ReplayError

LUKS_PCR = 13

LuksExtends = Sequence[tuple[str, Digest]]
"""The hook's extends in order: the device's UUID and the digest of its header."""


def luks_value(
    extends: LuksExtends, algorithm: HashAlgorithm, cap: Digest | None = None
) -> Digest:
    """Return PCR 13 after these extends, and after the cap if there is one."""
    value = algorithm.zero()
    for _, digest in extends:
        value = value.extended(digest)
    return value if cap is None else value.extended(cap)


def require_luks(extends: LuksExtends, live: PcrBank, cap: Digest | None) -> None:
    """Hold the hook's record against the live PCR 13.

    ReplayError when it does not give it: then the record is not of this boot, or
    something else extended PCR 13 too. BankError when the bank lacks PCR 13.
    """
    value = luks_value(extends, live.algorithm, cap)
    if value != live.value(LUKS_PCR):
        raise ReplayError(
            f"the hook's record does not give PCR {LUKS_PCR}: replayed {value}, in the "
            f"TPM {live.value(LUKS_PCR)}",
            "something besides the hook extended it, or the record is of another boot",
        )
