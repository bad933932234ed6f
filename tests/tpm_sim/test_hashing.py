# SPDX-License-Identifier: GPL-2.0-or-later
"""What boot files are hashed with, held against other programs."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import subprocess
from pathlib import Path

import pytest
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.hashing import Image, hash_bytes, hash_images, hash_mle, hash_module

from aemseal.words.digest import HashAlgorithm

ALGORITHMS = (
    HashAlgorithm.SHA1,
    HashAlgorithm.SHA256,
    HashAlgorithm.SHA384,
    HashAlgorithm.SHA512,
)
SHA256 = HashAlgorithm.SHA256


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_images_are_hashed_as_grub_hands_them_over(
    cache: Cache, tmp_path: Path, algorithm: HashAlgorithm
) -> None:
    content = b"an image\n" * 1000
    files = {
        "plain": content,
        "gz": gzip.compress(content),
        "xz": lzma.compress(content),
        "empty": b"",
        "a name with spaces": content,
    }
    for name, stored in files.items():
        (tmp_path / name).write_bytes(stored)
    for decompress in (True, False):
        images = [Image(tmp_path / name, decompress) for name in files]
        for (name, stored), digest in zip(
            files.items(), hash_images(cache, images, algorithm), strict=True
        ):
            seen = content if decompress and name in ("gz", "xz") else stored
            assert digest.value == hashlib.new(str(algorithm), seen).digest(), name


def test_of_a_gzip_file_of_two_members_grub_reads_the_first_only(
    cache: Cache, tmp_path: Path
) -> None:
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(b"first") + gzip.compress(b"other"))
    [digest] = hash_images(cache, [Image(path, decompress=True)], SHA256)
    assert digest.value == hashlib.sha256(b"first").digest()


def test_what_grub_cannot_read_is_an_error(cache: Cache, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"whole")[:12])
    for path in (tmp_path / "absent", broken):
        with pytest.raises(SimulationError, match="cannot read a boot file"):
            hash_images(cache, [Image(path, decompress=True)], SHA256)


def test_strings_are_hashed_by_coreutils() -> None:
    for algorithm in ALGORITHMS:
        for data in (b"", b"a\0b\n", b"x" * 10000):
            expected = hashlib.new(str(algorithm), data).digest()
            assert hash_bytes(data, algorithm).value == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
@pytest.mark.parametrize("cmdline", [b"placeholder console=none", b"x" * 300])
def test_a_modules_hash_is_that_of_tboots_own_tool(
    cache: Cache, tmp_path: Path, algorithm: HashAlgorithm, cmdline: bytes
) -> None:
    policy = tmp_path / "policy"
    create = ["--create", "--type", "nonfatal", "--alg", str(algorithm), str(policy)]
    add = ["--add", "--num", "0", "--pcr", "18", "--hash", "image"]
    add += ["--cmdline", cmdline.decode(), "--image", str(cache.xen_old), str(policy)]
    shown = ""
    for words in (create, add, ["--show", str(policy)]):
        shown = subprocess.run(
            [cache.tb_polgen, *words], capture_output=True, text=True, check=True
        ).stdout
    hashes = re.findall(r"hashes\[0\]: ((?:[0-9a-f]{2} ?)+)", shown)
    [image] = hash_images(cache, [Image(cache.xen_old, decompress=True)], algorithm)
    assert [bytes.fromhex(found) for found in hashes] == [
        hash_module(image, cmdline).value
    ]


def test_the_mle_is_hashed_with_its_command_line(cache: Cache) -> None:
    if cache.version("tboot") != "1.10.5-4":
        pytest.skip("the figure is of tboot 1.10.5-4")
    expected = "f35c0785c7b5bb225ed7e3e8fae2c9be88673a52aa88a41eba68a5eee7c6b77d"
    digest = hash_mle(cache, cache.tboot, b"logging=serial,memory", SHA256)
    assert digest is not None
    assert digest.hex == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_the_mles_hash_is_of_the_right_size(
    cache: Cache, algorithm: HashAlgorithm
) -> None:
    digests = {
        hash_mle(cache, cache.tboot, cmdline, algorithm)
        for cmdline in (b"", b"a", b"a" * 511)
    }
    assert None not in digests
    assert len(digests) == 3


def test_what_is_no_tboot_holds_no_mle(cache: Cache) -> None:
    assert hash_mle(cache, cache.xen_old, b"", SHA256) is None
