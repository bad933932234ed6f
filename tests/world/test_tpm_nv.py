# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading NV indices that others defined, without a password and without a trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tpm_sim.swtpm import Swtpm
from unsealer import lockout_count

from aemseal.words.errors import TpmError
from aemseal.world.tpm import Hierarchy, Tpm
from aemseal.world.tpm_nv import read_nv

# isort: split
# tpm2-pytss only after world/tpm.py, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2B_NV_PUBLIC, TPMA_NV

pytestmark = pytest.mark.tpm

INDEX = 0x01C10131
POLICY = bytes(range(251)) * 3
PASSWORD = b"the password of somebody else"


@pytest.fixture
def tpm() -> Iterator[Tpm]:
    with Swtpm() as chip:
        chip.power_on()
        with Tpm(chip.tcti) as tpm:
            yield tpm


def define(
    tpm: Tpm, attributes: str, data: bytes = POLICY, password: bytes = b""
) -> None:
    """Define INDEX; with data, write it by the owner's authorisation."""
    public = TPM2B_NV_PUBLIC()
    public.nvPublic.nvIndex = INDEX
    public.nvPublic.nameAlg = 0x0B
    public.nvPublic.attributes = TPMA_NV.parse(f"ownerwrite|{attributes}")
    public.nvPublic.dataSize = len(POLICY)
    index = tpm.esapi.nv_define_space(auth=password, public_info=public)
    for at in range(0, len(data), 512):
        tpm.esapi.nv_write(
            nv_index=index,
            data=data[at : at + 512],
            offset=at,
            auth_handle=ESYS_TR.OWNER,
        )
    tpm.esapi.tr_close(index)


class TestReading:
    @pytest.mark.parametrize("attributes", ["authread", "ownerread", "authread|noda"])
    def test_whoever_may_read_without_a_password_does(
        self, tpm: Tpm, attributes: str
    ) -> None:
        define(tpm, attributes)
        assert read_nv(tpm, INDEX) == POLICY
        assert read_nv(tpm, INDEX) == POLICY

    def test_one_that_is_not_defined_is_none(self, tpm: Tpm) -> None:
        assert read_nv(tpm, INDEX) is None
        define(tpm, "authread")
        assert read_nv(tpm, INDEX - 1) is None
        assert read_nv(tpm, INDEX + 1) is None

    def test_one_that_was_never_written_is_none(self, tpm: Tpm) -> None:
        define(tpm, "authread", data=b"")
        assert read_nv(tpm, INDEX) is None

    def test_the_owners_password_does_not_stand_in_the_way(self, tpm: Tpm) -> None:
        define(tpm, "authread|ownerread")
        owned_by_somebody(tpm)
        assert read_nv(tpm, INDEX) == POLICY
        assert lockout_count(tpm.esapi) == 0

    @pytest.mark.parametrize("index", [0x81000001, 0x00FFFFFF, 0x02000000, 17, -1])
    def test_nothing_but_an_index_can_be_asked_for(self, tpm: Tpm, index: int) -> None:
        with pytest.raises(ValueError, match="is no NV index"):
            read_nv(tpm, index)


class TestRefusals:
    def test_one_with_a_password_is_named(self, tpm: Tpm) -> None:
        define(tpm, "authread|noda", password=PASSWORD)
        with pytest.raises(
            TpmError, match="0x01c10131 may not be read without"
        ) as told:
            read_nv(tpm, INDEX)
        assert "tpm2_nvreadpublic 0x01c10131" in (told.value.hint or "")

    def test_where_the_owner_may_read_its_password_costs_no_attempt(
        self, tpm: Tpm
    ) -> None:
        define(tpm, "authread|ownerread", password=PASSWORD)
        assert read_nv(tpm, INDEX) == POLICY
        assert lockout_count(tpm.esapi) == 0

    @pytest.mark.parametrize("attributes", ["policyread", "ppread", "ownerread"])
    def test_one_that_others_alone_may_read_is_not_tried(
        self, tpm: Tpm, attributes: str
    ) -> None:
        define(tpm, attributes)
        owned_by_somebody(tpm)
        with pytest.raises(TpmError, match="may not be read without a password"):
            read_nv(tpm, INDEX)
        assert lockout_count(tpm.esapi) == 0

    def test_another_refusal_is_the_tpms_own(self, tpm: Tpm) -> None:
        define(tpm, "authread|read_stclear")
        index = tpm.esapi.tr_from_tpmpublic(handle=INDEX)
        tpm.esapi.nv_read_lock(nv_index=index, auth_handle=index)
        with pytest.raises(TpmError, match="the TPM refused NV_Read: "):
            read_nv(tpm, INDEX)


def owned_by_somebody(tpm: Tpm) -> None:
    with tpm.session() as session:
        tpm.change_auth(Hierarchy.OWNER, PASSWORD, session)
    tpm.set_auth(Hierarchy.OWNER, b"")
