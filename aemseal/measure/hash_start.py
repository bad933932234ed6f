# SPDX-License-Identifier: GPL-2.0-or-later
"""HASH_START (0x402), the one record of a launch that is not always what it says.

SINIT modules log either what was extended or the value of PCR 17 after it, and some
list it twice; see measure/quirks.py. The record's own data decides.
Source: opencit issue 63, tboot-devel 2022-01-31 (a ThinkPad T460p).
"""

from __future__ import annotations

from enum import Enum

from aemseal.words.digest import DYNAMIC_PCRS, HashAlgorithm
from aemseal.words.errors import BankError
from aemseal.words.events import TXT_HASH_START, Event

LAUNCH_PCR = 17
"""The PCR that every dynamic launch extends first."""


class Form(Enum):
    """What a HASH_START record's digest is (the data is H(ACM) || EDX)."""

    EXTENDED = "ext"
    """H(data), as for every other event: PCR 17 = H(0 || digest)."""

    VALUE = "set"
    """H(0 || H(data)): PCR 17 is the digest itself."""


def is_computable(algorithm: HashAlgorithm) -> bool:
    """Whether this Python can hash in that bank (SM3 is not everywhere)."""
    try:
        algorithm.new()
    except BankError:
        return False
    return True


def is_hash_start(event: Event) -> bool:
    """Whether a record is the launch's first, of the processor's own."""
    return event.untrusted_type == TXT_HASH_START and event.pcr == LAUNCH_PCR


def listed_twice(events: list[Event]) -> frozenset[int]:
    """Return the numbers of HASH_START records that repeat the one before them.

    A launch starts once, and a second start would reset PCR 17. Seen on the NUC5i5MYHE.
    """
    repeats = set()
    before: Event | None = None
    for event in events:
        if event.pcr not in DYNAMIC_PCRS:
            continue
        if before is not None and is_hash_start(event) and _repeats(event, before):
            repeats.add(event.number)
        before = event
    return frozenset(repeats)


def _repeats(event: Event, before: Event) -> bool:
    """Whether an event is the one before it again, in the banks that list it twice."""
    return (
        event.untrusted_type == before.untrusted_type
        and event.pcr == before.pcr
        and event.digests.items() <= before.digests.items()
        and event.untrusted_data == before.untrusted_data
    )


def forms_by_data(event: Event) -> dict[HashAlgorithm, Form]:
    """Return the form in each bank where the digest can be recomputed from the data."""
    forms = {}
    for algorithm, digest in event.digests.items():
        if not event.untrusted_data or not is_computable(algorithm):
            continue
        extended = algorithm.hash(event.untrusted_data)
        if digest == extended:
            forms[algorithm] = Form.EXTENDED
        elif digest == algorithm.zero().extended(extended):
            forms[algorithm] = Form.VALUE
    return forms
