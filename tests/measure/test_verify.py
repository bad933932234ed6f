# SPDX-License-Identifier: GPL-2.0-or-later
"""Verification: a log is believed as far as live PCRs confirm it."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from event_log_bytes import VECTORS, needs_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed_logs import (
    BANKS,
    DATA,
    SHA1,
    SHA256,
    SHA384,
    START,
    event,
    live_of,
    log_of,
    select,
    tboot_log,
)

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.replay import VerifiedLog, replay, verify
from aemseal.words.digest import Digest, PcrBank
from aemseal.words.errors import (
    BankError,
    EvidenceError,
    ReplayError,
    SelectionError,
    UnmeasuredError,
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
            dataclasses.replace(verified, log=log_of())  # type: ignore[call-arg]  # no proof

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
