# SPDX-License-Identifier: GPL-2.0-or-later
"""Replay, verification against live PCRs, and the JSON object of a log."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.log_report import log_report
from aemseal.measure.replay import (
    QUIRK_LISTED_TWICE,
    QUIRK_VALUE_LOGGED,
    VerifiedLog,
    replay,
    verify,
)
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import (
    BankError,
    EvidenceError,
    ReplayError,
    SelectionError,
    UnmeasuredError,
)
from aemseal.words.events import Event, EventLog

SHA1, SHA256, SHA384 = HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA384
SM3 = HashAlgorithm.SM3_256
BANKS = (SHA1, SHA256)
DATA = b"acm and edx"
START = 0x402


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def fold(*digests: bytes, start: bytes = bytes(32)) -> bytes:
    """PCR arithmetic of the tests' own, in the sha256 bank."""
    for digest in digests:
        start = sha256(start + digest)
    return start


def event(
    number: int,
    pcr: int,
    kind: int,
    data: bytes = b"",
    *,
    banks: tuple[HashAlgorithm, ...] = BANKS,
    form: str = "ext",
    measured: bytes | None = None,
) -> Event:
    """An event whose digests are H(measured), or H(0 || H(measured)) for "set"."""
    digests = {}
    for algorithm in banks:
        digest = algorithm.hash(data if measured is None else measured)
        value = algorithm.zero().extended(digest)
        digests[algorithm] = value if form == "set" else digest
    return Event(number, pcr, kind, digests, data)


def log_of(*events: Event, banks: tuple[HashAlgorithm, ...] = BANKS) -> EventLog:
    numbered = (dataclasses.replace(e, number=n) for n, e in enumerate(events))
    return EventLog("tcg-agile", banks, tuple(numbered))


def live_of(
    log: EventLog, algorithm: HashAlgorithm = SHA256, **changed: bytes
) -> PcrBank:
    """A TPM after the launch that wrote this log, but for the PCRs `changed`."""
    values = dict(PcrBank.at_startup(algorithm).after_dynamic_launch().values)
    values |= replay(log).banks[algorithm].values
    values |= {int(k[3:]): Digest(algorithm, v) for k, v in changed.items()}
    return PcrBank(algorithm, values)


def select(text: str) -> PcrSelection:
    return PcrSelection.parse(text)


def tboot_log() -> EventLog:
    """SINIT in both banks, tboot (from event 4 on) in sha256 alone, PCR 19 unused."""
    return log_of(
        event(0, 0, 3, b"spec id", banks=(SHA1,)),
        event(0, 17, START, DATA),
        event(0, 255, 0x401, b"\1\0\0\0"),
        event(0, 18, 0x410, b"key"),
        event(0, 17, 0x501, b"policy", banks=(SHA256,)),
        event(0, 18, 0x501, b"policy", banks=(SHA256,)),
        event(0, 17, 0x501, b"xen", banks=(SHA256,)),
    )


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
        assert [each.name for each in result.quirks] == [QUIRK_VALUE_LOGGED]
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
        assert [each.name for each in result.quirks] == [QUIRK_VALUE_LOGGED]
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
        assert (1, QUIRK_LISTED_TWICE) in [(q.event, q.name) for q in result.quirks]
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


