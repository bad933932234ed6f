# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's verified-launch policy: its bytes, its digest, and what tboot refuses."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tboot_policies import (
    ANY,
    CONTINUE_UNVERIFIED,
    HALT,
    NONE,
    NV_RAW,
    SIZES,
    Entry,
    digest_of,
    entry_lists,
    packed,
)
from unpacked import unpacked

from aemseal.formats.tboot_policy import (
    ELEMENT_UUID,
    MOST_ELEMENTS,
    MOST_POLICY_BYTES,
    PolicyEntry,
    PolicyType,
    parse_policy,
    wrapped_policies,
)
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import FormatError

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
PCRS = st.sampled_from([*range(24), NONE])


def polgen(folder: Path, *commands: list[str]) -> bytes:
    """A policy made by tboot's own tool, command by command."""
    path = folder / "policy"
    for command in commands:
        subprocess.run([unpacked("tb_polgen"), *command, path], check=True)
    return path.read_bytes()


def module_hash(name: str, cmdline: bytes, image: bytes) -> bytes:
    inner = [hashlib.new(name, each).digest() for each in (cmdline, image)]
    return hashlib.new(name, b"".join(inner)).digest()


class TestPoliciesOfTbPolgen:
    @pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512"])
    def test_entries_pcrs_and_hashes_are_those_it_was_told(
        self, name: str, tmp_path: Path
    ) -> None:
        image = tmp_path / "image"
        image.write_bytes(b"a module")
        listed = ["--hash", "image", "--image", str(image)]
        data = polgen(
            tmp_path,
            ["--create", "--type", "halt", "--alg", name],
            ["--add", "--num", "0", "--pcr", "none", *listed, "--cmdline", "a b"],
            ["--add", "--num", "0", "--pcr", "none", *listed, "--cmdline", "c"],
            ["--add", "--num", "any", "--pcr", "19", "--hash", "any"],
        )
        policy = parse_policy(data)
        assert policy.type is PolicyType.HALT
        assert policy.list_algorithm is HashAlgorithm.named(name)
        assert policy.control == 1
        hashes = tuple(module_hash(name, c, b"a module") for c in (b"a b", b"c"))
        assert policy.entries == (
            PolicyEntry(0, None, hashes, 0),
            PolicyEntry(ANY, 19, None, 0),
        )
        assert policy.data == data
        assert policy.digest(SHA256, SHA1).value == digest_of(data, own="sha1")

    def test_the_types_are_told_apart(self, tmp_path: Path) -> None:
        for word, kind in zip(
            ["nonfatal", "continue", "halt"], PolicyType, strict=True
        ):
            data = polgen(tmp_path, ["--create", "--type", word])
            assert parse_policy(data).type is kind

    def test_a_policy_without_the_control_bit_has_zeros_for_its_bytes(
        self, tmp_path: Path
    ) -> None:
        data = polgen(tmp_path, ["--create", "--type", "halt", "--ctrl", "0"])
        policy = parse_policy(data)
        assert not policy.measures_itself
        for own in (SHA1, SHA256):
            expected = hashlib.sha256(bytes(4) + bytes(own.size)).digest()
            assert policy.digest(SHA256, own).value == expected


class TestRealPolicies:
    def test_the_x200s_policy_gives_what_its_tboot_printed_and_extended(self) -> None:
        """ThinkPad X200, Fedora 15, tboot of 2011 (openpts README.fedora15)."""
        modules = [
            "d25c5b182a9a62ce15e46d08919d4efc1b7cfcad",
            "0f93a82c3b3b2030986139a2032e3823733fc642",
        ]
        kernel, initramfs = ((bytes.fromhex(each),) for each in modules)
        data = packed([Entry(0, NONE, kernel), Entry(1, 19, initramfs)], algorithm=0)
        policy = parse_policy(data)
        assert policy.list_algorithm is SHA1
        printed = "5a143f34f50341ffa201340fb88ef99873b7e03d"
        assert hashlib.sha1(policy.data).hexdigest() == printed
        extended = policy.digest(SHA1, SHA1, since_1_8=False)
        assert extended.hex == "a821ffbe396921f3bd8d79e770ec8f7541ba5c5e"

    def test_the_e5470s_default_policy_gives_what_its_tboot_extended(self) -> None:
        """Dell E5470, tboot 1.10.2 (tboot-devel, 2021-08-26)."""
        data = packed(
            [Entry(0, NONE), Entry(ANY, 17), Entry(NV_RAW, 22, nv_index=0x40000010)]
        )
        assert parse_policy(data).digest(SHA256, SHA256).hex == (
            "71be5852a14eabefebf0df0e1acc5da291883b6d4c5ab20914ed987c1daf3f91"
        )


