# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a policy sends modules, and which policy a log's digest is of."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tboot_boots import SHA1, SHA256
from tboot_policies import (
    ANY,
    CONTINUE,
    CONTINUE_UNVERIFIED,
    HALT,
    NONE,
    NV,
    NV_RAW,
    Entry,
    digest_of,
    entry_lists,
    packed,
    simulated,
)

from aemseal.formats.tboot_policy import parse_policy
from aemseal.measure.tboot_places import (
    halts_unlisted,
    halts_without_entry,
    is_listed,
    places,
    recognise,
    unmeasured,
)
from aemseal.measure.tboot_tables import MAPS, POLICIES, PcrMap, PolicyRow
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import PredictionError
from aemseal.words.events import Event

LEGACY_MAP, DA_MAP = MAPS
PCRS = st.sampled_from([*range(24), NONE])
CUSTOM = [Entry(0, NONE), Entry(1, 18), Entry(ANY, 19)]


@given(entry_lists(PCRS), st.integers(0, 8), st.sampled_from(MAPS))
def test_modules_go_where_tboots_own_loop_puts_them(
    entries: list[Entry], modules: int, pcr_map: PcrMap
) -> None:
    policy = parse_policy(packed(entries))
    expected = simulated(entries, pcr_map.xen, modules) if modules else []
    assert list(places(policy, pcr_map, modules)) == expected


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([Entry(0, NONE), Entry(ANY, 19)], [(0, 18), (1, 19), (2, 19)]),
        ([Entry(0, 20), Entry(ANY, 19)], [(0, 18), (0, 20), (1, 19), (2, 19)]),
        ([Entry(ANY, 19), Entry(1, 17)], [(0, 18), (0, 19), (1, 19), (2, 19)]),
        ([Entry(2, 17), Entry(NV, 22), Entry(NV_RAW, 19)], [(0, 18), (2, 17)]),
        ([], [(0, 18)]),
    ],
    ids=["default", "module 0 twice", "any first", "nv is no module", "no entry"],
)
def test_module_0_goes_to_its_own_pcr_and_then_where_the_policy_says(
    entries: list[Entry], expected: list[tuple[int, int]]
) -> None:
    policy = parse_policy(packed(entries))
    assert list(places(policy, LEGACY_MAP, 3)) == expected


@pytest.mark.parametrize("row", POLICIES, ids=lambda r: f"{r.since}-{r.kind}-{r.map}")
def test_a_default_policy_puts_xen_into_one_pcr_and_the_others_into_one(
    row: PolicyRow,
) -> None:
    pcr_map = next(each for each in MAPS if each.name == row.map)
    is_tpm12_of_1_10 = row.kind == "TPM 1.2" and row.since == (1, 10)
    others = 19 if row.map == "legacy" or is_tpm12_of_1_10 else 17
    xen = 18 if row.map == "legacy" else 17
    expected = ((0, xen), (1, others), (2, others))
    assert places(row.policy, pcr_map, 3) == expected


def test_modules_that_no_pcr_covers_are_told() -> None:
    entries = [Entry(0, NONE), Entry(1, NONE), Entry(2, 19), Entry(3, 12)]
    policy = parse_policy(packed(entries))
    assert unmeasured(policy, 5, range(17, 23)) == (1, 3, 4)


def logged(value: bytes, algorithm: HashAlgorithm = SHA256) -> tuple[Event, Digest]:
    digest = Digest(algorithm, value)
    return Event(9, 17, 0x501, {algorithm: digest}), digest


@pytest.mark.parametrize("row", POLICIES, ids=lambda r: f"{r.since}-{r.kind}-{r.map}")
def test_a_default_policys_digest_is_recognised_before_any_candidate(
    row: PolicyRow,
) -> None:
    pcr_map = next(each for each in MAPS if each.name == row.map)
    event, digest = logged(row.digest.value, row.digest.algorithm)
    found = recognise(pcr_map, event, digest, [packed(CUSTOM)])
    assert row in found.rows
    assert {each.policy.entries for each in found.rows} == {found.policy.entries}
    assert not found.is_custom


