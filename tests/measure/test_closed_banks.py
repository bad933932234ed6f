# SPDX-License-Identifier: GPL-2.0-or-later
"""Banks that a launcher cannot hash for: a constant is extended there, and no proof."""

from __future__ import annotations

import dataclasses

import pytest
from replayed_logs import (
    SHA1,
    SHA256,
    SHA384,
    event,
    live_of,
    log_of,
    select,
)
from tboot_boots import DA, a_boot
from tboot_boots import log_of as log_of_extends

from aemseal.measure.replay import replay, verify
from aemseal.measure.stack import identify
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import BankError
from aemseal.words.events import Event, EventLog

BANKS = (SHA256, SHA384)
CAP = 0x4FF
START = 0x402


def one(algorithm: HashAlgorithm) -> Digest:
    """SINIT's OneDigest."""
    return Digest(algorithm, b"\1" + bytes(algorithm.size - 1))


def a_cap(pcr: int, *banks: HashAlgorithm) -> Event:
    return Event(0, pcr, CAP, {bank: one(bank) for bank in banks})


def capped_log() -> EventLog:
    """A launch in sha256; PCR 17 and 18 of the sha384 bank are closed."""
    return log_of(
        event(0, 17, START, banks=(SHA256,)),
        a_cap(17, SHA384),
        a_cap(18, SHA384),
        event(0, 18, 0x410, b"key", banks=(SHA256,)),
        banks=BANKS,
    )


def test_a_capped_bank_is_refused_naming_the_event() -> None:
    log = capped_log()
    with pytest.raises(BankError) as caught:
        verify(log, live_of(log, SHA384), select("sha384:17,18"))
    assert caught.value.message.startswith("event 1 (CAP_VALUE) is a constant in the")
    assert "PCR 17" in caught.value.message
    assert caught.value.hint == "use sha256"


def test_the_cap_of_one_bank_leaves_the_others_whole() -> None:
    log = capped_log()
    assert replay(log).missing[SHA256] == {17: (), 18: ()}
    verified = verify(log, live_of(log), select("sha256:17,18"))
    assert verified.bank == replay(log).banks[SHA256]


def test_a_constant_under_any_other_type_closes_the_bank_too() -> None:
    """TrenchBoot's Xen hashes for sha1 and sha256, and logs the constant for others."""
    modules = Event(
        0, 17, 0x502, {SHA256: SHA256.hash(b"Xen"), SHA384: one(SHA384)}, b"Xen"
    )
    log = log_of(event(0, 17, START, banks=BANKS), modules, banks=BANKS)
    with pytest.raises(
        BankError, match=r"event 1 \(SLAUNCH\) is a constant in the sha"
    ):
        verify(log, live_of(log, SHA384), select("sha384:17"))
    verified = verify(log, live_of(log), select("sha256:17"))
    assert verified.bank == replay(log).banks[SHA256]


def test_an_event_that_only_calls_itself_a_cap_is_missing_where_it_was_not_made() -> (
    None
):
    forged = Event(0, 17, CAP, {SHA256: SHA256.hash(b"Xen")})
    log = log_of(event(0, 17, START, banks=BANKS), forged, banks=BANKS)
    with pytest.raises(BankError, match="did not extend the sha384 bank with event 1"):
        verify(log, live_of(log, SHA384), select("sha384:17"))


def test_with_every_bank_closed_there_is_none_to_use() -> None:
    log = log_of(event(0, 17, START, banks=(SHA1,)), a_cap(17, SHA1), banks=(SHA1,))
    with pytest.raises(BankError) as caught:
        verify(log, live_of(log, SHA1), select("sha1:17"))
    assert caught.value.hint == "no bank covers all of these PCRs"


def test_tboots_launch_is_read_past_the_cap_of_another_bank() -> None:
    log = log_of_extends(DA.extends(a_boot()))
    events = [*log.events[:4], a_cap(17, SHA384), *log.events[4:]]
    numbered = (dataclasses.replace(e, number=n) for n, e in enumerate(events))
    capped = EventLog(log.format, (*log.algorithms, SHA384), tuple(numbered))
    verified = verify(capped, live_of(capped), select("sha256:17,18"))
    plain = identify(verify(log, live_of(log), select("sha256:17,18")))
    read = [
        (each.pcr, each.digest, each.role) for each in identify(verified)[0].extends
    ]
    assert read == [(each.pcr, each.digest, each.role) for each in plain[0].extends]
