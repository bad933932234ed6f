# SPDX-License-Identifier: GPL-2.0-or-later
"""A TPM 1.2's PCRs, as kernels old and new tell them."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_tree import SHA1, SHA256, plant

from aemseal.words.digest import PcrBank
from aemseal.words.errors import BankError, EvidenceError, TpmError
from aemseal.world.host import LiveHost
from aemseal.world.kernel_tpm import (
    BANK_FOLDER,
    LISTS,
    VERSION_FILE,
    is_tpm12,
    tpm12_pcrs,
)
from aemseal.world.rooted import Rooted

T460P_17 = "564d58b956e12bd98c0917e0185387df53556cb5"
VALUES = [f"{pcr:02x}" * 20 for pcr in range(17)] + [T460P_17] + ["ff" * 20] * 6


def a_list(values: list[str] = VALUES) -> bytes:
    """As the kernel prints it: upper case, a space after each byte."""
    lines = []
    for pcr, value in enumerate(values):
        spaced = bytes.fromhex(value).hex(" ").upper()
        lines.append(f"PCR-{pcr:02d}: {spaced} \n")
    return "".join(lines).encode()


def a_file_each(values: list[str] = VALUES) -> dict[str, bytes]:
    return {
        f"{BANK_FOLDER}/{pcr}": f"{value.upper()}\n".encode()
        for pcr, value in enumerate(values)
    }


def tpm12(root: Path, files: dict[str, bytes]) -> Rooted:
    return Rooted(plant(root, {VERSION_FILE: b"1\n", **files}))


class TestValues:
    @pytest.mark.parametrize("place", LISTS)
    def test_they_are_read_from_the_list(self, tmp_path: Path, place: str) -> None:
        bank = tpm12_pcrs(tpm12(tmp_path, {place: a_list()}), SHA1)
        assert [each.hex for each in bank.values.values()] == VALUES

    def test_a_file_each_comes_first(self, tmp_path: Path) -> None:
        files = {LISTS[0]: a_list(["00" * 20] * 24), **a_file_each()}
        bank = tpm12_pcrs(tpm12(tmp_path, files), SHA1)
        assert bank.value(17).hex == T460P_17
        assert [each.hex for each in bank.values.values()] == VALUES

    def test_lower_case_is_read_too(self, tmp_path: Path) -> None:
        files = {path: data.lower() for path, data in a_file_each().items()}
        assert tpm12_pcrs(tpm12(tmp_path, files), SHA1).value(17).hex == T460P_17

    def test_there_is_no_other_bank(self, tmp_path: Path) -> None:
        files = tpm12(tmp_path, a_file_each())
        with pytest.raises(BankError, match=r"TPM 1\.2 and has no sha256") as told:
            tpm12_pcrs(files, SHA256)
        assert "--pcrs sha1:" in (told.value.hint or "")


class TestBadFiles:
    @pytest.mark.parametrize(
        "text",
        [b"", b"\n", b"AB" * 19, b"AB" * 21, b"XY" * 20, b"AB" * 20 + b"\n\n"],
    )
    def test_a_value_that_is_none_names_its_file(
        self, tmp_path: Path, text: bytes
    ) -> None:
        files = {**a_file_each(), f"{BANK_FOLDER}/17": text}
        with pytest.raises(EvidenceError, match="/pcr-sha1/17 holds no PCR value"):
            tpm12_pcrs(tpm12(tmp_path, files), SHA1)

    def test_a_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        files = a_file_each()
        del files[f"{BANK_FOLDER}/23"]
        with pytest.raises(EvidenceError, match="/pcr-sha1/23 is missing"):
            tpm12_pcrs(tpm12(tmp_path, files), SHA1)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "lists 0 PCRs, not 24"),
            (a_list(VALUES[:16]), "lists 16 PCRs, not 24"),
            (a_list([*VALUES, "00" * 20]), "lists 25 PCRs, not 24"),
            (a_list()[:-4], "line 24 is not that of PCR 23"),
            (a_list().replace(b"PCR-17", b"PCR-18"), "line 18 is not that of PCR 17"),
            (a_list().replace(b"PCR-08", b"PCR-8"), "line 9 is not that of PCR 8"),
            (b"PCR-00: AB\n", "line 1 is not that of PCR 0"),
            (b"\n" + a_list(), "line 1 is not that of PCR 0"),
        ],
    )
    def test_a_list_that_is_none_names_its_line(
        self, tmp_path: Path, text: bytes, words: str
    ) -> None:
        with pytest.raises(EvidenceError, match=f"/tpm0/pcrs {words}"):
            tpm12_pcrs(tpm12(tmp_path, {LISTS[0]: text}), SHA1)

    def test_no_list_names_both_places(self, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match="lists no PCRs at") as told:
            tpm12_pcrs(tpm12(tmp_path, {}), SHA1)
        assert all(place in told.value.message for place in LISTS)


class TestVersion:
    @pytest.mark.parametrize(
        ("files", "is_one"),
        [
            ({VERSION_FILE: b"1\n"}, True),
            ({VERSION_FILE: b"2\n"}, False),
            ({VERSION_FILE: b"2\n", LISTS[0]: b""}, False),
            ({VERSION_FILE: b""}, False),
            ({LISTS[0]: b""}, True),
            ({LISTS[1]: b""}, True),
            ({f"{BANK_FOLDER}/0": b""}, False),
            ({}, False),
        ],
    )
    def test_a_kernel_without_the_file_lists_pcrs_of_1_2_alone(
        self, tmp_path: Path, files: dict[str, bytes], is_one: bool
    ) -> None:
        assert is_tpm12(Rooted(plant(tmp_path, files))) is is_one

    def test_the_kernels_links_are_followed(self, tmp_path: Path) -> None:
        device = "/sys/devices/pnp0/00:04/tpm/tpm0"
        plant(tmp_path, {f"{device}/tpm_version_major": b"1\n"})
        folder = tmp_path / "sys/class/tpm"
        folder.mkdir(parents=True)
        (folder / "tpm0").symlink_to(f"../../..{device}")
        assert is_tpm12(Rooted(tmp_path))


class TestHost:
    def test_a_machine_without_a_tpm_2_0_tells_its_tpm_1_2s(
        self, tmp_path: Path
    ) -> None:
        def no_tpm2(_: object) -> PcrBank:
            raise TpmError("no TPM answers at device:/dev/tpmrm0")

        tpm12(tmp_path, a_file_each())
        for host in (LiveHost(tmp_path), LiveHost(tmp_path, no_tpm2)):
            assert host.pcrs(SHA1).value(17).hex == T460P_17
            with pytest.raises(BankError, match=r"TPM 1\.2"):
                host.pcrs(SHA256)
            with pytest.raises(TpmError, match=r"TPM 2\.0"):
                host.nv_read(0x01C10131)

    def test_a_tpm_2_0_that_fails_is_not_replaced(self, tmp_path: Path) -> None:
        plant(tmp_path, {VERSION_FILE: b"2\n", **a_file_each()})
        with pytest.raises(TpmError, match="there is no TPM"):
            LiveHost(tmp_path).pcrs(SHA1)