class TestBytes:
    @given(
        entry_lists(PCRS),
        st.sampled_from([0x0B, 0x12]),
        st.sampled_from(list(PolicyType)),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=40),
    )
    def test_any_policy_is_read_and_the_rest_of_its_index_left(
        self,
        entries: list[Entry],
        algorithm: int,
        kind: PolicyType,
        control: int,
        rest: bytes,
    ) -> None:
        data = packed(entries, kind=kind.value, algorithm=algorithm, control=control)
        policy = parse_policy(data + rest)
        assert policy.data == policy.measured_bytes == data
        assert (policy.type, policy.control) == (kind, control)
        assert policy.measures_itself is (control % 2 == 1)
        assert [
            (e.module, NONE if e.pcr is None else e.pcr, e.hashes, e.nv_index, e.is_nv)
            for e in policy.entries
        ] == [
            (e.module, e.pcr, e.hashes, e.nv_index, e.module in (130, 131))
            for e in entries
        ]

    def test_hashes_of_an_entry_that_takes_any_are_passed_over(self) -> None:
        listed = packed([Entry(1, 19, (b"h" * 32,)), Entry(2, 18)])
        at = 12 + 2
        data = listed[:at] + b"\0" + listed[at + 1 :]
        assert [e.hashes for e in parse_policy(data).entries] == [None, None]
        assert parse_policy(data).data == data

    @pytest.mark.parametrize(("number", "size"), SIZES.items())
    def test_a_hash_is_as_long_as_its_algorithm_says(
        self, number: int, size: int
    ) -> None:
        data = packed([Entry(0, NONE, (b"h" * size,))], algorithm=number)
        assert parse_policy(data + b"more").data == data

    def test_algorithm_0_counts_as_4_since_1_8(self) -> None:
        old, new = (packed([Entry(ANY, 19)], algorithm=each) for each in (0, 4))
        policy = parse_policy(old)
        assert policy.data == old
        assert policy.measured_bytes == new
        assert policy.digest(SHA1, SHA1).value == digest_of(new, "sha1", "sha1")
        before = policy.digest(SHA1, SHA1, since_1_8=False)
        assert before.value == digest_of(old, "sha1", "sha1")

    def test_the_zeros_in_place_of_the_bytes_are_as_long_as_tboots_own_hash(
        self,
    ) -> None:
        policy = parse_policy(packed([Entry(ANY, 17)], control=2))
        expected = hashlib.sha1(struct.pack("<I", 2) + bytes(32)).digest()
        assert policy.digest(SHA1, SHA256).value == expected

    def test_the_outer_hash_is_the_banks_and_the_inner_one_tboots_own(self) -> None:
        data = packed([Entry(ANY, 17)], control=3)
        inner = hashlib.sha256(data).digest()
        outer = hashlib.sha1(struct.pack("<I", 3) + inner).digest()
        assert parse_policy(data).digest(SHA1, SHA256).value == outer

    @pytest.mark.parametrize(
        ("entries", "pcrs"),
        [
            ([Entry(0, NONE), Entry(ANY, 19)], [None, 19, 19]),
            ([Entry(ANY, 19), Entry(1, 18)], [19, 19, 19]),
            ([Entry(1, 18), Entry(1, 19), Entry(NV_RAW, 22)], ["no", 18, "no"]),
        ],
        ids=["number first", "any first", "doubled"],
    )
    def test_the_first_entry_that_fits_counts(
        self, entries: list[Entry], pcrs: list[int | str | None]
    ) -> None:
        policy = parse_policy(packed(entries))
        found = [policy.entry_for(number) for number in range(3)]
        assert ["no" if each is None else each.pcr for each in found] == pcrs


