# SPDX-License-Identifier: GPL-2.0-or-later
"""Replay: what a log's events make of each PCR, by bank."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from replayed_logs import (
    BANKS,
    DATA,
    SHA1,
    SHA256,
    SM3,
    START,
    event,
    fold,
    log_of,
    select,
    sha256,
    tboot_log,
)

from aemseal.measure.quirks import LISTED_TWICE, VALUE_LOGGED
from aemseal.measure.replay import (
    replay,
    verify,
)
from aemseal.words.digest import Digest, PcrBank
from aemseal.words.errors import BankError
from aemseal.words.events import Event


class TestReplay:
    def test_dynamic_pcrs_start_from_zeros(self) -> None:
        bank = replay(tboot_log()).banks[SHA256]
        assert bank.value(17).value == fold(*map(sha256, [DATA, b"policy", b"xen"]))
        assert bank.value(18).value == fold(*map(sha256, [b"key", b"policy"]))

    def test_only_extended_pcrs_are_in_the_result(self) -> None:
        assert list(replay(tboot_log()).banks[SHA256].values) == [17, 18]
        assert list(replay(tboot_log()).banks[SHA1].values) == [17, 18]

    def test_pcr_0_starts_from_the_startup_locality(self) -> None:
        log = dataclasses.replace(
            log_of(event(0, 0, 8, b"a"), event(0, 1, 8, b"a")), startup_locality=3
        )
        bank = replay(log).banks[SHA256]
        assert bank.value(0).value == fold(sha256(b"a"), start=bytes(31) + b"\3")
        assert bank.value(1).value == fold(sha256(b"a"))

    def test_a_bank_that_misses_events_names_them(self) -> None:
        assert replay(tboot_log()).missing == {
            SHA1: {17: (4, 6), 18: (5,)},
            SHA256: {17: (), 18: ()},
        }

    def test_a_bank_without_any_digest_of_a_pcr_still_lists_it(self) -> None:
        log = log_of(event(0, 17, START, DATA), event(0, 19, 0x501, banks=(SHA256,)))
        result = replay(log)
        assert result.banks[SHA1].value(19) == SHA1.zero()
        assert result.missing[SHA1][19] == (1,)

    def test_a_bank_that_this_python_cannot_compute_has_no_values(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = log_of(
            event(0, 17, START, DATA, banks=(SHA256, SM3)), banks=(SHA256, SM3)
        )
        assert list(replay(log).banks) == [SHA256, SM3]
        known = hashlib.new

        def without_sm3(name: str) -> hashlib._Hash:
            if name == "sm3":
                raise ValueError(name)
            return known(name)

        monkeypatch.setattr(hashlib, "new", without_sm3)
        assert list(replay(log).banks) == [SHA256]
        assert list(replay(log).missing) == [SHA256, SM3]
        live = PcrBank(SM3, {17: Digest(SM3, b"\1" * 32)})
        with pytest.raises(BankError, match="this Python cannot compute sm3_256"):
            verify(log, live, select("sm3_256:17"))


class TestHashStart:
    def test_a_digest_of_the_data_is_extended(self) -> None:
        result = replay(log_of(event(0, 17, START, DATA)))
        assert result.banks[SHA256].value(17).value == fold(sha256(DATA))
        assert result.quirks == ()

    def test_a_digest_that_is_the_value_is_not_extended(self) -> None:
        log = log_of(event(0, 17, START, DATA, form="set"), event(0, 17, 0x501, b"xen"))
        result = replay(log)
        assert result.banks[SHA256].value(17).value == fold(
            sha256(DATA), sha256(b"xen")
        )
        assert [each.name for each in result.quirks] == [VALUE_LOGGED]
        assert result.quirks[0].event == 0
        assert "sha1, sha256" in result.quirks[0].effect
        start, digests = result.extends[0]
        assert start is log.events[0]
        assert digests == {each: each.hash(DATA) for each in BANKS}

    def test_the_form_is_decided_bank_by_bank(self) -> None:
        one = event(0, 17, START, DATA, banks=(SHA1,), form="set")
        other = event(0, 17, START, DATA, banks=(SHA256,))
        both = Event(0, 17, START, {**one.digests, **other.digests}, DATA)
        result = replay(log_of(both))
        assert result.banks[SHA1].value(17) == one.digests[SHA1]
        assert result.banks[SHA256].value(17).value == fold(sha256(DATA))
        assert "(sha1)" in result.quirks[0].effect

    def test_a_bank_that_its_data_does_not_decide_follows_the_others(self) -> None:
        one = event(0, 17, START, DATA, banks=(SHA256,), form="set")
        other = event(0, 17, START, banks=(SHA1,), measured=b"unrelated")
        both = Event(0, 17, START, {**other.digests, **one.digests}, DATA)
        result = replay(log_of(both))
        assert result.banks[SHA1].value(17) == other.digests[SHA1]
        assert set(result.extends[0][1]) == {SHA256}

    def test_without_data_and_live_value_it_is_extended(self) -> None:
        bare = event(0, 17, START, measured=DATA, form="set")
        result = replay(log_of(bare))
        assert result.banks[SHA256].value(17) == SHA256.zero().extended(
            bare.digests[SHA256]
        )
        assert result.quirks == ()

    @pytest.mark.parametrize("data", [b"", b"data of another kind"])
    def test_without_such_data_the_live_pcr_decides(self, data: bytes) -> None:
        bare = event(0, 17, START, data, measured=DATA, form="set")
        log = log_of(bare, event(0, 17, 0x501, b"xen"))
        value = fold(sha256(DATA), sha256(b"xen"))
        live = PcrBank(SHA256, {17: Digest(SHA256, value)})
        result = replay(log, live)
        assert result.banks[SHA256].value(17).value == value
        assert result.banks[SHA1].value(17) == SHA1.zero().extended(
            SHA1.hash(DATA)
        ).extended(SHA1.hash(b"xen"))
        assert [each.name for each in result.quirks] == [VALUE_LOGGED]
        assert result.extends[0] == (bare, {})
        verified = verify(log, live, select("sha256:17"))
        assert verified.quirks == result.quirks

    def test_a_live_pcr_that_fits_neither_form_changes_nothing(self) -> None:
        log = log_of(event(0, 17, START, measured=DATA, form="set"))
        live = PcrBank(SHA256, {17: Digest(SHA256, b"\5" * 32)})
        assert replay(log, live) == replay(log)

    @pytest.mark.parametrize("form", ["ext", "set"])
    def test_one_that_is_listed_twice_counts_once(self, form: str) -> None:
        start = event(0, 17, START, DATA, form=form)
        mapping = event(0, 255, 0x401, b"\1\0\0\0")
        log = log_of(start, start, mapping, mapping, event(0, 17, 0x501, b"xen"))
        result = replay(log)
        assert result.banks[SHA256].value(17).value == fold(
            sha256(DATA), sha256(b"xen")
        )
        assert (1, LISTED_TWICE) in [(q.event, q.name) for q in result.quirks]
        assert [each.number for each, _ in result.extends] == [0, 4]

    def test_two_that_differ_are_both_replayed(self) -> None:
        log = log_of(event(0, 17, START, b"a"), event(0, 17, START, b"b"))
        result = replay(log)
        assert result.banks[SHA256].value(17).value == fold(sha256(b"a"), sha256(b"b"))
        assert result.quirks == ()

    def test_one_that_comes_again_after_other_events_is_replayed(self) -> None:
        start, other = event(0, 17, START, DATA), event(0, 18, 0x404, b"mle")
        pcr_1 = event(0, 1, 1, b"firmware")
        assert replay(log_of(start, other, start)).quirks == ()
        assert len(replay(log_of(start, pcr_1, start)).quirks) == 1

    def test_repeated_events_of_other_types_are_replayed(self) -> None:
        twice = event(0, 17, 0x40E, b"\0")
        assert replay(log_of(twice, twice)).banks[SHA256].value(17).value == fold(
            sha256(b"\0"), sha256(b"\0")
        )
