# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's build id, out of both kinds of image."""

from __future__ import annotations

import gzip
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tpm_sim.cache import Cache

from aemseal.formats.build_id import build_id

ID = bytes(range(20))
NOTE = struct.pack("<III", 4, 20, 3) + b"GNU\0"


def pe(*sections: tuple[bytes, bytes]) -> bytes:
    """A PE image with these sections, as far as the build id needs one."""
    start = 0x40 + 24 + 40 * len(sections)
    table, contents = b"", b""
    for name, content in sections:
        at = start + len(contents)
        table += struct.pack("<8sIIII16x", name, 0, 0, len(content), at)
        contents += content
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHH12xHH", b"PE\0\0", 0x8664, len(sections), 0, 0)
    return header + coff + table + contents


def test_of_an_elf_image_it_is_the_note() -> None:
    assert build_id(b"\x7fELF" + NOTE + ID + b"behind") == ID.hex()


def test_of_a_pe_image_it_is_the_codeview_record_of_its_section() -> None:
    record = b"RSDS" + ID[:16] + struct.pack("<I", 1) + b"\0"
    image = pe((b".text", b"RSDS" + b"x" * 20), (b".buildid", b"\0" * 28 + record))
    assert build_id(image) == ID[:16].hex()


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"\x7fELF",
        NOTE + ID[:-1],
        NOTE + ID + NOTE + bytes(20),
        b"MZ",
        pe((b".text", b"RSDS" + ID)),
        pe((b".buildid", b"")),
        pe((b".buildid", b"RSDS" + ID))[:-10],
        pe((b".buildid", b"RSDS" + ID)).replace(b"PE\0\0", b"NE\0\0"),
        b"MZ".ljust(0x3C, b"\0") + b"\xff\xff\xff\xff",
        b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0" + b"\xff" * 20,
    ],
)
def test_where_there_is_none_or_two_nothing_is_told(image: bytes) -> None:
    assert build_id(image) is None


@given(st.binary(max_size=200), st.sampled_from((b"", b"MZ")))
def test_any_bytes_are_read_to_an_end(data: bytes, head: bytes) -> None:
    assert build_id(head + data) in (None, build_id(head + data))


@pytest.mark.sim
@pytest.mark.skipif(not Cache.default().is_filled, reason="make setup was not run")
def test_binutils_finds_the_same_in_debians_xen(tmp_path: Path) -> None:
    plain = tmp_path / "xen"
    plain.write_bytes(gzip.decompress(Cache.default().xen_old.read_bytes()))
    told = subprocess.run(
        ["readelf", "--notes", plain], capture_output=True, check=True, text=True
    )
    ours = build_id(plain.read_bytes())
    assert ours is not None
    assert f"Build ID: {ours}" in told.stdout
