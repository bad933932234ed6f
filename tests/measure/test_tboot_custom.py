# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots under a verified-launch policy of the owner's: read, explained, predicted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from custom_policies import (
    CustomMachine,
    explained,
    listed,
    with_policy,
    with_version,
    with_words,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions import MORE, boots, next_boot, refused, values
from tboot_boots import DA, LEGACY, MACHINES, SHA256, Boot, Machine, a_boot
from tboot_policies import (
    ANY,
    CONTINUE,
    CONTINUE_UNVERIFIED,
    HALT,
    NONE,
    NV_RAW,
    Entry,
    entry_lists,
    packed,
)

from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Calibrated, SourceKind, require_covered
from aemseal.measure.stack import identify
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import PredictionError, SelectionError

OWN = [Entry(0, NONE), Entry(1, 18), Entry(ANY, 19), Entry(NV_RAW, 22)]
"""The kernel beside Xen, everything else in PCR 19."""

LAUNCHED = st.sampled_from([17, 18, 19, 20, 21, 22, NONE])
machines = st.sampled_from(list(MACHINES.values()))


def any_policy(machine: Machine, entries: list[Entry]) -> CustomMachine:
    """The entries, of which a policy that measures each module ends with any."""
    return with_policy(machine, [*entries, Entry(ANY, 19)])


@given(machines, entry_lists(LAUNCHED), boots(), boots())
@settings(deadline=None)
def test_a_prediction_is_what_a_launch_under_any_policy_extends(
    machine: Machine, entries: list[Entry], boot: Boot, following: Boot
) -> None:
    own = any_policy(machine, entries)
    calibration = explained(own, boot)
    assert calibration.is_calibrated
    assert calibration.entry == boot.entry
    prediction = next_boot(calibration, following)
    expected = own.values(following)
    for pcr in refused(prediction):
        assert "would not be noticed" in refused(prediction)[pcr]
        expected.pop(pcr)
    assert values(prediction) == expected


@pytest.mark.parametrize("machine", [DA, LEGACY], ids=["da", "legacy"])
def test_modules_are_explained_where_the_policy_put_them(machine: Machine) -> None:
    own = with_policy(machine, OWN)
    xen = 18 if machine is LEGACY else 17
    calibration = explained(own, replace(a_boot(), modules=(*a_boot().modules, MORE)))
    found = [(each.role, each.pcr) for each in calibration.modules]
    assert found == [
        (Role.XEN, xen),
        (Role.KERNEL, 18),
        (Role.INITRAMFS, 19),
        (Role.MODULE, 19),
    ]
    assert calibration.launch.default_pcrs == {17, 18, 19}


def test_xen_may_be_measured_twice() -> None:
    own = with_policy(LEGACY, [Entry(ANY, 19)])
    calibration = explained(own, a_boot())
    assert calibration.is_calibrated
    assert [(each.role, each.pcr) for each in calibration.modules][:2] == [
        (Role.XEN, 18),
        (Role.XEN, 19),
    ]
    following = a_boot().with_module(0, image=b"new Xen")
    assert values(next_boot(calibration, following)) == own.values(following)


def test_an_own_policy_is_shown_as_carried_over_from_its_event() -> None:
    calibration = explained(with_policy(DA, OWN), a_boot())
    policies = [each for each in calibration.measured if each.role is Role.POLICY]
    assert {each.calibrated for each in policies} == {Calibrated.NOW}
    following = with_version(a_boot(), "1.11.2")
    predicted = [
        each
        for each in next_boot(calibration, following).measurements
        if each.role is Role.POLICY
    ]
    assert [(e.pcr, e.digests) for e in predicted] == [
        (e.pcr, e.digests) for e in policies
    ]
    assert {each.source.kind for each in predicted} == {SourceKind.CARRIED}
    events = [each.source.event for each in predicted]
    assert events == [each.source.event for each in policies]


class TestEvidence:
    def test_without_its_policy_a_log_of_another_pattern_is_refused_with_a_hint(
        self,
    ) -> None:
        own = with_policy(LEGACY, OWN)
        with pytest.raises(PredictionError) as caught:
            identify(own.launched(a_boot()))
        assert "puts module 1 into PCR 18" in caught.value.message
        assert "tboot's default policy" in caught.value.message
        assert caught.value.hint is not None
        assert "0x1c10131 or 0x1200001" in caught.value.hint
        assert "tboot_policy" in caught.value.hint

    def test_a_policy_that_was_not_measured_is_not_believed(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(ANY, 19)])
        other = packed([Entry(0, NONE), Entry(ANY, 19)], kind=HALT)
        calibration = explained(own, a_boot(), policies=[other])
        assert not calibration.is_calibrated
        prediction = next_boot(calibration, a_boot())
        assert set(refused(prediction)) == {17, 18, 19}
        assert "no custom verified-launch policy was found" in refused(prediction)[17]
        assert explained(own, a_boot()).is_calibrated

    def test_a_log_that_does_not_follow_from_its_policy_is_refused(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(ANY, 19)])
        other = replace(own, entries=(Entry(0, NONE), Entry(1, 18), Entry(ANY, 19)))
        with pytest.raises(PredictionError) as caught:
            explained(other, a_boot())
        assert "not what the verified-launch policy does" in caught.value.message
        assert caught.value.hint is None

    def test_more_measurements_than_the_policy_makes_are_refused(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, 19)])
        other = replace(own, entries=(*own.entries, Entry(2, 19)))
        with pytest.raises(PredictionError, match="puts one more measurement into PCR"):
            explained(other, a_boot())

    def test_modules_that_the_policy_leaves_out_are_not_looked_for_in_the_log(
        self,
    ) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, NONE), Entry(ANY, 19)])
        calibration = explained(own, a_boot())
        found = [(each.role, each.pcr) for each in calibration.modules]
        assert found == [(Role.XEN, 18), (Role.INITRAMFS, 19)]


