# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies and Names computed here are the ones that a TPM computes."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tpm_sim.swtpm import Swtpm
from unsealer import connected, digest_list

from aemseal.formats.tpm_policy import (
    COUNTER_ATTRIBUTES,
    EccPoint,
    approval_digest,
    counter_name,
    counter_public,
    name_of,
    policy_auth_value,
    policy_authorize,
    policy_nv_equal,
    policy_or,
    policy_pcr,
    policy_ref,
    signing_key_public,
)
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.world.signing import SigningKey
from aemseal.world.tpm import NV_RANGE, Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_EO,
    TPM2_SE,
    TPM2B_DIGEST,
    TPM2B_PUBLIC,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
)

COUNTER = NV_RANGE.start
SHA1, SHA256, SHA384 = HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA384
BANKS = (SHA1, SHA256, SHA384)
BRANCHES = [hashlib.sha256(bytes([number])).digest() for number in range(9)]
NULL_KEY = EccPoint(bytes(32), bytes(32))


@pytest.fixture(scope="module")
def chip() -> Iterator[Swtpm]:
    """A launched TPM with three banks and our counter, counted up to 1 or more."""
    with Swtpm(banks=BANKS) as chip:
        chip.power_on()
        chip.hash_sequence(b"SINIT")
        for pcr in (13, 17, 18):
            chip.extend(
                [(pcr, {bank: bank.hash(bytes([pcr])) for bank in BANKS})], locality=2
            )
        with Tpm(chip.tcti) as tpm, tpm.session() as session:
            tpm.define_counter(COUNTER, session)
            tpm.increment(COUNTER, session)
        yield chip


def trial(chip: Swtpm, steps: Callable[[Any, Any], None]) -> bytes:
    """Run policy commands in a trial session; return the TPM's policy digest."""
    with connected(chip.tcti) as esapi:
        session = esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.TRIAL,
            symmetric="null",
            auth_hash=TPM2_ALG.SHA256,
        )
        try:
            steps(esapi, session)
            return bytes(esapi.policy_get_digest(policy_session=session))
        finally:
            esapi.flush_context(flush_handle=session)


def loaded_key(esapi: Any, key: SigningKey) -> Any:
    area, _ = TPMT_PUBLIC.unmarshal(key.public)
    return esapi.load_external(
        in_public=TPM2B_PUBLIC(publicArea=area), hierarchy=ESYS_TR.OWNER
    )


@pytest.mark.tpm
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("pcrs", [{17}, {13, 17, 18}, {0, 7, 8, 13, 17, 23}])
def test_policy_pcr_is_the_tpms(
    chip: Swtpm, bank: HashAlgorithm, pcrs: set[int]
) -> None:
    selection = PcrSelection.of(bank, pcrs)
    values = chip.read_pcrs(bank)

    def steps(esapi: Any, session: Any) -> None:
        esapi.policy_pcr(policy_session=session, pcr_digest=b"", pcrs=str(selection))

    assert policy_pcr(selection, values) == trial(chip, steps)


@pytest.mark.tpm
@pytest.mark.parametrize("number", range(2, 9))
def test_policy_or_is_the_tpms(chip: Swtpm, number: int) -> None:
    branches = BRANCHES[:number]

    def steps(esapi: Any, session: Any) -> None:
        esapi.policy_or(policy_session=session, p_hash_list=digest_list(branches))

    assert policy_or(branches) == trial(chip, steps)


@pytest.mark.tpm
def test_a_lone_branch_twice_is_an_or_that_the_tpm_takes(chip: Swtpm) -> None:
    branches = BRANCHES[:1] * 2

    def steps(esapi: Any, session: Any) -> None:
        esapi.policy_or(policy_session=session, p_hash_list=digest_list(branches))

    assert policy_or(branches) == trial(chip, steps)


@pytest.mark.parametrize("number", [0, 1, 9])
def test_policy_or_takes_two_to_eight(number: int) -> None:
    with pytest.raises(ValueError, match="2 to 8"):
        policy_or(BRANCHES[:number])


@pytest.mark.tpm
@pytest.mark.parametrize("count", [0, 1, 7, 2**32, 2**63 - 1])
def test_policy_nv_is_the_tpms(chip: Swtpm, count: int) -> None:
    def steps(esapi: Any, session: Any) -> None:
        index = esapi.tr_from_tpmpublic(handle=COUNTER)
        esapi.policy_or(policy_session=session, p_hash_list=digest_list(BRANCHES[:2]))
        esapi.policy_nv(
            auth_handle=index,
            nv_index=index,
            policy_session=session,
            operand_b=count.to_bytes(8, "big"),
            operation=TPM2_EO.EQ,
            offset=0,
        )

    computed = policy_nv_equal(policy_or(BRANCHES[:2]), counter_name(COUNTER), count)
    assert computed == trial(chip, steps)


