# SPDX-License-Identifier: GPL-2.0-or-later
"""What launchers ask of SINIT: seven words of real machines, and the next boot's."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from event_log_bytes import VECTORS, needs_vectors

from aemseal.measure.sinit_capabilities import (
    GRUB_GENERATIONS,
    GrubRule,
    TbootImage,
    TbootReading,
    TbootRule,
    grub_word,
    tboot_word,
)
from aemseal.measure.sinit_tables import (
    MLE_HEADERS,
    SINIT_OFFERS,
    bit_names,
    may_be_1_9_6,
)

SKYLAKE, SANDY_BRIDGE, COMET_LAKE = 0x36E, 0x2E, 0x77E
XEON = 0x2A1
"""A server's offer: GETSEC wake-up, DA map, server, TCG's log."""

OLD_XEON = XEON & ~0x200
"""One that does not know TCG's log."""


def image(header: int | None, version: str | None, cmdline: bytes = b"") -> TbootImage:
    return TbootImage.of(None if header is None else f"{header:#x}", version, cmdline)


OLD = image(0x27, "1.9.5")
TBOOT_1_9_12 = image(0x227, "1.9.12")
TBOOT_1_10_5 = image(0x627, "1.10.5")
TBOOT_1_11_9 = image(0x4627, "1.11.9")


def after(
    running: TbootImage, coming: TbootImage, tpm2: bool | None = True
) -> Callable[[int, int | None, int | None], int | str]:
    return TbootRule(running, coming, tpm2).next_word


class TestWordsOfRealMachines:
    @pytest.mark.parametrize(
        ("header", "reading", "word"),
        [
            (0x27, TbootReading(OLD_XEON), 0x1),
            (0x27, TbootReading(XEON), 0x1),
            (0x227, TbootReading(XEON), 0x201),
            (0x227, TbootReading(SKYLAKE), 0x202),
            (0x627, TbootReading(SKYLAKE, is_tpm2=False), 0x402),
            (0x627, TbootReading(XEON), 0x601),
            (0x627, TbootReading(SKYLAKE), 0x602),
        ],
        ids=["Broadwell", "offer of no use", "SKX", "client", "T460p", "ICX", "E5470"],
    )
    def test_are_what_tboot_asks_for(
        self, header: int, reading: TbootReading, word: int
    ) -> None:
        assert tboot_word(header, reading) == word

    def test_esxi_asks_for_another_word_than_any_tboot(self) -> None:
        for row in MLE_HEADERS:
            for running in (XEON, SKYLAKE, None):
                rule = after(image(row.capabilities, None), TBOOT_1_11_9)
                answer = rule(0x221, running, None)
                assert isinstance(answer, str)
                assert "and 0x221 was asked for" in answer

    @needs_vectors
    @pytest.mark.parametrize(
        ("name", "is_tpm2", "expected"),
        [
            ("tboot-devel_2021-08-26_E5470_tpm20_1.10.2.txt", True, 0x602),
            ("tboot-devel_2022-01-31_T460p_tpm12_1.10.3.txt", False, 0x402),
            ("tboot-devel_2020-05-29_GM45_tpm12_1.9.12.txt", False, 0x2),
        ],
    )
    def test_follow_from_what_tboot_printed(
        self, name: str, is_tpm2: bool, expected: int
    ) -> None:
        text = (VECTORS / "drtm" / name).read_text(errors="replace")
        found = re.findall(r"TBOOT: \t+ ?capabilities: 0x([0-9a-f]{8})\n", text)
        offer, header, asked, *_ = (int(word, 16) for word in found)
        reading = TbootReading(offer, is_tpm2)
        assert tboot_word(header, reading) == asked == expected

    def test_trenchboots_grub_asked_an_elitedesk_for_0x226(self) -> None:
        assert grub_word(SKYLAKE, GRUB_GENERATIONS[0], is_tpm2=True) == 0x226


