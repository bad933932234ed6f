# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT's own events in the next boot: carried, recomputed, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from event_log_bytes import VECTORS, needs_vectors
from sinit_boots import (
    ALDER_LAKE,
    MLE,
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
from sinit_modules import HEADER_3_0, Made, modulus

from aemseal.formats.event_log import parse_event_log
from aemseal.measure.replay import replay
from aemseal.measure.sinit import MleChange, NextSinit, is_tpm2, next_sinit
from aemseal.measure.sinit_capabilities import (
    CapabilitiesRule,
    GrubRule,
    TbootImage,
    TbootRule,
)
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.wanted import FileFacts

OLD = facts("/boot/skl_79.bin", SKYLAKE_79)
NEW = facts("/boot/skl_80.bin", SKYLAKE_80)
REKEYED = facts("/boot/rekeyed.bin", OTHER_KEY)
OTHER = facts("/boot/adl.bin", ALDER_LAKE)

TBOOT_1_9_12 = TbootImage.of("0x227", "1.9.12", b"")
TBOOT_1_10_5 = TbootImage.of("0x627", "1.10.5", b"")
TBOOT = TbootRule(TBOOT_1_10_5, TBOOT_1_10_5, is_tpm2=True)
UPDATE = TbootRule(TBOOT_1_9_12, TBOOT_1_10_5, is_tpm2=True)

HASH_START, CAPABILITIES, KEY = (0,), (3, 7), (6,)
"""Where they are in what `logged` gives."""


def mle(bank: HashAlgorithm, then: bytes = MLE) -> MleChange:
    return MleChange(bank.hash(MLE), bank.hash(then))


def predicted(
    log: Sequence[Logged],
    before: Sequence[FileFacts] | None,
    after: Sequence[FileFacts],
    rule: CapabilitiesRule = TBOOT,
    change: MleChange | None = None,
) -> NextSinit:
    bank = log[0][1].algorithm
    return next_sinit(
        log, before=before, after=after, mle=change or mle(bank), rule=rule
    )


def digests(log: Sequence[Logged]) -> list[Digest]:
    return [digest for _, digest in log]


def next_digests(part: NextSinit) -> list[Digest | None]:
    return [each.digest for each in part.extends]


def reasons(part: NextSinit) -> dict[int, str]:
    return {
        number: each.reason
        for number, each in enumerate(part.extends)
        if each.reason is not None
    }


@pytest.mark.parametrize("bank", [SHA1, SHA256])
class TestAnotherModule:
    @pytest.mark.parametrize("module_hash", [SHA1, SHA256])
    @pytest.mark.parametrize("edx", [0, 7])
    def test_makes_the_log_that_it_would_have_made(
        self, bank: HashAlgorithm, module_hash: HashAlgorithm, edx: int
    ) -> None:
        def log(made: Made) -> tuple[Logged, ...]:
            return logged(made, bank=bank, module_hash=module_hash, edx=edx)

        part = predicted(log(SKYLAKE_79), [OTHER, OLD], [OTHER, NEW])
        assert next_digests(part) == digests(log(SKYLAKE_80))
        assert (part.launched, part.coming) == (OLD, NEW)
        part = predicted(log(SKYLAKE_79), None, [OLD])
        assert next_digests(part) == digests(log(SKYLAKE_79))

    def test_of_another_key_changes_the_keys_event(self, bank: HashAlgorithm) -> None:
        part = predicted(logged(SKYLAKE_79, bank=bank), [OLD], [REKEYED])
        assert next_digests(part) == digests(logged(OTHER_KEY, bank=bank))
        assert [each.file for each in part.extends][6] == REKEYED

    def test_that_offers_something_else_changes_what_it_is_asked_for(
        self, bank: HashAlgorithm
    ) -> None:
        server = replace(SKYLAKE_80, capabilities=0x36D)
        part = predicted(
            logged(SKYLAKE_79, bank=bank), [OLD], [facts("/boot/s.bin", server)]
        )
        assert next_digests(part) == digests(logged(server, 0x601, bank))

    def test_is_a_caution_of_its_own(self, bank: HashAlgorithm) -> None:
        log = logged(SKYLAKE_79, bank=bank)
        (caution,) = predicted(log, [OLD], [NEW]).cautions
        assert caution.startswith("/boot/skl_80.bin is another SINIT module than was")
        assert predicted(log, [OLD], [OTHER, OLD]).cautions == ()
        assert predicted(log, [], [no_sinit()]).cautions == ()

    def test_says_of_which_file_each_event_is(self, bank: HashAlgorithm) -> None:
        log = logged(SKYLAKE_79, bank=bank)
        part = predicted(log, [OLD], [NEW])
        assert [i for i, each in enumerate(part.extends) if each.file == NEW] == [0, 6]
        assert not part.extends[0].is_carried
        same = predicted(log, [OLD], [OLD])
        assert [i for i, each in enumerate(same.extends) if each.file == OLD] == [0, 6]
        assert all(each.is_carried for each in same.extends)


class TestTheFirmwaresModule:
    def test_repeats_its_part_of_the_log(self) -> None:
        log = logged(SKYLAKE_79)
        part = predicted(log, [OTHER], [OTHER])
        assert next_digests(part) == digests(log)
        assert (part.launched, part.coming) == (None, None)
        assert not any(each.file for each in part.extends)

    def test_with_another_tboot_changes_what_is_asked_for_alone(self) -> None:
        change = mle(SHA256, b"tboot 1.10.5")
        part = predicted(logged(SKYLAKE_79, 0x202), [], [], UPDATE, change)
        assert next_digests(part) == digests(logged(SKYLAKE_79, 0x602))

    def test_refuses_what_a_new_file_may_change(self) -> None:
        part = predicted(logged(SKYLAKE_79), [OTHER], [OTHER, NEW])
        refused = {*HASH_START, *CAPABILITIES, *KEY}
        assert set(reasons(part)) == refused
        assert all("/boot/skl_80.bin is new" in why for why in reasons(part).values())
        assert [each.digest is None for each in part.extends] == [
            number in refused for number in range(9)
        ]


class TestRefused:
    def test_a_header_of_another_version(self) -> None:
        made = replace(SKYLAKE_80, header_version=HEADER_3_0, scratch_dwords=0xD0)
        part = predicted(logged(SKYLAKE_79), [OLD], [facts("/boot/3.bin", made)])
        assert reasons(part) == {
            0: "/boot/3.bin has a header of version 3.0, unlike the SINIT module that "
            "was launched: how it is hashed was not seen here"
        }

    def test_a_key_that_is_not_known(self) -> None:
        notes = {key: NEW.notes[key] for key in NEW.notes if key != "sinit_key"}
        part = predicted(logged(SKYLAKE_79), [OLD], [replace(NEW, notes=notes)])
        assert reasons(part) == {
            6: "where the key of /boot/skl_80.bin is cannot be told"
        }

    def test_a_key_by_another_rule_than_was_logged(self) -> None:
        *others, key, capabilities, lcp = logged(SKYLAKE_79)
        raw = event(6, 0x410, 18, hashed(SHA256, modulus("key")), b"", SHA256)
        log = (*others, raw, capabilities, lcp)
        part = predicted(log, [OLD], [REKEYED])
        assert reasons(part) == {
            6: "SINIT_PUBKEY_HASH (event 6) is not the hash of /boot/skl_79.bin's key"
        }
        same_key = predicted(log, [OLD], [NEW])
        assert same_key.extends[6].is_carried
        assert key != raw

    def test_a_second_hash_start_that_is_of_something_else(self) -> None:
        log = logged(SKYLAKE_79)
        again = event(9, 0x402, 17, hashed(SHA256, b"else"), b"else", SHA256)
        part = predicted((*log, again), [OLD], [NEW])
        assert reasons(part) == {9: "HASH_START (event 9) is not of /boot/skl_79.bin"}

    def test_a_module_without_the_digest_that_the_log_has(self) -> None:
        log = logged(SKYLAKE_79, bank=SHA1, module_hash=SHA1)
        bare = replace(NEW, digests={SHA256: NEW.digests[SHA256]})
        part = predicted(log, [OLD], [bare])
        assert reasons(part) == {0: "/boot/skl_80.bin has no sha1 digest"}

    @pytest.mark.parametrize("data", [b"", b"\1\2\0\0", b"\2\2\0\0\0"])
    def test_what_was_asked_for_where_no_data_proves_it(self, data: bytes) -> None:
        change = mle(SHA256, b"tboot 1.10.5")
        log = [
            (replace(each, untrusted_data=data), digest)
            if each.untrusted_type == 0x40F
            else (each, digest)
            for each, digest in logged(SKYLAKE_79, 0x202)
        ]
        assert reasons(predicted(log, [OLD], [OLD], UPDATE, change)) == {
            3: "OSSINITDATA_CAP_HASH (event 3) has no data that tells what SINIT was "
            "asked for",
            7: "OSSINITDATA_CAP_HASH (event 7) has no data that tells what SINIT was "
            "asked for",
        }

    def test_what_the_rule_refuses(self) -> None:
        change = mle(SHA256, b"tboot 1.10.5")
        part = predicted(logged(SKYLAKE_79, 0x221), [OLD], [OLD], UPDATE, change)
        assert set(reasons(part)) == set(CAPABILITIES)
        assert "0x221 was asked for" in reasons(part)[3]


class TestTrenchBoot:
    RULE = GrubRule(is_tpm2=True)

    def test_asks_for_the_same_with_another_mle(self) -> None:
        log = [
            (replace(each, untrusted_data=b""), digest)
            for each, digest in logged(SKYLAKE_79, 0x226)
        ]
        part = predicted(log, [OLD], [OLD], self.RULE, mle(SHA256, b"Xen"))
        assert next_digests(part) == digests(log)

    def test_asks_another_module_by_its_generation(self) -> None:
        comet = replace(SKYLAKE_80, capabilities=0x77E)
        part = predicted(
            *(logged(SKYLAKE_79, 0x326), [OLD], [facts("/boot/c.bin", comet)]),
            self.RULE,
        )
        assert next_digests(part) == digests(logged(comet, 0x736))


def combined(
    control: int = 0,
    policy: bytes = bytes(20),
    word: int = 0,
    scrtm: bytes = bytes(4),
    stm: bytes = bytes(20),
) -> bytes:
    """TPM 1.2's combined data, 80 bytes or without `scrtm` 76."""
    return (
        bytes.fromhex("800000002008051500002a4000000000ffffffff")
        + bytes(8)
        + stm
        + control.to_bytes(4, "little")
        + policy
        + word.to_bytes(4, "little")
        + scrtm
    )


OLD_MLE, NEW_MLE = hashed(SHA1, b"old tboot"), hashed(SHA1, b"new tboot")
OTHER_MLE = MleChange(Digest(SHA1, OLD_MLE), Digest(SHA1, NEW_MLE))
TPM12 = TbootRule(TBOOT_1_9_12, TBOOT_1_10_5, is_tpm2=False)


def after_update(data: bytes, change: MleChange = OTHER_MLE) -> Digest | str:
    """The combined event after an update of tboot, or why it is refused."""
    bank = change.before.algorithm
    log = [event(5, 0x403, 17, hashed(bank, data), data, bank)]
    (extend,) = next_sinit(log, before=(), after=(), mle=change, rule=TPM12).extends
    return extend.digest or extend.reason or ""


class TestCombinedEvent:
    """0x403, TPM 1.2 with the legacy map: most of Qubes' older laptops."""

    @pytest.mark.parametrize("scrtm", [b"", bytes(4), b"\1\0\0\0"])
    def test_does_not_change_with_tboot_where_tboot_is_not_in_it(
        self, scrtm: bytes
    ) -> None:
        data = combined(scrtm=scrtm)
        assert after_update(data) == SHA1.hash(data)
        listed = combined(policy=hashed(SHA1, b"a list of others"), scrtm=scrtm)
        assert after_update(listed) == SHA1.hash(listed)

    def test_follows_tboots_hash_where_the_policy_holds_it(self) -> None:
        data = combined(policy=OLD_MLE)
        assert after_update(data) == SHA1.hash(combined(policy=NEW_MLE))

    def test_follows_what_is_asked_for_where_the_policy_says_so(self) -> None:
        data = combined(control=2, word=0x2, policy=OLD_MLE, scrtm=b"")
        expected = combined(control=2, word=0x402, policy=NEW_MLE, scrtm=b"")
        assert after_update(data) == SHA1.hash(expected)

    def test_is_repeated_when_nothing_of_it_changes(self) -> None:
        same = MleChange(OTHER_MLE.before, OTHER_MLE.before)
        odd = b"no such data"
        assert after_update(odd, same) == SHA1.hash(odd)

    def test_follows_another_modules_wake_up(self) -> None:
        server = facts("/boot/s.bin", replace(SKYLAKE_80, capabilities=0x36D))
        start = logged(SKYLAKE_79, bank=SHA1)[0]
        data = combined(control=2, word=0x402, policy=OLD_MLE)
        log = [start, event(5, 0x403, 17, hashed(SHA1, data), data, SHA1)]
        same = MleChange(OTHER_MLE.before, OTHER_MLE.before)
        rule = TbootRule(TBOOT_1_10_5, TBOOT_1_10_5, is_tpm2=False)
        part = predicted(log, [OLD], [server], rule, same)
        expected = combined(control=2, word=0x401, policy=OLD_MLE)
        assert part.extends[1].digest == SHA1.hash(expected)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "has no data that tells what changes in it"),
            (combined()[:-1], "has no data that tells what changes in it"),
            (combined(word=0x402), "holds capabilities that its policy leaves out"),
            (
                combined(policy=OLD_MLE, stm=OLD_MLE),
                "holds the running MLE's hash where none is expected",
            ),
            (
                combined(stm=OLD_MLE),
                "holds the running MLE's hash where none is expected",
            ),
        ],
    )
    def test_is_refused_where_it_is_not_plain(self, data: bytes, reason: str) -> None:
        assert after_update(data) == f"COMBINED_HASH (event 5) {reason}"

    def test_is_refused_where_the_rule_is(self) -> None:
        answer = after_update(combined(control=2, word=0x602))
        assert isinstance(answer, str)
        assert answer.endswith("and 0x602 was asked for")

    def test_is_refused_where_its_data_is_not_what_was_hashed(self) -> None:
        log = [event(5, 0x403, 17, hashed(SHA1, b"other"), combined(), SHA1)]
        part = next_sinit(log, before=(), after=(), mle=OTHER_MLE, rule=TPM12)
        assert reasons(part) == {
            0: "COMBINED_HASH (event 5) has no data that tells what changes in it"
        }

    def test_is_refused_in_another_bank_where_a_hash_may_be_the_mles(self) -> None:
        change = MleChange(SHA256.hash(b"old tboot"), SHA256.hash(b"new tboot"))
        assert after_update(combined(), change) == SHA256.hash(combined())
        assert after_update(combined(policy=OLD_MLE), change) == (
            "COMBINED_HASH (event 5) holds a SHA-1 digest, which may be the running "
            "MLE's"
        )

    @needs_vectors
    def test_of_the_x200_follows_tboots_hash(self) -> None:
        vectors = json.loads((VECTORS / "drtm/tboot-vectors.json").read_text())
        (x200,) = (each for each in vectors if each["id"].startswith("X200"))
        names = ("bios_acm_id", "mseg", "stm", "lcp_control", "lcp_policy_hash", "caps")
        data = b"".join(bytes.fromhex(x200[name]) for name in names)
        old = bytes.fromhex(x200["mle_hash"])
        change = MleChange(Digest(SHA1, old), Digest(SHA1, NEW_MLE))
        assert after_update(data, change) == SHA1.hash(data.replace(old, NEW_MLE))
        assert data.count(old) == 1


