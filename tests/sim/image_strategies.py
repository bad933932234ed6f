# SPDX-License-Identifier: GPL-2.0-or-later
"""Random files as they lie in /boot, for hypothesis: archives, modules, tboot."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from collections.abc import Mapping
from functools import cache

from hypothesis import strategies as st
from tpm_sim.acm import Acm, Platform
from tpm_sim.cache import Cache

TBOOT = "/tboot.gz"
PATHS = (
    "/xen.gz",
    "/vmlinuz",
    "/initramfs.img",
    "/ucode.bin",
    "/sinit.bin",
    "/policy.data",
    "/extra.bin",
)


# What GRUB's file layer makes of a file's bytes


def gzipped(
    content: bytes,
    level: int = 6,
    name: bytes = b"",
    extra: bytes = b"",
    comment: bytes = b"",
) -> bytes:
    """Pack by RFC 1952, with the header's optional fields."""
    flags = (4 if extra else 0) | (8 if name else 0) | (16 if comment else 0)
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join(
        (
            struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 1700000000, 0, 3),
            struct.pack("<H", len(extra)) + extra if extra else b"",
            name + b"\0" if name else b"",
            comment + b"\0" if comment else b"",
            packer.compress(content) + packer.flush(),
            struct.pack("<II", zlib.crc32(content), len(content)),
        )
    )


_XZ_CHECKS = (
    lzma.CHECK_NONE,
    lzma.CHECK_CRC32,
    lzma.CHECK_CRC64,
    lzma.CHECK_SHA256,
)


def _xz(content: bytes, check: int, level: int, x86: bool) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level}]
    if x86:
        filters.insert(0, {"id": lzma.FILTER_X86})
    return lzma.compress(content, lzma.FORMAT_XZ, check, filters=filters)


_header_texts = st.sampled_from((b"", b"xen", b"a longer name.img"))


def _packed(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        contents,
        st.builds(
            gzipped,
            contents,
            st.integers(0, 9),
            _header_texts,
            st.binary(max_size=9),
            _header_texts,
        ),
        st.builds(_xz, contents, st.sampled_from(_XZ_CHECKS), st.integers(0, 6),
                  st.booleans()),
    )  # fmt: skip