class TestAnotherTboot:
    def test_of_the_same_release_asks_for_the_same(self) -> None:
        assert after(TBOOT_1_10_5, TBOOT_1_10_5)(0x221, None, None) == 0x221

    def test_asks_for_what_openxt_did_not_foresee(self) -> None:
        # Its table ends with 1.9.12, whose word it predicted for every later tboot.
        word = after(TBOOT_1_9_12, TBOOT_1_10_5)(0x201, XEON, None)
        assert word == 0x601
        assert word != 0x201

    @pytest.mark.parametrize("offer", [XEON, None], ids=["file", "firmware"])
    def test_follows_from_its_header(self, offer: int | None) -> None:
        assert after(TBOOT_1_9_12, TBOOT_1_10_5)(0x201, offer, None) == 0x601
        assert after(TBOOT_1_10_5, TBOOT_1_9_12)(0x601, offer, None) == 0x201
        assert after(TBOOT_1_10_5, TBOOT_1_11_9)(0x601, offer, None) == 0x4601
        assert after(TBOOT_1_10_5, OLD)(0x601, offer, None) == 0x1

    def test_of_a_firmwares_module_the_log_proves_wake_up_and_log(self) -> None:
        assert after(TBOOT_1_9_12, TBOOT_1_10_5)(0x202, None, None) == 0x602
        assert after(TBOOT_1_9_12, TBOOT_1_10_5)(0x2, None, None) == 0x402

    def test_bit_9_is_not_proven_by_a_tboot_that_never_asks_for_it(self) -> None:
        answer = after(OLD, TBOOT_1_10_5)(0x1, None, None)
        assert answer == "bit 9 of what SINIT is asked for next cannot be told"
        assert after(OLD, TBOOT_1_10_5)(0x1, XEON, None) == 0x601
        assert after(OLD, TBOOT_1_10_5)(0x1, OLD_XEON, None) == 0x401

    def test_bit_9_is_none_of_tpm_12s(self) -> None:
        assert after(OLD, TBOOT_1_10_5, tpm2=False)(0x1, None, None) == 0x401
        answer = after(OLD, TBOOT_1_10_5, tpm2=None)(0x1, XEON, None)
        assert answer == "bit 9 of what SINIT is asked for next cannot be told"

    def test_1_9_6_asks_for_tcgs_log_whatever_sinit_knows(self) -> None:
        buggy = image(0x227, "1.9.6")
        assert after(buggy, TBOOT_1_9_12)(0x201, OLD_XEON, None) == 0x1
        assert after(OLD, buggy)(0x1, OLD_XEON, None) == 0x201
        answer = after(buggy, TBOOT_1_9_12)(0x201, None, None)
        assert answer == "bit 9 of what SINIT is asked for next cannot be told"

    def test_one_that_does_not_say_its_version_may_be_1_9_6(self) -> None:
        unknown = image(0x227, None)
        assert after(unknown, TBOOT_1_10_5)(0x201, XEON, None) == 0x601
        answer = after(OLD, unknown)(0x1, OLD_XEON, None)
        assert answer == "bit 9 of what SINIT is asked for next cannot be told"
        assert after(unknown, TBOOT_1_10_5)(0x1, None, None) == 0x401
        assert after(unknown, unknown)(0x201, XEON, None) == 0x201

    def test_capabilities_that_are_not_known_are_named(self) -> None:
        unknown = image(None, "1.10.5")
        answer = after(unknown, TBOOT_1_10_5)(0x601, XEON, None)
        assert answer == "the running tboot's capabilities are not known"
        answer = after(TBOOT_1_10_5, unknown)(0x601, XEON, None)
        assert answer == "the next tboot's capabilities are not known"
        assert TbootImage.of("1575", "1.10.5", None) == unknown
        assert unknown.always_asks_tcg == (False, True)

    def test_a_rule_that_does_not_give_what_was_logged_predicts_nothing(self) -> None:
        answer = after(TBOOT_1_9_12, TBOOT_1_10_5)(0x601, XEON, None)
        assert answer == (
            "tboot with 0x227 in its MLE header asks SINIT for 0x201, and 0x601 was "
            "asked for"
        )


class TestOptions:
    def test_that_steer_the_word_must_stay(self) -> None:
        forced = image(0x4627, "1.11.12", b"logging=memory force_pmrs=true")
        assert forced.options == {b"force_pmrs=true"}
        assert image(0x4627, "1.11.12", b"force_pmrs").options == frozenset()
        answer = after(TBOOT_1_11_9, forced)(0x4602, SKYLAKE, None)
        assert answer == "tboot's command line changes in force_pmrs=true"

    def test_force_pmrs_leaves_bit_14_open_where_the_log_does_not_tell(self) -> None:
        cmdline = b"force_pmrs=true"
        before, new = image(0x4627, "1.11.11", cmdline), image(0x4627, "9.1", cmdline)
        assert after(before, new)(0x602, SKYLAKE, None) == 0x602
        assert after(before, new)(0x4602, SKYLAKE, None) == 0x4602
        old = image(0x627, "1.10.5", cmdline)
        answer = after(old, new)(0x602, SKYLAKE, None)
        assert answer == "bit 14 of what SINIT is asked for next cannot be told"

    def test_the_forced_legacy_log_is_told_by_the_log(self) -> None:
        cmdline = b"force_tpm2_legacy_log=true"
        before, new = image(0x227, "1.9.12", cmdline), image(0x627, "1.10.5", cmdline)
        assert after(before, new)(0x2, SKYLAKE, None) == 0x402
        assert after(before, new)(0x202, SKYLAKE, None) == 0x602

    def test_the_map_of_tpm_12_is_asked_for(self) -> None:
        rule = after(TBOOT_1_9_12, TBOOT_1_10_5, tpm2=False)
        assert rule(0x2, SKYLAKE & ~0x10, None) == 0x402
        assert rule(0x32, SKYLAKE & ~0x10, None) == 0x432
        assert rule(0x32, None, None) == 0x432


