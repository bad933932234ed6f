# SPDX-License-Identifier: GPL-2.0-or-later
"""Which SINIT module was launched, by the log alone, and which one will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sinit_boots import (
    ALDER_LAKE,
    OTHER_KEY,
    SHA1,
    SHA256,
    SKYLAKE_79,
    SKYLAKE_80,
    Logged,
    event,
    facts,
    hashed,
    logged,
    no_sinit,
)
from sinit_modules import SKYLAKE_CPU, Made

from aemseal.measure.sinit_choice import Choice, Fit, choose, fit, launched_file
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import BootFileError
from aemseal.words.events import Event
from aemseal.words.wanted import FileFacts, View, Wanted

OLD = facts("/boot/skl_79.bin", SKYLAKE_79)
NEW = facts("/boot/skl_80.bin", SKYLAKE_80)
OTHER = facts("/boot/adl.bin", ALDER_LAKE)
ALL = (OTHER, OLD, NEW)


class TestLaunchedFile:
    @pytest.mark.parametrize("bank", [SHA1, SHA256])
    @pytest.mark.parametrize("module_hash", [SHA1, SHA256])
    @pytest.mark.parametrize("edx", [0, 7])
    def test_is_told_by_hash_start(
        self, bank: HashAlgorithm, module_hash: HashAlgorithm, edx: int
    ) -> None:
        log = logged(SKYLAKE_79, bank=bank, module_hash=module_hash, edx=edx)
        assert launched_file(log, ALL) is OLD

    def test_is_told_without_data_where_edx_is_0(self) -> None:
        start, *others = logged(SKYLAKE_79)
        bare = (replace(start[0], untrusted_data=b""), start[1])
        assert launched_file([bare, *others], ALL) is OLD
        start, *others = logged(SKYLAKE_79, edx=7)
        bare = (replace(start[0], untrusted_data=b""), start[1])
        assert launched_file([bare, *others], ALL) is None

    def test_is_not_told_by_data_that_no_digest_covers(self) -> None:
        start, *others = logged(SKYLAKE_79)
        false = logged(SKYLAKE_80)[0][0].untrusted_data
        lying = (replace(start[0], untrusted_data=false), start[1])
        assert launched_file([lying, *others], [NEW]) is None
        assert launched_file([lying, *others], ALL) is OLD

    def test_is_none_where_the_firmware_supplied_it(self) -> None:
        assert launched_file(logged(SKYLAKE_79), (OTHER, NEW, no_sinit())) is None
        assert launched_file(logged(SKYLAKE_79), ()) is None

    def test_among_the_same_bytes_is_the_one_whose_key_signed(self) -> None:
        signed = facts("/boot/signed.bin", OTHER_KEY)
        assert launched_file(logged(OTHER_KEY), (NEW, signed)) is signed
        assert launched_file(logged(SKYLAKE_80), (signed, NEW)) is NEW
        tpm12 = [each for each in logged(OTHER_KEY) if each[0].untrusted_type != 0x410]
        assert launched_file(tpm12, (NEW, signed)) is NEW

    def test_is_not_told_by_a_digest_that_is_not_there(self) -> None:
        log = logged(SKYLAKE_79, bank=SHA1, module_hash=SHA1)
        bare = replace(OLD, digests={SHA256: OLD.digests[SHA256]})
        assert launched_file(log, [bare]) is None

    @pytest.mark.parametrize(
        "data",
        [
            # Measured bytes of the modules that a T460p and an E5470, a NUC5i5MYHE and
            # an X200 logged; the first is 6th_7th_gen_i5_i7-SINIT_79.bin's.
            "755414dff4e11fba3d4adb0bb6bc8f04c0bd3b620ce567c329c8b20f7f5b1d9d00000000",
            "d029d114d6d4d2f07098db058524f95ea27c72a500000000",
        ],
        ids=["E5470", "X200"],
    )
    def test_is_told_by_the_figures_of_real_machines(self, data: str) -> None:
        raw = bytes.fromhex(data)
        algorithm = SHA256 if len(raw) == 36 else SHA1
        digests = {SHA256: SHA256.zero(), algorithm: Digest(algorithm, raw[:-4])}
        file = FileFacts(Wanted("/boot/s.bin", View.ACM), 9, digests, OLD.notes)
        start = event(0, 0x402, 17, hashed(SHA1, raw), raw, SHA1)
        assert launched_file([start], (NEW, file)) is file


def facts_with(made: Made) -> FileFacts:
    return facts("/boot/other.bin", made)


class TestFit:
    def test_a_release_for_more_processors_is_for_this_machine_too(self) -> None:
        assert fit(NEW, OLD) is Fit.YES
        assert fit(OLD, NEW) is Fit.UNKNOWN

    def test_another_chipsets_is_not(self) -> None:
        assert fit(OTHER, OLD) is Fit.NO

    def test_one_that_does_not_say_may_be(self) -> None:
        silent = facts_with(replace(SKYLAKE_80, table_version=9))
        assert fit(silent, OLD) is Fit.UNKNOWN
        assert fit(silent, silent) is Fit.YES


def chosen(
    launched: FileFacts | None,
    before: Sequence[FileFacts] | None,
    *after: FileFacts,
) -> Choice:
    return choose(launched, before, after)


class TestLaunchedFromAFile:
    def test_the_same_files_give_the_same_launch(self) -> None:
        moved = replace(OLD, wanted=Wanted("/boot/elsewhere.bin", View.ACM))
        assert chosen(OLD, [OTHER, OLD], OTHER, moved, no_sinit()) == Choice(moved)
        silent = facts_with(replace(SKYLAKE_80, table_version=9))
        assert chosen(OLD, [silent, OLD], silent, OLD) == Choice(OLD)

    def test_a_newer_one_for_the_machine_is_taken(self) -> None:
        assert chosen(OLD, [OTHER, OLD], OTHER, NEW) == Choice(NEW)
        assert chosen(OLD, None, NEW) == Choice(NEW)

    def test_one_of_the_same_date_is_taken(self) -> None:
        same_day = facts_with(replace(SKYLAKE_80, date=SKYLAKE_79.date))
        assert chosen(OLD, [OLD], same_day) == Choice(same_day)

    def test_doubles_are_one(self) -> None:
        twin = replace(NEW, wanted=Wanted("/boot/twin.bin", View.ACM))
        assert chosen(OLD, [OLD], NEW, twin) == Choice(NEW)

    def test_what_came_and_is_for_other_machines_changes_nothing(self) -> None:
        assert chosen(OLD, [OLD], OTHER, OLD) == Choice(OLD)

    def test_an_older_one_is_refused(self) -> None:
        older = facts_with(replace(SKYLAKE_80, date=0x20140101))
        assert chosen(OLD, [OLD], older) == Choice(
            None,
            "/boot/other.bin (20140101) is older than the SINIT module that was "
            "launched (20151005): the firmware's own may win",
        )

    def test_two_different_ones_are_refused(self) -> None:
        assert chosen(OLD, [OLD], OLD, NEW) == Choice(
            None,
            "/boot/skl_79.bin and /boot/skl_80.bin are different SINIT modules for "
            "this machine",
        )

    def test_none_is_refused(self) -> None:
        for after in ((), (OTHER,), (no_sinit(),)):
            assert chosen(OLD, [OLD], *after) == Choice(
                None,
                "no SINIT module of the next boot is for this machine, as "
                "/boot/skl_79.bin was that was launched",
            )

    def test_one_that_may_be_for_the_machine_is_refused(self) -> None:
        half = facts_with(replace(SKYLAKE_80, processors=(SKYLAKE_CPU,)))
        assert chosen(NEW, [NEW], half) == Choice(
            None,
            "/boot/other.bin may be for this machine or not, which the SINIT module "
            "that was launched (/boot/skl_80.bin) does not tell",
        )


class TestLaunchedFromTheFirmware:
    def test_the_same_files_or_none_give_the_same_launch(self) -> None:
        assert chosen(None, [], no_sinit()) == Choice(None)
        assert chosen(None, [OTHER, OLD], OTHER, OLD) == Choice(None)
        assert chosen(None, [OTHER, OLD]) == Choice(None)

    def test_a_new_file_is_refused_by_name(self) -> None:
        assert chosen(None, [OTHER], OTHER, NEW) == Choice(
            None,
            "the firmware's SINIT module was launched, and which of the next boot's "
            "files wins over it cannot be told: /boot/skl_80.bin is new",
        )

    def test_another_order_or_fewer_files_are_refused(self) -> None:
        for after in ((OLD, OTHER), (OLD,)):
            reason = chosen(None, [OTHER, OLD], *after).reason
            assert reason is not None
            assert reason.endswith("their number or order changes")

    def test_it_is_not_told_from_a_file_that_was_replaced(self) -> None:
        for after in ((NEW,), ()):
            assert chosen(None, None, *after) == Choice(
                None,
                "the SINIT module that was launched is none of the next boot's files: "
                "it was the firmware's, or has been replaced since",
            )


def test_events_that_are_no_hash_start_tell_nothing() -> None:
    start: Logged = logged(SKYLAKE_79)[0]
    as_other = Event(0, 17, 0x40A, start[0].digests, start[0].untrusted_data)
    assert launched_file([(as_other, start[1])], ALL) is None


class TestFactsReadBack:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("sinit_date", "yesterday"),
            ("sinit_capabilities", ""),
            ("sinit_capabilities", "0x100000000"),
            ("sinit_key", "ab"),
            ("sinit_platform", "any"),
        ],
    )
    def test_in_no_form_of_theirs_are_refused_by_name(
        self, name: str, text: str
    ) -> None:
        bad = replace(OLD, notes={**OLD.notes, name: text})
        message = f"/boot/skl_79.bin is told with no {name} of a SINIT module"
        with pytest.raises(BootFileError, match=message):
            launched_file(logged(SKYLAKE_79), [bad])
        with pytest.raises(BootFileError, match=message):
            choose(None, [bad], [])

    def test_without_what_is_measured_are_refused(self) -> None:
        bare = replace(OLD, digests={SHA1: OLD.digests[SHA1]})
        with pytest.raises(BootFileError, match="no sha256 of a SINIT module"):
            choose(None, None, [bare])

    def test_may_lack_key_and_platform(self) -> None:
        words = ("sinit_date", "sinit_capabilities")
        bare = replace(OLD, notes={word: OLD.notes[word] for word in words})
        assert chosen(bare, [bare], bare) == Choice(bare)
