# SPDX-License-Identifier: GPL-2.0-or-later
"""What SINIT hashes of tboot: the MLE's range, with the command line in it."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unpacked import package_version, unpacked

from aemseal.formats.mle import CMDLINE_LIMIT, LOADED_LIMIT, MleImage, check_cmdline
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import BootFileError, EvidenceError, FormatError

UUID = bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642")
FOUR = [each for each in HashAlgorithm if each is not HashAlgorithm.SM3_256]


@pytest.fixture(scope="session")
def mlehash() -> Path:
    return unpacked("lcp2_mlehash")


@pytest.fixture(scope="session")
def tboot_gz() -> Path:
    return unpacked("tboot")


@pytest.fixture(scope="session")
def tboot_elf(tboot_gz: Path) -> bytes:
    with gzip.open(tboot_gz) as stream:
        return stream.read()


def tool_says(tool: Path, algorithm: str, cmdline: bytes | None, image: Path) -> str:
    given = [] if cmdline is None else ["--cmdline", os.fsdecode(cmdline)]
    run = subprocess.run(
        [tool, "--create", "--alg", algorithm, *given, image],
        capture_output=True,
        check=True,
        timeout=30,
    )
    return run.stdout.decode().replace(" ", "").strip()


def segment(
    offset: int, address: int, in_file: int, in_memory: int, kind: int = 1
) -> bytes:
    return struct.pack(
        "<8I", kind, offset, address, address, in_file, in_memory, 7, 4096
    )


def elf(
    *segments: bytes, body: bytes = b"", entry: int = 32, **header: object
) -> bytes:
    """An ELF file: header, program headers, then `body` at offset 0x200."""
    ident = header.get("ident", b"\x7fELF\x01\x01\x01" + bytes(9))
    assert isinstance(ident, bytes)
    start = ident + struct.pack(
        "<HHIIIIIHHHHHH",
        header.get("kind", 2),
        header.get("machine", 3),
        header.get("version", 1),
        0x800000,
        header.get("phoff", 52),
        0,
        0,
        52,
        entry,
        header.get("count", len(segments)),
        40,
        0,
        0,
    )
    return (start + b"".join(segments)).ljust(0x200, b"\0") + body


def mle_header(start: int, end: int, cmd_start: int = 0, cmd_end: int = 0) -> bytes:
    return UUID + struct.pack(
        "<9I", 52, 0x20001, 0x10, 0, start, end, 0x627, cmd_start, cmd_end
    )


def body_with(header: bytes, at: int = 0x40, size: int = 0x400) -> bytes:
    filler = bytes(number % 251 for number in range(size))
    return filler[:at] + header + filler[at + len(header) :]


def small_image(header: bytes | None = None, at: int = 0x40) -> bytes:
    body = body_with(header or mle_header(0x20, 0x300, 0x100, 0x180), at)
    return elf(segment(0x200, 0x800000, len(body), len(body) + 64), body=body)


class TestMeasuredBytes:
    def test_are_the_range_that_the_header_names(self) -> None:
        image = MleImage.parse(small_image())
        body = body_with(mle_header(0x20, 0x300, 0x100, 0x180))
        assert (image.mle_start, image.mle_end) == (0x20, 0x300)
        assert image.capabilities == 0x627
        assert image.measured_bytes(None) == body[0x20:0x300]

    def test_hold_the_command_line_padded_with_zeros(self) -> None:
        image = MleImage.parse(small_image())
        measured = image.measured_bytes(b"logging=memory")
        assert measured[0xE0:0x160] == b"logging=memory".ljust(0x80, b"\0")
        assert measured[:0xE0] == image.measured_bytes(None)[:0xE0]
        assert measured[0x160:] == image.measured_bytes(None)[0x160:]
        assert image.measured_bytes(b"")[0xE0:0x160] == bytes(0x80)

    def test_an_area_of_no_bytes_takes_the_empty_command_line_only(self) -> None:
        image = MleImage.parse(small_image(mle_header(0x20, 0x300, 0x180, 0x100)))
        assert image.measured_bytes(b"") == image.measured_bytes(None)
        with pytest.raises(BootFileError, match="0 bytes of room"):
            image.measured_bytes(b"x")

    def test_segments_are_laid_end_to_end_and_zero_filled(self) -> None:
        first = body_with(mle_header(0x20, 0x700), size=0x300)
        second = b"\xee" * 0x100
        data = elf(
            segment(0x200, 0x800000, 0x300, 0x600),
            segment(0, 0, 0x34, 0x1000, kind=4),
            segment(0x500, 0x800600, 0x100, 0x200),
            body=first + second,
        )
        measured = MleImage.parse(data).measured_bytes(None)
        assert measured == first[0x20:] + bytes(0x300) + second

    def test_a_hole_in_memory_matters_only_within_the_mle(self) -> None:
        def image(end: int) -> bytes:
            body = body_with(mle_header(0x20, end), size=0x300)
            return elf(
                segment(0x200, 0x800000, 0x300, 0x300),
                segment(0x200, 0x801000, 0x300, 0x300),
                body=body,
            )

        assert len(MleImage.parse(image(0x300)).measured_bytes(None)) == 0x2E0
        with pytest.raises(FormatError, match="do not adjoin") as caught:
            MleImage.parse(image(0x301))
        assert caught.value.offset == 0x300

    def test_segments_that_overlap_are_refused(self) -> None:
        body = body_with(mle_header(0x20, 0x500), size=0x300)
        data = elf(
            segment(0x200, 0x800000, 0x300, 0x300),
            segment(0x200, 0x800100, 0x300, 0x300),
            body=body,
        )
        with pytest.raises(FormatError, match="do not adjoin"):
            MleImage.parse(data)

    def test_a_uuid_off_the_16_byte_grid_is_no_header(self) -> None:
        off_grid = body_with(mle_header(0x20, 0x300), 0x44)
        data = elf(segment(0x200, 0x800000, 0x400, 0x400), body=off_grid)
        with pytest.raises(FormatError, match="no MLE header"):
            MleImage.parse(data)
        both = off_grid[:0x100] + mle_header(0x30, 0x300) + off_grid[0x134:]
        data = elf(segment(0x200, 0x800000, 0x400, 0x400), body=both)
        assert MleImage.parse(data).mle_start == 0x30


class TestCommandLine:
    def test_511_bytes_are_what_tboot_keeps(self) -> None:
        assert CMDLINE_LIMIT == 511
        check_cmdline(b"a" * 511)
        with pytest.raises(BootFileError, match="512 bytes"):
            check_cmdline(b"a" * 512)

    def test_a_nul_byte_is_refused(self) -> None:
        with pytest.raises(BootFileError, match="NUL"):
            MleImage.parse(small_image()).measured_bytes(b"a\0b")

    def test_an_area_too_small_for_it_is_refused(self) -> None:
        image = MleImage.parse(small_image())
        assert len(image.measured_bytes(b"a" * 128)) == 0x2E0
        with pytest.raises(BootFileError, match="128 bytes of room"):
            image.measured_bytes(b"a" * 129)


NOT_TBOOT = {
    "an empty file": (b"", "too short", 0),
    "a short file": (b"\x7fELF" + bytes(20), "too short", 24),
    "no ELF file": (b"MZ" + bytes(100), "no ELF file", 0),
    "64 bits": (elf(ident=b"\x7fELF\x02\x01\x01" + bytes(9)), "32 bits", 4),
    "big-endian": (elf(ident=b"\x7fELF\x01\x02\x01" + bytes(9)), "little-endian", 4),
    "a shared object": (elf(kind=3), "no ELF executable", 4),
    "an x86-64 machine": (elf(machine=62), "for the 386", 4),
    "another ELF version": (elf(version=2), "no ELF executable", 4),
    "small program headers": (elf(entry=31), "too small", 42),
    "program headers outside": (elf(phoff=0x1F0, count=2), "leave the file", 28),
    "no program header": (elf(), "no loadable segment", 28),
    "a segment outside": (elf(segment(0x201, 0, 0x200, 0x200)), "leaves the file", 52),
    "a segment at 4 GiB": (
        elf(segment(0xFFFFFFFF, 0, 0xFFFFFFFF, 0xFFFFFFFF)),
        "leaves the file",
        52,
    ),
    "more file than memory": (elf(segment(0, 0, 2, 1)), "larger in the file", 52),
    "no MLE header": (elf(segment(0, 0, 0x200, 0x200)), "no MLE header", 0x200),
    "a header cut off": (
        elf(segment(0x200, 0, 0x30, 0x30), body=mle_header(0, 0x30)),
        "cut off",
        0,
    ),
    "an MLE past the end": (small_image(mle_header(0x20, 0x441)), "not within", 0x40),
    "an empty MLE": (small_image(mle_header(0x20, 0x20)), "not within", 0x40),
    "an inverted MLE": (small_image(mle_header(0x300, 0x20)), "not within", 0x40),
    "a command line before": (
        small_image(mle_header(0x20, 0x300, 0x1F, 0x40)),
        "not within the MLE",
        0x40,
    ),
    "a command line behind": (
        small_image(mle_header(0x20, 0x300, 0x200, 0x301)),
        "not within the MLE",
        0x40,
    ),
}


class TestHostileImages:
    @pytest.mark.parametrize("name", NOT_TBOOT)
    def test_are_refused_with_the_offset(self, name: str) -> None:
        data, message, offset = NOT_TBOOT[name]
        with pytest.raises(FormatError, match=message) as caught:
            MleImage.parse(data)
        assert caught.value.offset == offset

    def test_4_gib_of_memory_cost_no_more_than_the_limit(self) -> None:
        body = body_with(mle_header(0x20, 0x300))
        image = MleImage.parse(
            elf(
                segment(0x200, 0x800000, len(body), 0xFF000000),
                segment(0x200, 0x900000, len(body), 0xFF000000),
                body=body,
            )
        )
        assert len(image.loaded) == 0x300
        body = body_with(mle_header(0x20, LOADED_LIMIT + 1))
        data = elf(segment(0x200, 0x800000, len(body), 0xFF000000), body=body)
        with pytest.raises(FormatError, match=f"{LOADED_LIMIT:#x} bytes"):
            MleImage.parse(data)

    @given(st.binary(max_size=600))
    def test_arbitrary_bytes_raise_evidence_errors_only(self, data: bytes) -> None:
        with pytest.raises(EvidenceError):
            MleImage.parse(data)

    @given(
        st.lists(
            st.tuples(st.integers(0, 0x5FF), st.binary(min_size=1, max_size=8)),
            max_size=6,
        ),
        st.integers(0, 0x600),
    )
    def test_mutated_images_raise_evidence_errors_only(
        self, changes: list[tuple[int, bytes]], cut: int
    ) -> None:
        data = bytearray(small_image())
        for at, new in changes:
            data[at : at + len(new)] = new
        try:
            image = MleImage.parse(bytes(data[: len(data) - cut]))
            measured = image.measured_bytes(b"logging=serial")
        except EvidenceError:
            return
        assert len(measured) == image.mle_end - image.mle_start


@pytest.mark.sim
class TestAgainstLcp2Mlehash:
    def test_debian_1_10_5_has_the_known_digests(self, tboot_elf: bytes) -> None:
        if package_version("tboot") != "1.10.5-4":
            pytest.skip("another tboot than 1.10.5-4 is unpacked")
        image = MleImage.parse(tboot_elf)
        assert (image.mle_start, image.mle_end) == (0x4000, 0x4D000)
        assert (image.cmdline_start, image.cmdline_end) == (0x7E00, 0x7FFF)
        assert image.capabilities == 0x627
        measured = image.measured_bytes(b"logging=serial,memory")
        assert HashAlgorithm.SHA256.hash(measured).hex == (
            "f35c0785c7b5bb225ed7e3e8fae2c9be88673a52aa88a41eba68a5eee7c6b77d"
        )

    @pytest.mark.parametrize("algorithm", FOUR, ids=str)
    @pytest.mark.parametrize(
        "cmdline",
        [
            None,
            b"",
            b" ",
            b"placeholder logging=memory,serial",
            b"  two  spaces  ",
            b"trailing ",
            b'"quoted argument" it\'s',
            b"back\\slash",
            b"tab\tand\nnewline",
            "Grüße, 世界".encode(),
            bytes(range(0x80, 0x100)),
            b"--alg sha1",
            b"a" * 509,
            b"a" * 510,
        ],
        ids=lambda value: "none" if value is None else repr(value)[:40],
    )
    def test_equals_the_tool(
        self,
        algorithm: HashAlgorithm,
        cmdline: bytes | None,
        mlehash: Path,
        tboot_gz: Path,
        tboot_elf: bytes,
    ) -> None:
        ours = algorithm.hash(MleImage.parse(tboot_elf).measured_bytes(cmdline)).hex
        assert ours == tool_says(mlehash, algorithm.label, cmdline, tboot_gz)

    def test_at_511_bytes_the_tool_zeroes_what_tboot_keeps(
        self, mlehash: Path, tboot_gz: Path, tboot_elf: bytes
    ) -> None:
        """Its strcpy_s fails and leaves a zero first; tboot copies all 511."""
        image = MleImage.parse(tboot_elf)
        measured = bytearray(image.measured_bytes(b"a" * 511))
        area = image.cmdline_start - image.mle_start
        assert measured[area : area + 511] == b"a" * 511
        measured[area] = 0
        theirs = tool_says(mlehash, "sha256", b"a" * 511, tboot_gz)
        assert HashAlgorithm.SHA256.hash(bytes(measured)).hex == theirs

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.binary(max_size=510).filter(lambda line: b"\0" not in line))
    def test_equals_the_tool_for_any_command_line(
        self, mlehash: Path, tboot_small: tuple[Path, MleImage], cmdline: bytes
    ) -> None:
        path, image = tboot_small
        ours = HashAlgorithm.SHA256.hash(image.measured_bytes(cmdline)).hex
        assert ours == tool_says(mlehash, "sha256", cmdline, path)

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.one_of(
                    st.integers(0, 84),
                    st.integers(0x20340, 0x20374),
                    st.integers(0, 0x70000),
                ),
                st.binary(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_mutations_of_the_real_image_raise_evidence_errors_only(
        self, tboot_small: tuple[Path, MleImage], changes: list[tuple[int, bytes]]
    ) -> None:
        data = bytearray(tboot_small[0].read_bytes())
        for at, new in changes:
            data[at : at + len(new)] = new
        try:
            MleImage.parse(bytes(data)).measured_bytes(b"logging=serial")
        except EvidenceError:
            return


@pytest.fixture(scope="session")
def tboot_small(
    tboot_elf: bytes, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, MleImage]:
    """The real image without most of its 28 MiB of data: the same MLE."""
    data = bytearray(tboot_elf[:0x70000])
    struct.pack_into("<I", data, 52 + 16, len(data) - 0x1000)
    path = tmp_path_factory.mktemp("tboot") / "tboot"
    path.write_bytes(data)
    image = MleImage.parse(bytes(data))
    assert image == MleImage.parse(tboot_elf)
    return path, image
