# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulated TPM: power, memory, localities, and the processor's hash sequence."""

from __future__ import annotations

import hashlib
import re

import pytest
import tpm2_pytss
from tpm2_tools import read_pcrs, run, tool
from tpm_sim import wire
from tpm_sim.errors import SimulationError
from tpm_sim.swtpm import LOCALITY_LAUNCHED, LOCALITY_OS, Swtpm

from aemseal.words.digest import HashAlgorithm

DYNAMIC = range(17, 23)
SHA256 = HashAlgorithm.SHA256


def orderly(tpm: Swtpm) -> bool:
    """Whether the TPM was told of the last power-off (TPMA_STARTUP_CLEAR.orderly)."""
    text = tool(tpm.tcti, "tpm2_getcap", "properties-variable")
    found = re.search(r"orderly: +(\d)", text)
    assert found
    return found[1] == "1"


class TestPower:
    def test_an_orderly_power_off_is_known_to_the_next_startup(
        self, tpm: Swtpm
    ) -> None:
        tpm.power_off()
        tpm.power_on()
        assert orderly(tpm)

    def test_a_power_cut_is_no_orderly_shutdown(self, tpm: Swtpm) -> None:
        tpm.power_cut()
        tpm.power_on()
        assert not orderly(tpm)

    @pytest.mark.parametrize("switch_off", [Swtpm.power_off, Swtpm.power_cut])
    def test_what_was_written_outlives_the_power(
        self, tpm: Swtpm, switch_off: object
    ) -> None:
        tool(tpm.tcti, "tpm2_nvdefine", "0x1500001", "-s", "8")
        write = run(
            tpm.tcti,
            "sh",
            "-c",
            "echo evidence | head -c 8 | tpm2_nvwrite 0x1500001 -i -",
        )
        assert write.returncode == 0, write.stderr
        assert callable(switch_off)
        switch_off(tpm)
        tpm.power_on()
        assert tool(tpm.tcti, "tpm2_nvread", "0x1500001") == "evidence"

    def test_a_tpm_without_power_does_not_answer(self, tpm: Swtpm) -> None:
        tpm.power_off()
        with pytest.raises(SimulationError, match="the TPM is off"):
            tpm.read_pcrs(SHA256)
        assert run(tpm.tcti, "tpm2_pcrread").returncode != 0

    def test_it_cannot_be_powered_on_twice(self, tpm: Swtpm) -> None:
        with pytest.raises(SimulationError, match="on already"):
            tpm.power_on()

    def test_switching_off_what_is_off_changes_nothing(self, tpm: Swtpm) -> None:
        tpm.power_off()
        tpm.power_off()
        tpm.power_cut()
        assert not tpm.is_on

    def test_nothing_of_it_is_left_behind(self) -> None:
        with Swtpm() as tpm:
            tpm.power_on()
            folder = tpm.socket_path.parent
            assert folder.is_dir()
        assert not folder.exists()


class TestClients:
    def test_the_sockets_have_paths_that_fit(self, tpm: Swtpm) -> None:
        assert len(f"{tpm.socket_path}.ctrl") < 108

    def test_tools_and_library_connect_one_after_another(self, tpm: Swtpm) -> None:
        tool(tpm.tcti, "tpm2_pcrextend", f"9:sha256={'11' * 32}")
        with tpm2_pytss.ESAPI(tpm.tcti) as esapi:
            seen = esapi.pcr_read("sha256:9")[2]
        expected = hashlib.sha256(bytes(32) + b"\x11" * 32).digest()
        assert [bytes(value) for value in seen] == [expected]
        assert read_pcrs(tpm.tcti)["sha256"][9] == expected
        assert tpm.read_pcrs(SHA256)[9].value == expected


class TestBanks:
    @pytest.mark.parametrize(
        "banks",
        [
            (HashAlgorithm.SHA1,),
            (HashAlgorithm.SHA256,),
            (HashAlgorithm.SHA1, HashAlgorithm.SHA256),
            (HashAlgorithm.SHA256, HashAlgorithm.SHA384, HashAlgorithm.SHA512),
        ],
        ids=str,
    )
    def test_the_banks_asked_for_are_active_and_no_others(
        self, banks: tuple[HashAlgorithm, ...]
    ) -> None:
        with Swtpm(banks) as tpm:
            tpm.power_on()
            assert set(read_pcrs(tpm.tcti)) == {str(bank) for bank in banks}

    def test_a_bank_that_is_not_active_cannot_be_read(self, tpm: Swtpm) -> None:
        with pytest.raises(SimulationError, match="no sha384 bank"):
            tpm.read_pcrs(HashAlgorithm.SHA384)


class TestDynamicLaunch:
    def test_without_one_the_dynamic_pcrs_are_all_ff(self, tpm: Swtpm) -> None:
        for bank, size in (("sha1", 20), ("sha256", 32)):
            values = read_pcrs(tpm.tcti)[bank]
            for pcr in range(24):
                blank = b"\xff" if pcr in DYNAMIC else b"\0"
                assert values[pcr] == blank * size

    @pytest.mark.parametrize("size", [0, 36, 4096, 4097, 10000])
    def test_the_hash_sequence_resets_them_and_measures(
        self, tpm: Swtpm, size: int
    ) -> None:
        data = bytes(index % 251 for index in range(size))
        tpm.hash_sequence(data)
        pcrs = read_pcrs(tpm.tcti)
        for bank, length in (("sha1", 20), ("sha256", 32)):
            digest = hashlib.new(bank, data).digest()
            launched = hashlib.new(bank, bytes(length) + digest).digest()
            assert pcrs[bank][17] == launched
            assert all(pcrs[bank][pcr] == bytes(length) for pcr in range(18, 23))

    def test_a_power_cycle_takes_the_launch_back(self, tpm: Swtpm) -> None:
        tpm.hash_sequence(b"launch")
        tpm.power_off()
        tpm.power_on()
        assert read_pcrs(tpm.tcti)["sha256"][17] == b"\xff" * 32

    @pytest.mark.parametrize("pcr", [17, 18, 19])
    def test_the_system_cannot_extend_what_the_launch_measured(
        self, tpm: Swtpm, pcr: int
    ) -> None:
        tpm.hash_sequence(b"launch")
        before = read_pcrs(tpm.tcti)
        digest = {SHA256: SHA256.hash(b"forged")}
        tpm.send(wire.pcr_extend(pcr, digest), expect=wire.RC_LOCALITY)
        refused = run(tpm.tcti, "tpm2_pcrextend", f"{pcr}:sha256={'00' * 32}")
        assert refused.returncode != 0
        assert "(0x907)" in refused.stderr
        assert read_pcrs(tpm.tcti) == before

    def test_the_launched_system_can_from_its_locality(self, tpm: Swtpm) -> None:
        tpm.hash_sequence(b"launch")
        digest = SHA256.hash(b"tboot's own")
        tpm.extend([(19, {SHA256: digest})], LOCALITY_LAUNCHED)
        expected = hashlib.sha256(bytes(32) + digest.value).digest()
        assert read_pcrs(tpm.tcti)["sha256"][19] == expected

    def test_afterwards_commands_come_from_locality_0_again(self, tpm: Swtpm) -> None:
        digest = {SHA256: SHA256.hash(b"any")}
        with pytest.raises(SimulationError, match="0x907"):
            tpm.extend([(17, digest)], LOCALITY_OS)
        tpm.extend([(17, digest)], LOCALITY_LAUNCHED)
        tpm.send(wire.pcr_extend(17, digest), expect=wire.RC_LOCALITY)