class TestVerify:
    def test_a_log_that_gives_the_live_pcrs_is_verified(self) -> None:
        log = tboot_log()
        verified = verify(log, live_of(log), select("sha256:13,17,18"))
        assert verified.log is log
        assert verified.algorithm is SHA256
        assert verified.bank == replay(log).banks[SHA256]
        assert [each.number for each in verified.events_of(17)] == [1, 4, 6]
        assert [each.number for each in verified.events_of(18)] == [3, 5]
        assert verified.events_of(19) == ()
        assert [each.number for each, _ in verified.extends] == [1, 3, 4, 5, 6]

    def test_extends_hold_every_bank_of_the_log(self) -> None:
        log = tboot_log()
        extends = verify(log, live_of(log), select("sha256:17")).extends
        assert extends[0] == (log.events[1], {b: b.hash(DATA) for b in BANKS})
        assert set(extends[-1][1]) == {SHA256}

    def test_firmware_pcrs_in_the_same_log_are_not_vouched_for(self) -> None:
        log = log_of(event(0, 1, 1, b"firmware"), event(0, 17, START, DATA))
        verified = verify(log, live_of(log), select("sha256:1,17"))
        assert list(verified.bank.values) == [17]
        assert verified.events_of(1) == ()

    def test_a_pcr_that_is_not_selected_and_differs_is_left_out(self) -> None:
        log = tboot_log()
        live = live_of(log, pcr18=b"\7" * 32)
        verified = verify(log, live, select("sha256:17"))
        assert list(verified.bank.values) == [17]
        assert {each.pcr for each, _ in verified.extends} == {17}

    def test_a_pcr_that_is_not_selected_and_not_covered_is_left_out(self) -> None:
        log = log_of(
            event(0, 17, START, DATA),
            event(0, 18, 0x410, b"key"),
            event(0, 18, 0x501, b"policy", banks=(SHA256,)),
        )
        verified = verify(log, live_of(log, SHA1), select("sha1:17"))
        assert list(verified.bank.values) == [17]

    def test_it_cannot_be_made_by_hand(self) -> None:
        log = tboot_log()
        verified = verify(log, live_of(log), select("sha256:17"))
        with pytest.raises(TypeError, match=r"verify\(\) alone"):
            VerifiedLog(log, verified.bank, verified.extends, (), object())
        with pytest.raises(ValueError, match="proof"):
            # The type checker refuses it too: that is the point.
            dataclasses.replace(verified, log=log_of())  # type: ignore[call-arg]

    @pytest.mark.parametrize("fill", ["ff", "00"])
    def test_a_blank_pcr_17_comes_before_everything_else(self, fill: str) -> None:
        live = PcrBank(SHA384, {17: Digest(SHA384, bytes.fromhex(fill) * 48)})
        with pytest.raises(
            UnmeasuredError, match=f"PCR 17 is all {fill} in the sha384"
        ):
            verify(tboot_log(), live, select("sha384:17,19"))

    def test_a_bank_without_pcr_17_is_refused(self) -> None:
        with pytest.raises(BankError, match="PCR 17 has no value in the sha256 bank"):
            verify(tboot_log(), PcrBank(SHA256, {}), select("sha256:17"))

    def test_a_bank_that_the_log_lacks_is_refused(self) -> None:
        live = PcrBank(SHA384, {17: Digest(SHA384, b"\1" * 48)})
        with pytest.raises(BankError, match="has no sha384 bank") as info:
            verify(tboot_log(), live, select("sha384:17"))
        assert info.value.hint == "its banks are: sha1, sha256"
        nothing = log_of(banks=())
        with pytest.raises(BankError, match="has no sha384 bank") as info:
            verify(nothing, live, select("sha384:17"))
        assert info.value.hint == "its banks are: none that is known"

    def test_a_bank_that_tboot_did_not_extend_is_refused_by_name(self) -> None:
        log = tboot_log()
        with pytest.raises(BankError) as info:
            verify(log, live_of(log, SHA1), select("sha1:13,17,18"))
        assert info.value.message.startswith(
            "tboot did not extend the sha1 bank with event 4 (TBOOT)"
        )
        assert info.value.hint == "use sha256"
        with pytest.raises(BankError, match=r"with event 5 \(TBOOT\): PCR 18"):
            verify(log, live_of(log, SHA1), select("sha1:18"))

    def test_another_gap_is_the_launchs_and_may_have_no_way_out(self) -> None:
        log = log_of(
            event(0, 17, START, DATA, banks=(SHA256,)),
            event(0, 17, 0x404, b"mle", banks=(SHA1,)),
        )
        with pytest.raises(BankError) as info:
            verify(log, live_of(log), select("sha256:17"))
        assert info.value.message.startswith(
            "the launch did not extend the sha256 bank with event 1 (MLE_HASH)"
        )
        assert info.value.hint == "no bank covers all of these PCRs"

    def test_a_selected_pcr_that_nothing_extends_is_refused(self) -> None:
        log = tboot_log()
        with pytest.raises(SelectionError) as info:
            verify(log, live_of(log), select("sha256:13,17,18,19"))
        assert info.value.message == "nothing extends PCR 19 on this machine"

    def test_a_selection_without_any_launch_pcr_verifies_nothing(self) -> None:
        log = tboot_log()
        with pytest.raises(SelectionError, match="no PCR of the dynamic launch"):
            verify(log, live_of(log), select("sha256:13"))

    def test_the_first_pcr_that_differs_is_named_with_both_values(self) -> None:
        log = tboot_log()
        live = live_of(log, pcr18=b"\7" * 32)
        replayed = replay(log).banks[SHA256].value(18)
        with pytest.raises(ReplayError) as info:
            verify(log, live, select("sha256:13,17,18"))
        assert "PCR 18" in info.value.message
        assert str(replayed) in info.value.message
        assert "sha256:" + "07" * 32 in info.value.message
        with pytest.raises(ReplayError, match="PCR 17"):
            verify(log, live_of(log, pcr17=b"\7" * 32), select("sha256:17,18"))

    def test_live_pcrs_of_another_bank_are_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="live PCRs of sha1"):
            verify(tboot_log(), live_of(tboot_log(), SHA1), select("sha256:17"))


