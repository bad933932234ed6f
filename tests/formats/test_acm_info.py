# SPDX-License-Identifier: GPL-2.0-or-later
"""What a SINIT module says: key, capabilities, date, and the machines it is for."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sinit_modules import (
    ALDER_LAKE,
    ALDER_LAKE_CPU,
    HEADER_3_0,
    SKYLAKE,
    SKYLAKE_CPU,
    Made,
    modulus,
)

from aemseal.formats.acm_info import MOST_IDS, SinitModule
from aemseal.formats.acm_platform import ChipsetId, Platform, ProcessorId
from aemseal.words.errors import FormatError

CHIPSETS_AT, PROCESSORS_AT, TPM_AT = 20, 40, 44


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def parsed(**changes: object) -> SinitModule:
    return SinitModule.parse(Made(**changes).file)  # type: ignore[arg-type]  # the cases name Made's own fields


class TestAModuleSays:
    def test_what_is_measured_and_by_whom_it_is_signed(self) -> None:
        made = Made()
        module = SinitModule.parse(made.file)
        assert module.measured == made.measured
        assert module.modulus == modulus("key")
        assert module.key == hashlib.sha256(modulus("key")).hexdigest()
        assert module.header_version == "0.0"

    def test_the_same_with_a_long_key_and_no_exponent(self) -> None:
        made = Made(header_version=HEADER_3_0, scratch_dwords=0xD0)
        module = SinitModule.parse(made.file)
        assert module.measured == made.measured
        assert module.modulus == modulus("key", 384)
        assert module.header_version == "3.0"
        assert module.header.header_length == 896

    def test_its_date_versions_and_capabilities(self) -> None:
        module = parsed(date=0x20230427, security_version=4, capabilities=0x77E)
        assert module.date == "20230427"
        assert module.header.security_version == 4
        assert module.capabilities == 0x77E
        assert (module.table_version, module.table_length) == (7, 48)

    def test_which_machines_it_is_for(self) -> None:
        module = parsed(chipsets=(SKYLAKE, (0, 0x8086, 0xB001, 7)), flags=1 << 15)
        assert module.platform == Platform(
            frozenset(
                {
                    ChipsetId(0x8086, 0xB006, 1, is_mask=True),
                    ChipsetId(0x8086, 0xB001, 7, is_mask=False),
                }
            ),
            frozenset({ProcessorId(*SKYLAKE_CPU)}),
            kind=1,
            is_debug=True,
        )

    def test_which_tpms_it_knows(self) -> None:
        module = parsed(algorithms=(4, 0xB, 0xC))
        assert module.tpm is not None
        assert module.tpm.algorithms == (4, 0xB, 0xC)
        assert module.tpm.capabilities == 0xF

    def test_no_processors_below_version_4_and_no_tpm_below_5(self) -> None:
        outside = {PROCESSORS_AT: u32(0xFFFFFFFF), TPM_AT: u32(0xFFFFFFFF)}
        old = parsed(table_version=3, table_length=40, fixes=outside)
        assert old.platform is not None
        assert old.platform.processors is None
        assert (old.platform.kind, old.tpm) == (None, None)
        del outside[PROCESSORS_AT]
        middle = parsed(table_version=4, table_length=44, fixes=outside)
        assert middle.platform is not None
        assert middle.platform.processors == frozenset({ProcessorId(*SKYLAKE_CPU)})
        assert middle.tpm is None

    def test_nothing_of_machines_from_version_9_on(self) -> None:
        assert parsed(table_version=9).platform is None

    def test_no_key_in_a_header_of_unknown_layout(self) -> None:
        module = parsed(header_version=0x40000)
        assert (module.header_version, module.modulus, module.key) == (
            "4.0",
            None,
            None,
        )

    def test_padding_behind_it_is_not_read(self) -> None:
        made = Made()
        padded = made.file + bytes(0x10000)
        assert SinitModule.parse(padded) == SinitModule.parse(made.file)


TABLE_AT = Made().table_at
LISTS_AT = Made().lists_at
END = Made().size


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message", "offset"),
        [
            ({"table_length": 47}, "version 7 has 47 bytes", TABLE_AT + 18),
            ({"table_version": 4, "table_length": 43}, "43 bytes", TABLE_AT + 18),
            ({"table_version": 3, "table_length": 39}, "39 bytes", TABLE_AT + 18),
            ({"key": modulus("k", 384)}, "key of 384 bytes in a header of 644", 120),
            ({"header_dwords": 0xE0}, "key of 256 bytes in a header of 896", 120),
            (
                {"header_version": HEADER_3_0, "key": modulus("k")},
                "they are 384 and 896",
                120,
            ),
            ({"fixes": {CHIPSETS_AT: u32(0)}}, "chipset list", TABLE_AT + 20),
            ({"fixes": {CHIPSETS_AT: u32(END + 1)}}, "chipset list", TABLE_AT + 20),
            ({"fixes": {CHIPSETS_AT: u32(END - 3)}}, "list's length", END - 3),
            ({"fixes": {CHIPSETS_AT: u32(0xFFFFFFFF)}}, "chipset list", TABLE_AT + 20),
            ({"fixes": {PROCESSORS_AT: u32(0)}}, "processor list", TABLE_AT + 40),
            ({"fixes": {PROCESSORS_AT: u32(END)}}, "list's length", END),
            ({"fixes": {TPM_AT: u32(0)}}, "TPM list", TABLE_AT + 44),
            ({"fixes": {TPM_AT: u32(END - 4)}}, "TPM list's length", END),
            ({"fixes": {64: u32(0xFFFFFFFF)}}, "4294967295 entries", LISTS_AT),
            ({"fixes": {64: u32(MOST_IDS + 1)}}, "1025 entries", LISTS_AT),
            ({"fixes": {64: u32(600)}}, "list of 600 entries needs", LISTS_AT + 4),
            ({"algorithms": [4] * 1025}, "1025 entries", LISTS_AT + 20 + 28),
        ],
    )
    def test_by_offset(
        self, changes: dict[str, object], message: str, offset: int
    ) -> None:
        with pytest.raises(FormatError, match=message) as caught:
            parsed(**changes)
        assert caught.value.offset == offset

    def test_what_is_no_sinit_module(self) -> None:
        for fixes in ({0: bytes(16)}, {16: b"\0"}, {17: b"\2"}):
            with pytest.raises(FormatError, match="no SINIT module at offset 0"):
                parsed(fixes=fixes)
        with pytest.raises(FormatError, match="no SINIT module"):
            SinitModule.parse(Made().file[:-4])

    @given(st.binary(max_size=40), st.integers(0, 0x1FFF), st.integers(0, 0x2000))
    def test_or_read_whatever_the_bytes_are(
        self, new: bytes, at: int, length: int
    ) -> None:
        acm = Made().file
        acm = (acm[:at] + new + acm[at + len(new) :])[:length]
        try:
            module = SinitModule.parse(acm)
        except FormatError:
            return
        assert len(module.measured) <= len(acm)
        if module.platform is not None:
            assert Platform.parse(str(module.platform)) == module.platform


CHIPSET_IDS = st.builds(
    ChipsetId,
    st.sampled_from([0x8086, 0x1022]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
)
PROCESSOR_IDS = st.builds(
    ProcessorId,
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 3),
    st.integers(0, 3),
)
PLATFORMS = st.builds(
    Platform,
    st.frozensets(CHIPSET_IDS, max_size=3),
    st.none() | st.frozensets(PROCESSOR_IDS, max_size=3),
    st.none() | st.integers(0, 3),
    st.booleans(),
)
MACHINES = st.tuples(
    st.sampled_from([0x8086, 0x1022]),
    *(st.integers(0, 3), st.integers(0, 3), st.integers(0, 7), st.integers(0, 3)),
)


def matches(platform: Platform, machine: tuple[int, int, int, int, int]) -> bool:
    """What a launcher does: chipset by id and revision, processor by masked ids."""
    vendor, device, revision, fms, platform_id = machine
    chipset = any(
        (each.vendor, each.device) == (vendor, device)
        and (revision & each.revision if each.is_mask else revision == each.revision)
        for each in platform.chipsets
    )
    processor = platform.processors is None or any(
        each.fms == fms & each.fms_mask
        and each.platform_id == platform_id & each.platform_mask
        for each in platform.processors
    )
    return chipset and processor


class TestPlatform:
    @given(PLATFORMS)
    def test_text_and_back(self, platform: Platform) -> None:
        assert Platform.parse(str(platform)) == platform

    def test_text_is_canonical(self) -> None:
        one = parsed(chipsets=(SKYLAKE, ALDER_LAKE)).platform
        other = parsed(chipsets=(ALDER_LAKE, SKYLAKE, SKYLAKE)).platform
        assert (
            str(one)
            == str(other)
            == (
                "signed production; type 1; chipset 8086:b006/&0001 8086:b00c/&0001; "
                "processor 000406e0&0fff3ff0/0000000000000000&0000000000000000"
            )
        )

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "signed by me; type 1; chipset ",
            "signed debug; type 4; chipset ",
            "signed debug; type 1; chipset 8086:b006",
            "signed debug; type 1; chipset ; processor 1",
            "signed debug; type -; chipset ; processor ; more",
        ],
    )
    def test_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a"):
            Platform.parse(text)

    @given(PLATFORMS, PLATFORMS, MACHINES)
    def test_what_covers_another_matches_every_machine_of_its(
        self, one: Platform, other: Platform, machine: tuple[int, int, int, int, int]
    ) -> None:
        if one.covers(other) and matches(other, machine):
            assert matches(one, machine)
        if one.is_debug == other.is_debug and not one.may_share(other):
            assert not (matches(one, machine) and matches(other, machine))

    @given(PLATFORMS)
    def test_a_platform_covers_itself(self, platform: Platform) -> None:
        assert platform.covers(platform)

    def test_a_newer_release_with_more_processors_covers_the_older(self) -> None:
        old = parsed().platform
        new = parsed(processors=(SKYLAKE_CPU, ALDER_LAKE_CPU)).platform
        assert old is not None
        assert new is not None
        assert new.covers(old)
        assert not old.covers(new)
        assert old.may_share(new)

    def test_other_chipsets_or_processors_share_no_machine(self) -> None:
        skylake = parsed().platform
        assert skylake is not None
        for changes in (
            {"chipsets": (ALDER_LAKE,)},
            {"processors": (ALDER_LAKE_CPU,)},
            {"flags": 1 << 15},
        ):
            other = parsed(**changes).platform
            assert other is not None
            assert not skylake.may_share(other)
            assert not other.covers(skylake)

    def test_a_server_module_may_be_for_a_client_whose_firmware_does_not_say(
        self,
    ) -> None:
        client, server = parsed().platform, parsed(capabilities=0x3AE).platform
        assert client is not None
        assert server is not None
        assert client.may_share(server)
        assert not server.covers(client)
