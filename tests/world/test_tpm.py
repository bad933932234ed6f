# SPDX-License-Identifier: GPL-2.0-or-later
"""What the TPM says, what it refuses, and how a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tpm_sim.swtpm import Swtpm
from unsealer import connected
from vault_world import Wire

from aemseal.formats.tpm_policy import counter_public
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import BankError, LockoutError, TpmChangedError, TpmError
from aemseal.world.seam import Seam
from aemseal.world.tpm import NV_RANGE, Hierarchy, Tpm, TpmRefusedError

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESYS_TR,
    TPM2B_NV_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMS_SENSITIVE_CREATE,
    PyTCTI,
)

pytestmark = pytest.mark.tpm

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
COUNTER = NV_RANGE.start
OWNER = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def chip() -> Iterator[Swtpm]:
    with Swtpm() as chip:
        chip.power_on()
        yield chip


@pytest.fixture
def tpm(chip: Swtpm) -> Iterator[Tpm]:
    with Tpm(chip.tcti) as tpm:
        yield tpm


# --- no TPM, and one that goes away ---


@pytest.mark.parametrize(
    "tcti", ["swtpm:path=/nonexistent/tpm", "device:/nonexistent/tpm0", "no-such-tcti"]
)
def test_where_no_tpm_answers_the_person_is_told_what_to_look_at(tcti: str) -> None:
    with pytest.raises(TpmError, match=f"^no TPM answers at {tcti}$") as told:
        Tpm(tcti)
    assert told.value.exit_code == 5
    assert told.value.hint is not None
    assert "firmware" in told.value.hint


def test_a_tpm_that_goes_away_does_not_answer(chip: Swtpm) -> None:
    tpm = Tpm(chip.tcti)
    chip.power_cut()
    with pytest.raises(TpmError, match="did not answer PCR_Read"):
        tpm.pcrs(SHA256)
    tpm.close()


# --- PCRs ---


def test_all_pcrs_of_a_bank_are_read(chip: Swtpm) -> None:
    chip.hash_sequence(b"SINIT")
    chip.extend([(18, {SHA256: SHA256.hash(b"xen")})], locality=2)
    chip.extend([(13, {SHA256: SHA256.hash(b"header")})], locality=0)
    known = chip.read_pcrs(SHA256)
    with Tpm(chip.tcti) as tpm:
        assert tpm.pcrs(SHA256).values == known
    assert len(known) == 24


@pytest.mark.parametrize("algorithm", [SHA1, HashAlgorithm.SHA512])
def test_a_bank_that_is_not_allocated_is_named(
    tpm: Tpm, algorithm: HashAlgorithm
) -> None:
    with pytest.raises(BankError, match=f"^the TPM has no {algorithm} bank$") as told:
        tpm.pcrs(algorithm)
    assert told.value.hint is not None
    assert "tpm2_getcap pcrs" in told.value.hint


def test_a_bank_that_the_tpm_has_never_heard_of_is_named(tpm: Tpm) -> None:
    with pytest.raises(BankError, match=r"^the TPM has no sm3_256 bank$"):
        tpm.pcrs(HashAlgorithm.SM3_256)


class Meddler(Seam):
    """Extends a PCR after each of the first reads."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.tpm: Tpm | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        yield
        if what == "PCR_Read" and self.left and self.tpm is not None:
            self.left -= 1
            self.tpm.esapi.pcr_event(pcr_handle=ESYS_TR.PCR0, event_data=b"meddled")


def meddled(chip: Swtpm, times: int) -> Any:
    seam = Meddler(times)
    with Tpm(chip.tcti, seam) as tpm:
        seam.tpm = tpm
        return tpm.pcrs(SHA256)


def test_pcrs_that_change_under_the_reading_are_read_again(chip: Swtpm) -> None:
    seen = meddled(chip, 3)
    assert seen.values == chip.read_pcrs(SHA256)


def test_pcrs_that_never_hold_still_are_not_told(chip: Swtpm) -> None:
    with pytest.raises(TpmError, match="change faster"):
        meddled(chip, 100)


# --- what the TPM says of itself ---


def test_resets_are_counted(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm:
        before = tpm.reset_count()
    chip.power_cut()
    chip.power_on()
    with Tpm(chip.tcti) as tpm:
        assert tpm.reset_count() > before


@pytest.mark.parametrize("hierarchy", list(Hierarchy))
def test_which_authorisations_are_set(tpm: Tpm, hierarchy: Hierarchy) -> None:
    before = tpm.permanent()
    assert not before.owner_auth_set
    assert not before.lockout_auth_set
    with tpm.session() as session:
        tpm.change_auth(hierarchy, OWNER, session)
    after = tpm.permanent()
    assert after.owner_auth_set == (hierarchy is Hierarchy.OWNER)
    assert after.lockout_auth_set == (hierarchy is Hierarchy.LOCKOUT)
    assert not after.in_lockout


def lock_out(esapi: Any) -> Any:
    """Guess a guarded key's password until the TPM has enough; return the key."""
    key, *_ = esapi.create_primary(
        in_sensitive=TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"right")),
        in_public="rsa2048",
        primary_handle=ESYS_TR.OWNER,
    )
    esapi.tr_set_auth(esys_handle=key, auth_value=b"wrong")
    for _ in range(10):
        with pytest.raises(Exception, match="tpm:"):
            use(esapi, key)
    return key