def acm(
    size: int = 0x1000,
    scratch: int = 143,
    padding: int = 0,
    kind: int = 2,
    vendor: int = 0x8086,
    table: tuple[int, int] = (1, 5),
) -> bytes:
    """Build what tboot may take for a SINIT module: header 0.0, table behind scratch.

    `table` is its ACM type and version.
    """
    module = bytearray(size)
    struct.pack_into("<HHIIIII", module, 0, kind, 0, 161, 0, 0, vendor, 0x20190101)
    struct.pack_into("<I", module, 24, size // 4)
    struct.pack_into("<I", module, 124, scratch)
    uuid = bytes.fromhex("aa3ac07fa746db182eac698f8d417f5a")
    at = (161 + scratch) * 4
    module[at : at + 20] = uuid + struct.pack("<BBH", *table, 48)
    return bytes(module) + bytes(padding)


_OTHER_MACHINES = Platform(device=0xB00C, signature=0x906A3)
ACMS = (
    Acm(_OTHER_MACHINES).content,
    Acm(_OTHER_MACHINES, table_version=4, build=2).content,
    Acm(_OTHER_MACHINES, build=3).content + bytes(0x10000),
)
"""Whole modules, as a predictor wants to read them; the firmware's is launched."""

ACM_LOOK_ALIKES = (
    acm(kind=1),
    acm(vendor=0x8087),
    acm(table=(0, 5)),
    acm(table=(1, 2)),
    acm(padding=4),
)

LCP_V1 = bytes.fromhex("25190dabe7eeeb48fca90bac5a262d0e")
LCP_V2 = b"Intel(R) TXT LCP_POLICY_DATA\0\0\0\0"

MICROCODE = (
    b"070701" + b"0" * 88 + b"0000003800000000kernel/x86/microcode/GenuineIntel.bin\0"
) + bytes(range(256))

_elf = st.binary(max_size=64).map(lambda tail: b"\x7fELF\1\1\1" + bytes(45) + tail)
_bz_image = st.binary(max_size=64).map(
    lambda tail: b"MZ" + bytes(0x200) + b"HdrS" + tail
)
_contents = st.one_of(
    st.binary(max_size=200),
    _elf,
    _bz_image,
    st.binary(min_size=1, max_size=8).map(lambda seed: seed * 9000),
)
_policy_data = st.builds(
    lambda mark, tail: mark + tail,
    st.sampled_from((LCP_V1, LCP_V2)),
    st.binary(max_size=30),
)
_odd_beginnings = st.sampled_from(
    (
        b"\x1f\x8b",
        b"\x1f\x8b\x07\x00",
        b"\x1f\x8b\x08\x02",
        b"\x1f\x8b\x08\x80",
        b"\x1f\x9e\x07",
        b"\xfd7zXZ",
        b"\xfd7zXZ\x00",
        b"\x89LZO\x00",
        b"BZh9",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"\x5d\x00\x00\x80",
        b"070701",
    )
)


def _oddly_begun(start: bytes, tail: bytes) -> bytes:
    """Keep an .xz magic too short for a header: GRUB then sees no archive."""
    return start + (tail[:5] if start.startswith(b"\xfd7zXZ\0") else tail)


images = st.one_of(
    _packed(_contents),
    _packed(st.sampled_from(ACMS)),
    _packed(st.sampled_from(ACM_LOOK_ALIKES)),
    _packed(_policy_data),
    _packed(st.just(MICROCODE)),
    st.just(b""),
    st.builds(_oddly_begun, _odd_beginnings, st.binary(max_size=40)),
    _contents.map(gzipped).map(gzipped),
)
"""Files as they lie in /boot."""

_typical_images: Mapping[str, st.SearchStrategy[bytes]] = {
    "/xen.gz": _elf.map(gzipped),
    "/vmlinuz": _bz_image,
    "/initramfs.img": st.binary(max_size=64).map(
        lambda tail: MICROCODE + gzipped(tail)
    ),
    "/ucode.bin": st.just(MICROCODE),
    "/sinit.bin": st.sampled_from(ACMS),
    "/policy.data": _policy_data,
    "/extra.bin": st.binary(max_size=64),
}  # fmt: skip


# tboot

_MLE_END = 0x4D000
_CHANGED_AT = 0x9000
"""In the code of the MLE, behind the area for the command line."""


@cache
def whole_tboot() -> bytes:
    return gzip.decompress(Cache.default().tboot.read_bytes())


@cache
def cut_tboot() -> bytes:
    """Return tboot without what no one measures: 29 MiB of zeros behind the MLE.

    Its one segment ends where the MLE does, so that hashing takes no time.
    """
    image = bytearray(whole_tboot())
    (segment,) = struct.unpack_from("<I", image, 52 + 4)
    struct.pack_into("<II", image, 52 + 16, _MLE_END, _MLE_END)
    return bytes(image[: segment + _MLE_END])


def another_tboot(build: int) -> bytes:
    """Return tboot with other code; build 0 is the one of the distribution."""
    image = bytearray(cut_tboot())
    if build:
        struct.pack_into("<I", image, 0x1000 + _CHANGED_AT, build)
    return bytes(image)


tboots = st.builds(
    lambda build, pack: pack(another_tboot(build)),
    st.integers(0, 3),
    st.sampled_from((bytes, gzipped, lambda plain: gzipped(plain, 1, b"tboot"))),
)


def images_of(path: str) -> st.SearchStrategy[bytes]:
    return tboots if path == TBOOT else st.one_of(_typical_images[path], images)