class TestElements:
    def test_the_element_of_tboots_own_tool_holds_the_policy(
        self, tmp_path: Path
    ) -> None:
        data = polgen(tmp_path, ["--create", "--type", "nonfatal"])
        element = tmp_path / "element"
        words = ["--create", "--type", "custom", "--uuid", "tboot", "--out"]
        tool = unpacked("tb_polgen").with_name("lcp2_crtpolelt")
        subprocess.run([tool, *words, element, tmp_path / "policy"], check=True)
        (wrapped,) = wrapped_policies(element.read_bytes())
        assert parse_policy(wrapped).data == data

    @given(st.lists(st.binary(max_size=40), max_size=12))
    def test_what_is_behind_each_uuid_is_returned_up_to_a_number(
        self, parts: list[bytes]
    ) -> None:
        data = b"list" + b"".join(ELEMENT_UUID + each for each in parts)
        found = wrapped_policies(data)
        assert len(found) == min(len(parts), MOST_ELEMENTS)
        for part, each in zip(parts, found, strict=False):
            assert each.startswith(part)

    def test_no_more_than_a_policys_bytes_are_kept_of_each(self) -> None:
        data = (ELEMENT_UUID + bytes(MOST_POLICY_BYTES)) * 2
        assert [len(e) for e in wrapped_policies(data)] == [MOST_POLICY_BYTES] * 2
        assert wrapped_policies(bytes(64)) == ()


GOOD = packed([Entry(0, NONE), Entry(1, 19, (b"h" * 32,))], kind=CONTINUE_UNVERIFIED)


class TestHostileBytes:
    @pytest.mark.parametrize("size", range(len(GOOD)))
    def test_a_policy_that_is_cut_short_is_refused_where_it_ends(
        self, size: int
    ) -> None:
        with pytest.raises(FormatError) as caught:
            parse_policy(GOOD[:size])
        assert caught.value.offset <= size
        assert "left" in caught.value.message

    @pytest.mark.parametrize(
        ("offset", "value", "what"),
        [
            (0, 1, "version 1"),
            (0, 3, "version 3"),
            (1, HALT + 1, "policy type 3"),
            (2, 0x10, "hash algorithm 16"),
            (2, 5, "hash algorithm 5"),
            (12, 128, "module number 128"),
            (12, 132, "module number 132"),
            (13, 24, "PCR 24"),
            (13, 254, "PCR 254"),
            (14, 2, "hash type 2"),
        ],
    )
    def test_what_tboot_refuses_is_refused_by_name_and_offset(
        self, offset: int, value: int, what: str
    ) -> None:
        data = GOOD[:offset] + bytes([value]) + GOOD[offset + 1 :]
        with pytest.raises(FormatError) as caught:
            parse_policy(data)
        assert caught.value.offset == offset
        assert f"tboot takes no policy with {what}" in caught.value.message

    def test_a_policy_longer_than_tboots_buffer_is_refused(self) -> None:
        room = (MOST_POLICY_BYTES - 12 - 8) // 32
        fits = packed([Entry(0, 18, (b"h" * 32,) * room)])
        assert len(fits) <= MOST_POLICY_BYTES
        assert parse_policy(fits).entries[0].hashes == (b"h" * 32,) * room
        with pytest.raises(FormatError):
            parse_policy(packed([Entry(0, 18, (b"h" * 32,) * (room + 1))]))

    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes_are_a_policy_or_a_format_error(
        self, noise: bytes, headed: bool
    ) -> None:
        data = (GOOD[:12] if headed else b"") + noise
        offset = 0
        try:
            policy = parse_policy(data)
        except FormatError as error:
            offset = error.offset
        else:
            assert data.startswith(policy.data)
        assert 0 <= offset <= len(data)
