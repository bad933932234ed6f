# SPDX-License-Identifier: GPL-2.0-or-later
"""`aemseal hash`: single measurements, against tboot's own tools."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
import subprocess
from pathlib import Path

import pytest
from unpacked import unpacked

from aemseal.flows.hash_file import (
    FileHash,
    hash_acm,
    hash_luks,
    hash_mle,
    hash_module,
)
from aemseal.formats.acm import HEAD_LIMIT
from aemseal.words.errors import BootFileError, UsageError

FOUR = ["sha1", "sha256", "sha384", "sha512"]


def hexes(result: FileHash) -> dict[str, str]:
    return {str(algorithm): each.hex for algorithm, each in result.digests.items()}


def module_hexes(cmdline: bytes, image: bytes) -> dict[str, str]:
    def rule(name: str) -> str:
        inner = hashlib.new(name, cmdline).digest() + hashlib.new(name, image).digest()
        return hashlib.new(name, inner).hexdigest()

    return {name: rule(name) for name in FOUR}


class Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_json_is_the_schema_of_the_command_line() -> None:
    told = hash_module(io.BytesIO(b"image"), "/boot/image").as_json()
    assert told == {
        "schema": "aemseal.hash/1",
        "kind": "module",
        "digests": module_hexes(b"", b"image"),
    }


@pytest.mark.parametrize("verb", [hash_mle, hash_module, hash_acm, hash_luks])
def test_a_file_that_cannot_be_read_is_named(verb: object) -> None:
    assert callable(verb)
    with pytest.raises(BootFileError, match=r"/boot/x cannot be read: input/output"):
        verb(Broken(), "/boot/x")


class TestModule:
    def test_is_hashed_as_grub_hands_it_over(self) -> None:
        packed = gzip.compress(b"xen" * 100)
        line = b'placeholder "a b"'
        assert hexes(hash_module(io.BytesIO(packed), "/boot/xen.gz", line)) == (
            module_hexes(line, b"xen" * 100)
        )
        raw = hash_module(io.BytesIO(packed), "/boot/xen.gz", line, decompress=False)
        assert hexes(raw) == module_hexes(line, packed)

    def test_command_lines_have_no_limit(self) -> None:
        line = b"x" * 3000
        told = hash_module(io.BytesIO(b"image"), "/boot/vmlinuz", line)
        assert hexes(told) == module_hexes(line, b"image")

    @pytest.mark.sim
    @pytest.mark.parametrize("algorithm", FOUR)
    @pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
    @pytest.mark.parametrize(
        "cmdline", ["", "placeholder console=none", 'a  "b c" d\\e ', "x" * 400]
    )
    def test_equals_tb_polgen(
        self, tmp_path: Path, cmdline: str, packed: bool, algorithm: str
    ) -> None:
        tool = unpacked("tb_polgen")
        image, policy = tmp_path / "image", tmp_path / "policy"
        data = bytes(range(256)) * 50
        image.write_bytes(gzip.compress(data) if packed else data)
        created = ["--create", "--type", "nonfatal", "--alg", algorithm]
        added = [
            *("--add", "--num", "0", "--pcr", "none", "--hash", "image"),
            *("--cmdline", cmdline, "--image", image),
        ]
        for arguments in (created, added, ["--show"]):
            run = subprocess.run(
                [tool, *arguments, policy],
                capture_output=True,
                check=True,
                timeout=30,
            )
        shown = re.search(rb"hashes\[0\]: ([0-9a-f ]+)", run.stdout)
        assert shown is not None
        with image.open("rb") as stream:
            ours = hash_module(stream, "/boot/image", cmdline.encode())
        assert hexes(ours)[algorithm] == shown[1].replace(b" ", b"").decode()


class TestMle:
    def test_a_long_command_line_is_wrong_usage(self) -> None:
        with pytest.raises(UsageError, match="512 bytes") as caught:
            hash_mle(io.BytesIO(b""), "/boot/tboot.gz", b"a" * 512)
        assert caught.value.exit_code == 2

    def test_another_file_is_refused(self) -> None:
        with pytest.raises(BootFileError, match=r"/boot/xen.gz: the image is no ELF"):
            hash_mle(io.BytesIO(b"MZ" + bytes(99)), "/boot/xen.gz")

    @pytest.mark.sim
    @pytest.mark.parametrize(
        "cmdline", ["", "logging=serial,memory", "placeholder  x ", "a" * 510]
    )
    def test_equals_lcp2_mlehash_in_all_four(self, cmdline: str) -> None:
        image = unpacked("tboot")
        tool = unpacked("lcp2_mlehash")
        with image.open("rb") as stream:
            ours = hexes(hash_mle(stream, "/boot/tboot.gz", cmdline.encode()))
        for name in FOUR:
            run = subprocess.run(
                [tool, "--create", "--alg", name, "--cmdline", cmdline, image],
                capture_output=True,
                check=True,
                timeout=30,
            )
            assert ours[name] == run.stdout.decode().replace(" ", "").strip()


class TestAcm:
    def test_is_hashed_without_key_signature_and_scratch(self) -> None:
        head = struct.pack("<HHII4xI4xI", 2, 0, 0xA1, 0, 0x8086, 0x800)
        head = head.ljust(120, b"\x11") + struct.pack("<II", 64, 0x8F)
        module = head.ljust(1216, b"\x22").ljust(0x2000, b"\x33")
        told = hexes(hash_acm(io.BytesIO(module), "/boot/SINIT.BIN"))
        measured = module[:128] + module[1216:]
        assert told == {name: hashlib.new(name, measured).hexdigest() for name in FOUR}

    def test_other_files_are_refused(self) -> None:
        with pytest.raises(BootFileError, match=r"/boot/x: the file is no Intel AC"):
            hash_acm(io.BytesIO(bytes(4096)), "/boot/x")
        with pytest.raises(BootFileError, match=r"/boot/x is too large"):
            hash_acm(io.BytesIO(bytes(HEAD_LIMIT + 1)), "/boot/x")


class TestLuks:
    def test_a_device_without_a_header_is_refused(self) -> None:
        with pytest.raises(BootFileError, match=r"/dev/sda: there is no LUKS header"):
            hash_luks(io.BytesIO(bytes(4096)), "/dev/sda")

    def test_is_the_hash_of_the_backup(self) -> None:
        head = b"LUKS\xba\xbe\0\x01".ljust(104, b"a") + struct.pack(">II", 4096, 64)
        head = head.ljust(208, b"b")
        for slot in range(8):
            head += struct.pack(">II32sII", 0, 0, b"", 8 + 504 * slot, 4000)
        device = head + b"\xcc" * ((3 << 20) - len(head))
        backup = device[:1024] + bytes(3072) + device[4096:2066432] + bytes(2048)
        told = hexes(hash_luks(io.BytesIO(device), "/dev/sda2"))
        assert told == {name: hashlib.new(name, backup).hexdigest() for name in FOUR}