class TestAnotherModule:
    def test_may_wake_up_otherwise_or_know_tcgs_log(self) -> None:
        rule = after(TBOOT_1_10_5, TBOOT_1_10_5)
        assert rule(0x601, XEON, SKYLAKE) == 0x602
        assert rule(0x601, XEON, OLD_XEON) == 0x401
        assert rule(0x602, SKYLAKE, COMET_LAKE) == 0x602

    def test_that_takes_another_map_is_refused(self) -> None:
        rule = after(TBOOT_1_10_5, TBOOT_1_10_5, tpm2=False)
        answer = rule(0x402, SANDY_BRIDGE, SANDY_BRIDGE | 0x10)
        assert answer == "the PCR map changes: SINIT is asked for 0x432 after 0x402"


class TestTrenchBootsGrub:
    @pytest.mark.parametrize(
        ("offer", "words"),
        [(0x2E, (0x226, 0x226)), (0x36E, (0x226, 0x326)), (0x77E, (0x226, 0x736))],
    )
    def test_asks_by_its_generation(self, offer: int, words: tuple[int, int]) -> None:
        for generation, word in zip(GRUB_GENERATIONS, words, strict=True):
            assert grub_word(offer, generation, is_tpm2=True) == word
            assert grub_word(offer, generation, is_tpm2=False) == word & ~0x200

    def test_asks_for_the_same_of_the_same_module(self) -> None:
        assert GrubRule(is_tpm2=True).next_word(0x736, None, None) == 0x736

    def test_is_told_by_what_it_asked_for(self) -> None:
        rule = GrubRule(is_tpm2=True)
        assert rule.next_word(0x226, SKYLAKE, COMET_LAKE) == 0x226
        assert rule.next_word(0x326, SKYLAKE, COMET_LAKE) == 0x736
        assert rule.next_word(0x226, SKYLAKE, XEON) == 0x221
        assert GrubRule(is_tpm2=None).next_word(0x26, SKYLAKE, XEON) == 0x21

    def test_is_not_told_where_all_ask_for_the_same(self) -> None:
        answer = GrubRule(is_tpm2=True).next_word(0x226, SANDY_BRIDGE, SKYLAKE)
        assert answer == "bit 8 of what SINIT is asked for next cannot be told"
        answer = GrubRule(is_tpm2=True).next_word(0x226, SANDY_BRIDGE, COMET_LAKE)
        assert answer == "bits 4, 8, 10 of what SINIT is asked for next cannot be told"

    def test_that_asked_for_something_else_predicts_nothing(self) -> None:
        answer = GrubRule(is_tpm2=True).next_word(0x602, SKYLAKE, COMET_LAKE)
        assert answer == (
            "TrenchBoot's GRUB asks SINIT for 0x226 or 0x326, and 0x602 was asked for"
        )
        answer = GrubRule(is_tpm2=True).next_word(0x226, None, COMET_LAKE)
        assert answer == "what the launched SINIT module offers is not known"


class TestTables:
    def test_versions_of_tboot_have_one_header_each(self) -> None:
        for before, row in pairwise(MLE_HEADERS):
            assert before.before == row.since
        assert [
            next(row.capabilities for row in MLE_HEADERS if row.covers(version))
            for version in ((1, 8, 2), (1, 9, 6), (1, 10, 0), (1, 10, 5), (1, 11, 12))
        ] == [0x27, 0x227, 0x227, 0x627, 0x4627]

    def test_1_9_6_is_told_by_version_or_else_by_header(self) -> None:
        assert may_be_1_9_6((1, 9, 6), 0x227)
        assert not may_be_1_9_6((1, 9, 7), 0x227)
        assert may_be_1_9_6(None, 0x227)
        assert not may_be_1_9_6(None, 0x627)

    def test_every_released_module_wakes_up_by_monitor_and_has_both_maps(self) -> None:
        for row in SINIT_OFFERS:
            assert row.capabilities & 0x22 == 0x22

    def test_bits_are_named_for_people(self) -> None:
        assert (bit_names(0x200), bit_names(0x410)) == ("bit 9", "bits 4, 10")