@pytest.mark.parametrize(
    ("bank", "own"), [("sha256", "sha256"), ("sha1", "sha1"), ("sha1", "sha256")]
)
def test_a_candidate_is_believed_when_its_digest_was_logged(
    bank: str, own: str
) -> None:
    data = packed(CUSTOM)
    algorithm = HashAlgorithm.named(bank)
    event, digest = logged(digest_of(data, bank, own), algorithm)
    junk = [b"", b"no policy", packed([Entry(ANY, 17)]), data + bytes(9)]
    found = recognise(DA_MAP, event, digest, junk)
    assert found.is_custom
    assert found.own is HashAlgorithm.named(own)
    assert found.policy == parse_policy(data)


@pytest.mark.parametrize("algorithm", [0, 4])
def test_an_old_policy_is_recognised_as_stored_and_as_tboot_1_8_takes_it(
    algorithm: int,
) -> None:
    stored = packed(CUSTOM, algorithm=0)
    measured = packed(CUSTOM, algorithm=algorithm)
    event, digest = logged(digest_of(measured, "sha1", "sha1"), SHA1)
    found = recognise(LEGACY_MAP, event, digest, [stored])
    assert (found.is_custom, found.own) == (True, SHA1)


@given(st.integers(0, 8 * len(packed(CUSTOM)) - 1))
def test_a_candidate_with_one_bit_changed_is_no_evidence(bit: int) -> None:
    data = bytearray(packed(CUSTOM))
    event, digest = logged(digest_of(bytes(data)))
    data[bit // 8] ^= 1 << bit % 8
    found = recognise(DA_MAP, event, digest, [bytes(data)])
    assert found.own is None
    assert not found.is_custom


def test_a_policy_that_does_not_measure_itself_is_refused_though_its_digest_fits() -> (
    None
):
    event, digest = logged(hashlib.sha256(bytes(4) + bytes(32)).digest())
    with pytest.raises(PredictionError) as caught:
        recognise(DA_MAP, event, digest, [packed(CUSTOM, control=0)])
    assert "(event 9) does not measure itself" in caught.value.message
    assert caught.value.hint is not None
    assert "--ctrl" in caught.value.hint


class TestLists:
    def test_a_module_without_a_list_or_an_entry_is_let_pass(self) -> None:
        policy = parse_policy(packed([Entry(0, NONE), Entry(1, 19, ())]))
        digest = SHA256.hash(b"module")
        listed = [is_listed(policy, number, digest) for number in range(3)]
        assert listed == [True, False, True]

    @pytest.mark.parametrize(
        ("algorithm", "own", "fits"),
        [(0x0B, "sha256", True), (4, "sha1", True), (0x0B, "sha1", False)],
    )
    def test_a_listed_hash_is_compared_in_the_lists_algorithm(
        self, algorithm: int, own: str, fits: bool
    ) -> None:
        size = 20 if algorithm == 4 else 32
        digest = HashAlgorithm.named(own).hash(b"module")
        entry = Entry(1, 19, (bytes(size), digest.value.ljust(size, b"\0")))
        policy = parse_policy(packed([entry], algorithm=algorithm))
        assert is_listed(policy, 1, digest) is fits
        assert not is_listed(policy, 1, HashAlgorithm.named(own).hash(b"other"))

    def test_a_longer_own_hash_is_compared_as_far_as_the_list_goes(self) -> None:
        digest = SHA256.hash(b"module")
        policy = parse_policy(packed([Entry(1, 19, (digest.value[:20],))], algorithm=4))
        assert is_listed(policy, 1, digest)

    @pytest.mark.parametrize(
        ("kind", "unlisted", "missing"),
        [
            (CONTINUE, False, False),
            (CONTINUE_UNVERIFIED, False, True),
            (HALT, True, True),
        ],
    )
    def test_tboot_halts_by_the_policys_type(
        self, kind: int, unlisted: bool, missing: bool
    ) -> None:
        policy = parse_policy(packed([Entry(0, NONE)], kind=kind))
        assert halts_unlisted(policy) is unlisted
        assert halts_without_entry(policy, 1) is missing
        assert not halts_without_entry(policy, 0)