def use(esapi: Any, key: Any) -> None:
    esapi.create(parent_handle=key, in_sensitive=None, in_public="ecc")


def test_lockout_is_told_apart(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm:
        key = lock_out(tpm.esapi)
        assert tpm.permanent().in_lockout
        with pytest.raises(LockoutError, match="lockout") as told:
            tpm.run(
                "Create",
                tpm.esapi.create,
                parent_handle=key,
                in_sensitive=None,
                in_public="ecc",
            )
        assert told.value.exit_code == 5


def test_handles_are_listed_from_the_first_on_and_no_further(tpm: Tpm) -> None:
    wanted = {NV_RANGE[0], NV_RANGE[2], NV_RANGE[15]}
    with tpm.session() as session:
        for handle in wanted:
            tpm.define_counter(handle, session)
    assert tpm.handles(NV_RANGE.start, len(NV_RANGE)) == wanted
    assert tpm.handles(NV_RANGE[1], 2) == {NV_RANGE[2]}
    assert tpm.handles(NV_RANGE[1], 1) == set()


# --- the counter ---


def test_the_counter_counts_up_by_one_and_keeps_its_value(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm, tpm.session() as session:
        tpm.define_counter(COUNTER, session)
        tpm.increment(COUNTER, session)
        first = tpm.count(COUNTER, session)
        tpm.increment(COUNTER, session)
        assert tpm.count(COUNTER, session) == first + 1
    chip.power_cut()
    chip.power_on()
    with Tpm(chip.tcti) as tpm, tpm.session() as session:
        assert tpm.count(COUNTER, session) == first + 1


def test_a_counter_made_anew_never_goes_back(tpm: Tpm) -> None:
    last = -1
    with tpm.session() as session:
        for _ in range(3):
            tpm.define_counter(COUNTER, session)
            for _ in range(3):
                tpm.increment(COUNTER, session)
                count = tpm.count(COUNTER, session)
                assert count > last
                last = count
            tpm.undefine_counter(COUNTER, session)


def test_taking_away_a_counter_that_is_gone_is_no_error(tpm: Tpm) -> None:
    with tpm.session() as session:
        tpm.undefine_counter(COUNTER, session)


def test_a_counter_that_is_gone_is_told_apart_from_a_changed_boot(tpm: Tpm) -> None:
    with (
        tpm.session() as session,
        pytest.raises(TpmChangedError, match=r"0x01a10ae0 is gone$") as told,
    ):
        tpm.count(COUNTER, session)
    assert told.value.exit_code == 4
    assert told.value.hint is not None
    assert "says nothing of the boot files" in told.value.hint


def test_a_counter_never_counted_is_not_ours(tpm: Tpm) -> None:
    with tpm.session() as session:
        tpm.define_counter(COUNTER, session)
        with pytest.raises(TpmChangedError, match="is not the counter made at enrol"):
            tpm.count(COUNTER, session)


@pytest.mark.parametrize(
    "attributes",
    [
        0x02040002,  # an ordinary index, written with the number by its owner
        0x02040012 | 1 << 2,  # a counter that anyone with its password counts
        0x00040012,  # a counter without NO_DA
        0x02060012,  # a counter that the owner may read, too
    ],
)
def test_an_index_with_other_attributes_is_not_ours(tpm: Tpm, attributes: int) -> None:
    area = bytearray(counter_public(COUNTER, written=False))
    area[6:10] = attributes.to_bytes(4, "big")
    public, _ = TPM2B_NV_PUBLIC.unmarshal(b"\0\x0e" + bytes(area))
    index = tpm.esapi.nv_define_space(auth=b"", public_info=public)
    if attributes & 0x10:
        tpm.esapi.nv_increment(nv_index=index, auth_handle=ESYS_TR.OWNER)
    else:
        tpm.esapi.nv_write(
            nv_index=index, data=(7).to_bytes(8, "big"), auth_handle=ESYS_TR.OWNER
        )
    with (
        tpm.session() as session,
        pytest.raises(TpmChangedError, match="is not the counter made at enrol"),
    ):
        tpm.count(COUNTER, session)


def test_without_the_owners_authorisation_nothing_is_counted(chip: Swtpm) -> None:
    with Tpm(chip.tcti) as tpm, tpm.session() as session:
        tpm.define_counter(COUNTER, session)
        tpm.increment(COUNTER, session)
        tpm.change_auth(Hierarchy.OWNER, OWNER, session)
    with Tpm(chip.tcti) as tpm, tpm.session() as session:
        tpm.set_auth(Hierarchy.OWNER, b"a guess")
        for attempt in (tpm.increment, tpm.undefine_counter):
            with pytest.raises(TpmRefusedError) as refused:
                attempt(COUNTER, session)
            assert refused.value.is_wrong_authorisation
            assert refused.value.code == 0x9A2  # TPM_RC_BAD_AUTH, session 1


# --- the bus, and errors on their way ---


def test_authorisation_values_stay_off_the_bus(chip: Swtpm) -> None:
    wire = Wire(chip.tcti)
    tcti: Any = wire
    with Tpm(tcti) as tpm:
        key, *_ = tpm.esapi.create_primary(
            in_sensitive=None, in_public="ecc", primary_handle=ESYS_TR.OWNER
        )
        with tpm.session(key) as session:
            tpm.change_auth(Hierarchy.OWNER, OWNER, session)
            tpm.define_counter(COUNTER, session)
            tpm.increment(COUNTER, session)
        tpm.esapi.flush_context(flush_handle=key)
    assert len(wire.heard) > 10
    assert not wire.tells(OWNER)


def test_the_listener_hears_what_is_not_encrypted(chip: Swtpm) -> None:
    """The listener of the other tests is no deaf one."""
    wire = Wire(chip.tcti)
    tcti: Any = wire
    with connected(tcti) as esapi:
        esapi.hierarchy_change_auth(auth_handle=ESYS_TR.OWNER, new_auth=OWNER)
    assert wire.tells(OWNER)


class Answering(PyTCTI):  # type: ignore[misc] # tpm2-pytss has no types
    """A TPM that answers everything with one response code."""

    def __init__(self, code: int) -> None:
        self.answer = b"\x80\x01\0\0\0\x0a" + code.to_bytes(4, "big")
        super().__init__()

    def do_transmit(self, command: bytes) -> None:
        assert len(command) >= 10

    def do_receive(self, timeout: int) -> bytes:
        return self.answer


def answered(code: int) -> TpmError:
    tcti: Any = Answering(code)
    with Tpm(tcti) as tpm, pytest.raises(TpmError) as told:
        tpm.reset_count()
    return told.value


@pytest.mark.parametrize("layer", [0, 11, 12], ids=["TPM", "kernel", "tabrmd"])
def test_a_resource_manager_passes_the_tpms_refusals_on(layer: int) -> None:
    refused = answered(layer << 16 | 0x143)
    assert isinstance(refused, TpmRefusedError)
    assert refused.code == 0x143
    assert refused.message == "the TPM refused ReadClock with 0x143"
    assert isinstance(answered(layer << 16 | 0x921), LockoutError)


@pytest.mark.parametrize("layer", [6, 7, 8, 9, 10])
def test_an_error_of_the_software_is_not_the_tpms_refusal(layer: int) -> None:
    told = answered(layer << 16 | 0x5)
    assert not isinstance(told, TpmRefusedError)
    assert told.message.startswith("the TPM did not answer ReadClock (TSS error 0x")


@pytest.mark.parametrize(
    ("code", "wrong", "missing"),
    [
        (0x98E, True, False),  # TPM_RC_AUTH_FAIL, session 1
        (0x9A2, True, False),  # TPM_RC_BAD_AUTH, session 1
        (0x18B, False, True),  # TPM_RC_HANDLE, handle 1
        (0x28B, False, True),  # TPM_RC_HANDLE, handle 2
        (0x99D, False, False),  # TPM_RC_POLICY_FAIL, session 1
        (0x126, False, False),  # TPM_RC_POLICY (format 0)
        (0x10B, False, False),  # format 0: not TPM_RC_HANDLE, though it ends alike
        (0x14A, False, False),  # TPM_RC_NV_UNINITIALIZED
    ],
)
def test_refusals_are_told_apart(code: int, *, wrong: bool, missing: bool) -> None:
    refused = TpmRefusedError("Command", code)
    assert refused.is_wrong_authorisation == wrong
    assert refused.is_missing_handle == missing


def test_every_command_passes_the_seam(chip: Swtpm) -> None:
    """Commands on the bus and steps at the seam: as many of the one as of the other."""

    class Counting(Seam):
        steps = 0

        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            self.steps += 1
            yield

    wire, seam = Wire(chip.tcti), Counting()
    tcti: Any = wire
    with Tpm(tcti, seam) as tpm, tpm.session() as session:
        before, steps = len(wire.heard), seam.steps
        tpm.pcrs(SHA256)
        tpm.permanent()
        tpm.reset_count()
        tpm.define_counter(COUNTER, session)
        tpm.increment(COUNTER, session)
        tpm.count(COUNTER, session)
        tpm.undefine_counter(COUNTER, session)
        heard = (len(wire.heard) - before) // 2
        assert seam.steps - steps == heard
