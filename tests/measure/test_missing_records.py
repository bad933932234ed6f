# SPDX-License-Identifier: GPL-2.0-or-later
"""A log without records that the TPM has: it is not said that nothing makes them."""

from __future__ import annotations

import pytest

from aemseal.measure.replay import verify
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import ReplayError, SelectionError
from aemseal.words.events import TXT_HASH_START, Event, EventLog

SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection(SHA256, (17, 19))
START = Digest(SHA256, b"H" * 32)
EVENTS = (Event(0, 17, TXT_HASH_START, {SHA256: START}, b""),)
LOG = EventLog("tcg-agile", (SHA256,), EVENTS)


def live(pcr19: Digest) -> PcrBank:
    zero = SHA256.zero()
    values = dict.fromkeys(range(24), zero)
    return PcrBank(SHA256, {**values, 17: zero.extended(START), 19: pcr19})


def test_the_log_is_at_fault_where_the_tpm_holds_more() -> None:
    with pytest.raises(ReplayError, match="PCR 19 in the event log") as caught:
        verify(LOG, live(START), SELECTION)
    assert "give the log of this very boot" in (caught.value.hint or "")


def test_the_selection_is_where_the_tpm_holds_nothing_either() -> None:
    with pytest.raises(SelectionError, match="nothing extends PCR 19 on this machine"):
        verify(LOG, live(SHA256.zero()), SELECTION)