class TestReport:
    def test_it_is_the_contract_of_the_command_line(self) -> None:
        log = log_of(
            event(0, 17, START, DATA, form="set"),
            event(0, 255, 0x401, b"\1"),
            event(0, 17, 0x501, b"xen", banks=(SHA256,)),
        )
        result = replay(log)
        report = log_report(log, result)
        assert json.loads(json.dumps(report)) == {
            "schema": "aemseal.log/1",
            "format": "tcg-agile",
            "algorithms": ["sha1", "sha256"],
            "events": [
                {
                    "number": each.number,
                    "pcr": each.pcr,
                    "type": kind,
                    "name": name,
                    "digests": {str(a): d.hex for a, d in each.digests.items()},
                    "data": data,
                }
                for each, kind, name, data in zip(
                    log.events,
                    ["0x402", "0x401", "0x501"],
                    ["HASH_START", "PCR_MAPPING", "TBOOT"],
                    [DATA.hex(), "01", b"xen".hex()],
                    strict=True,
                )
            ],
            "pcrs": {
                "sha1": {
                    "17": hashlib.sha1(bytes(20) + SHA1.hash(DATA).value).hexdigest()
                },
                "sha256": {"17": fold(sha256(DATA), sha256(b"xen")).hex()},
            },
            "quirks": [
                {
                    "event": 0,
                    "name": "hash-start-logs-pcr-value",
                    "effect": result.quirks[0].effect,
                }
            ],
            "coverage": {
                "sha1": {"17": {"complete": False, "missing": [2]}},
                "sha256": {"17": {"complete": True, "missing": []}},
            },
        }

    def test_unknown_algorithms_are_named(self) -> None:
        log = dataclasses.replace(tboot_log(), unknown_algorithms=(0x27,))
        assert log_report(log, replay(log))["unknown_algorithms"] == ["0x27"]


@needs_vectors
@given(
    changes=st.lists(
        st.tuples(st.integers(69, 1709), st.integers(0, 255)), min_size=1, max_size=3
    )
)
@settings(max_examples=100)
def test_a_damaged_log_is_refused_or_measures_the_same(
    changes: list[tuple[int, int]],
) -> None:
    data = (VECTORS / "drtm/rebuilt_E5470_A_tpm20_tcg.bin").read_bytes()
    true = parse_event_log(data)
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place] = value
    with contextlib.suppress(EvidenceError):
        verified = verify(
            parse_event_log(bytes(damaged)), live_of(true), select("sha256:17,18")
        )
        expected = verify(true, live_of(true), select("sha256:17,18"))
        assert [d[SHA256] for _, d in verified.extends] == [
            d[SHA256] for _, d in expected.extends
        ]