@pytest.mark.tpm
def test_policy_authorize_and_auth_value_are_the_tpms(chip: Swtpm) -> None:
    key, approved, reference = SigningKey.generate(), BRANCHES[0], policy_ref(3, "a")

    def steps(esapi: Any, session: Any) -> None:
        handle = loaded_key(esapi, key)
        signature, _ = TPMT_SIGNATURE.unmarshal(
            key.sign(approval_digest(approved, reference))
        )
        ticket = esapi.verify_signature(
            key_handle=handle,
            digest=TPM2B_DIGEST(approval_digest(approved, reference)),
            signature=signature,
        )
        name = bytes(esapi.tr_get_name(handle=handle))
        esapi.flush_context(flush_handle=handle)
        esapi.policy_authorize(
            policy_session=session,
            approved_policy=approved,
            policy_ref=reference,
            key_sign=name,
            check_ticket=ticket,
        )
        esapi.policy_auth_value(policy_session=session)

    computed = policy_auth_value(policy_authorize(name_of(key.public), reference))
    assert computed == trial(chip, steps)


@pytest.mark.tpm
def test_the_counters_name_is_the_tpms_before_and_after_the_first_count() -> None:
    def name(tpm: Tpm) -> bytes:
        index = tpm.esapi.tr_from_tpmpublic(handle=COUNTER)
        return bytes(tpm.esapi.tr_get_name(handle=index))

    with Swtpm() as chip:
        chip.power_on()
        with Tpm(chip.tcti) as tpm, tpm.session() as session:
            tpm.define_counter(COUNTER, session)
            assert name(tpm) == name_of(counter_public(COUNTER, written=False))
            tpm.increment(COUNTER, session)
            assert name(tpm) == counter_name(COUNTER)


@pytest.mark.tpm
def test_the_keys_name_is_the_tpms(chip: Swtpm) -> None:
    key = SigningKey.generate()
    with connected(chip.tcti) as esapi:
        handle = loaded_key(esapi, key)
        found = bytes(esapi.tr_get_name(handle=handle))
        esapi.flush_context(flush_handle=handle)
    assert name_of(key.public) == found


@pytest.mark.tpm
def test_tpm2_tools_compute_the_same_policies(chip: Swtpm, tmp_path: Path) -> None:
    """What the hook will run agrees too: PolicyPCR, PolicyOR and PolicyNV."""
    environment = {**os.environ, "TPM2TOOLS_TCTI": chip.tcti, "TSS2_LOG": "all+none"}
    values = chip.read_pcrs(SHA256)
    selection = PcrSelection.of(SHA256, {13, 17, 18})

    def tool(*words: str) -> None:
        subprocess.run(
            words,
            check=True,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    pcrs = policy_pcr(selection, values)
    (tmp_path / "one").write_bytes(pcrs)
    (tmp_path / "other").write_bytes(BRANCHES[0])
    (tmp_path / "seven").write_bytes((7).to_bytes(8, "big"))
    tool("tpm2_startauthsession", "-S", "session")
    tool("tpm2_policypcr", "-S", "session", "-l", str(selection), "-L", "pcr")
    assert (tmp_path / "pcr").read_bytes() == pcrs
    tool("tpm2_policyor", "-S", "session", "-l", "sha256:one,other", "-L", "or")
    either = policy_or([pcrs, BRANCHES[0]])
    assert (tmp_path / "or").read_bytes() == either
    index = f"0x{COUNTER:08x}"
    words = ("-C", index, "-i", "seven", "-L", "nv", index, "eq")
    tool("tpm2_policynv", "-S", "session", *words)
    tool("tpm2_flushcontext", "session")
    computed = policy_nv_equal(either, counter_name(COUNTER), 7)
    assert (tmp_path / "nv").read_bytes() == computed


def test_a_selected_pcr_without_a_value_of_the_bank_is_an_error() -> None:
    selection = PcrSelection.of(SHA256, {13, 17})
    with pytest.raises(ValueError, match="PCR 17"):
        policy_pcr(selection, {13: SHA256.zero()})
    with pytest.raises(ValueError, match="PCR 13"):
        policy_pcr(selection, {13: SHA1.zero(), 17: SHA256.zero()})


def test_every_pcr_and_every_value_changes_the_policy() -> None:
    selection = PcrSelection.of(SHA256, {13, 17, 18})
    values = {pcr: SHA256.hash(bytes([pcr])) for pcr in selection.pcrs}
    digests = {policy_pcr(selection, values)}
    for pcr in selection.pcrs:
        digests.add(policy_pcr(selection, {**values, pcr: SHA256.zero()}))
    digests.add(policy_pcr(PcrSelection.of(SHA256, {13, 17}), values))
    assert len(digests) == 5


def test_policy_refs_differ_by_generation_and_medium() -> None:
    pairs = [(1, "a"), (1, "b"), (2, "a"), (11, "a"), (1, "1"), (1, "a-1")]
    assert len({policy_ref(*each) for each in pairs}) == len(pairs)


def test_the_policy_ref_is_the_documented_one() -> None:
    line = b"aemseal policy-ref 1 1 internal"
    assert policy_ref(1, "internal") == hashlib.sha256(line).digest()


def test_the_counter_goes_up_by_the_owner_and_is_read_with_an_empty_password() -> None:
    # TPMA_NV: OWNERWRITE bit 1, TPM_NT_COUNTER in bits 7:4, AUTHREAD 18, NO_DA 25
    assert COUNTER_ATTRIBUTES == 0x02040012


def test_coordinates_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        EccPoint(bytes(31), bytes(32))
    assert len(signing_key_public(NULL_KEY)) == 88


def test_digests_of_the_wrong_size_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Digest(SHA256, bytes(20))