class TestModulesThatNothingCovers:
    @pytest.mark.parametrize("pcr", [NONE, 12, 23])
    def test_a_module_in_no_pcr_of_the_launch_refuses_pcr_17(self, pcr: int) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, pcr), Entry(ANY, 19)])
        prediction = next_boot(explained(own, a_boot()), a_boot())
        assert refused(prediction)[17] == (
            "tboot's policy puts /boot/vmlinuz (kernel) into no PCR of the launch: a "
            "changed one would not be noticed"
        )
        expected = own.values(a_boot())
        known = {number: expected[number] for number in (13, 18, 19)}
        assert values(prediction) == known
        with pytest.raises(PredictionError, match="PCR 17: tboot's policy puts"):
            prediction.require(PcrSelection(SHA256, (13, 17, 18, 19)))

    def test_a_pcr_that_the_launch_does_not_reset_is_refused(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, 12), Entry(ANY, 19)])
        prediction = next_boot(explained(own, a_boot()), a_boot())
        assert "which the launch does not reset" in refused(prediction)[12]

    def test_entries_of_modules_that_are_not_there_refuse_nothing(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(7, 12), Entry(ANY, 19)])
        assert next_boot(explained(own, a_boot()), a_boot()).is_complete

    def test_a_module_without_an_entry_is_not_measured_under_continue(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, 19), Entry(2, 19)])
        calibration = explained(own, a_boot())
        assert next_boot(calibration, a_boot()).is_complete
        one_more = replace(a_boot(), modules=(*a_boot().modules, MORE))
        prediction = next_boot(calibration, one_more)
        assert "/boot/ucode.bin (module)" in refused(prediction)[17]

    def test_an_open_pcr_is_predicted_and_never_in_the_default_selection(self) -> None:
        own = with_policy(LEGACY, [Entry(0, NONE), Entry(1, 20), Entry(ANY, 19)])
        calibration = explained(own, a_boot())
        assert calibration.launch.default_pcrs == {17, 18, 19}
        prediction = next_boot(calibration, a_boot())
        assert values(prediction) == own.values(a_boot())
        with pytest.raises(SelectionError, match="a changed kernel"):
            require_covered(
                prediction.measurements, PcrSelection(SHA256, (13, 17, 18, 19))
            )


class TestHashLists:
    def lists(self, kind: int) -> CustomMachine:
        """Xen and the kernel by their hashes, anything else any."""
        boot = a_boot()
        entries = [
            Entry(0, NONE, listed(boot, 0)),
            Entry(1, 19, listed(boot, 1)),
            Entry(ANY, 19),
        ]
        return with_policy(DA, entries, kind=kind)

    def test_listed_modules_are_predicted_under_any_type(self) -> None:
        for kind in (CONTINUE, CONTINUE_UNVERIFIED, HALT):
            own = self.lists(kind)
            following = a_boot().with_module(2, image=b"new initramfs")
            prediction = next_boot(explained(own, a_boot()), following)
            assert values(prediction) == own.values(following)
            assert not prediction.cautions

    @pytest.mark.parametrize(
        ("number", "what"), [(0, "/boot/xen.gz (xen)"), (1, "/boot/vmlinuz (kernel)")]
    )
    def test_a_boot_that_tboot_would_halt_is_not_predicted(
        self, number: int, what: str
    ) -> None:
        calibration = explained(self.lists(HALT), a_boot())
        following = a_boot().with_module(number, image=b"new")
        with pytest.raises(PredictionError) as caught:
            next_boot(calibration, following)
        assert caught.value.message == (
            f"tboot's policy lists the hashes it starts: {what} is not among them, "
            "and tboot would halt"
        )

    @pytest.mark.parametrize("kind", [CONTINUE, CONTINUE_UNVERIFIED])
    def test_what_tboot_starts_unlisted_is_predicted_with_a_caution(
        self, kind: int
    ) -> None:
        own = self.lists(kind)
        following = a_boot().with_module(1, cmdline=b"other words")
        prediction = next_boot(explained(own, a_boot()), following)
        assert values(prediction) == own.values(following)
        (caution,) = prediction.cautions
        assert "does not list the hash of /boot/vmlinuz (kernel)" in caution

    @pytest.mark.parametrize("words", [b"extpol=embedded", b"extpol=agile"])
    def test_lists_are_not_looked_at_when_tboot_extends_every_bank(
        self, words: bytes
    ) -> None:
        boot = with_words(a_boot(), words)
        own = self.lists(HALT)
        following = boot.with_module(1, image=b"new")
        prediction = next_boot(explained(own, boot), following)
        assert values(prediction) == own.values(following)

    @pytest.mark.parametrize("kind", [CONTINUE_UNVERIFIED, HALT])
    def test_a_module_without_an_entry_halts_all_but_continue(self, kind: int) -> None:
        entries = [Entry(0, NONE), Entry(1, 19), Entry(2, 19)]
        calibration = explained(with_policy(DA, entries, kind=kind), a_boot())
        one_more = replace(a_boot(), modules=(*a_boot().modules, MORE))
        with pytest.raises(PredictionError) as caught:
            next_boot(calibration, one_more)
        assert "no entry for module 3, /boot/ucode.bin" in caught.value.message


def test_more_measurements_than_tboot_makes_count_xen_twice() -> None:
    calibration = explained(with_policy(LEGACY, [Entry(ANY, 19)]), a_boot())
    full = replace(a_boot(), modules=(MORE,) * 30)
    assert next_boot(calibration, full).is_complete
    with pytest.raises(PredictionError, match="33 measurements"):
        next_boot(calibration, replace(full, modules=(MORE,) * 31))