class TestTheTpmsKind:
    def test_is_told_by_a_bank_or_by_an_event(self) -> None:
        assert is_tpm2(logged(SKYLAKE_79, bank=SHA256)) is True
        assert is_tpm2(logged(SKYLAKE_79, bank=SHA1)) is True
        start = logged(SKYLAKE_79, bank=SHA1)[0]
        assert is_tpm2([start]) is None
        lcp = event(1, 0x403, 17, bytes(20), combined(), SHA1)
        assert is_tpm2([start, lcp]) is False

    @needs_vectors
    @pytest.mark.parametrize(
        ("name", "bank", "kind"),
        [
            ("rebuilt_E5470_A_tpm20_tcg.bin", SHA256, True),
            ("rebuilt_T460p_tpm12.bin", SHA1, False),
            ("isecl-txt-logs-trimmed.bin", SHA256, True),
        ],
    )
    def test_of_real_machines(self, name: str, bank: HashAlgorithm, kind: bool) -> None:
        log = parse_event_log((VECTORS / "drtm" / name).read_bytes())
        extends = replay(log).extends
        assert is_tpm2([(each, it[bank]) for each, it in extends if bank in it]) is kind


@needs_vectors
def test_a_tboot_update_moves_the_e5470_from_0x202_to_0x602_and_back() -> None:
    name = "drtm/rebuilt_E5470_A_tpm20_tcg.bin"
    log = parse_event_log((VECTORS / name).read_bytes())
    part = [
        (each, it[SHA256])
        for each, it in replay(log).extends
        if each.untrusted_type != 0x501
    ]
    back = TbootRule(TBOOT_1_10_5, TBOOT_1_9_12, is_tpm2(part))
    change = mle(SHA256, b"tboot 1.9.12")
    answer = next_sinit(part, before=(), after=(), mle=change, rule=back)
    changed = [each for each in answer.extends if not each.is_carried]
    assert [(each.logged[0].pcr, each.digest) for each in changed] == [
        (17, SHA256.hash(b"\2\2\0\0")),
        (18, SHA256.hash(b"\2\2\0\0")),
    ]
