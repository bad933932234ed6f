# SPDX-License-Identifier: GPL-2.0-or-later
"""Random boot files: Debian's Xens, kernel and tboot, others like them, made-up ones.

The same generator in the same state always makes the same bytes.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random

from image_strategies import (
    LCP_V1,
    LCP_V2,
    MICROCODE,
    another_tboot,
    cut_tboot,
    gzipped,
)
from tpm_sim.acm import Acm, AcmHeader, Platform
from tpm_sim.boot_directory import pack_initramfs
from tpm_sim.cache import Cache
from tpm_sim.efi_image import launchable as launchable_efi
from tpm_sim.models import SklHeader, TrenchbootModel
from tpm_sim.slr import make_skl
from tpm_sim.tboot_image import of_version
from tpm_sim.unpacked import unpacked
from tpm_sim.xen_image import launchable

TBOOT_VERSIONS = (
    *("1.9.4", "1.9.6", "1.9.11", "1.9.12", "1.10.0", "1.10.1", "1.10.3", "1.10.5"),
    *("1.11.0", "1.11.6"),
)
_LENGTHS = (4096, 5000, 20000)
_HARMLESS_AT = 0x8000
"""In Xen's code: bytes that no header, table or note of an image depends on."""


def _as_it_is(content: bytes) -> bytes:
    return content


def _xz(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC32)


_PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    _as_it_is,
    gzipped,
    lambda content: gzipped(content, 1, b"a name"),
    lambda content: gzipped(content, 9, b"", b"extra", b"a comment"),
    _xz,
)


def packed(random: Random, content: bytes) -> bytes:
    """Pack in one of the ways that GRUB unpacks, or not at all."""
    return random.choice(_PACKERS)(content)


def repacked(random: Random, content: bytes) -> bytes:
    """Return the same content, packed in some other way."""
    return packed(random, unpacked(content))


def rebuilt(random: Random, content: bytes, *, is_raw: bool = False) -> bytes:
    """Return another content of the same length, packed as this one is.

    With `is_raw` the file itself is as long as it was: nobody unpacks it.
    """
    plain = bytearray(content if is_raw else unpacked(content))
    at = random.randrange(len(plain) // 2, len(plain) - 8) if len(plain) > 32 else 0
    plain[at : at + 8] = random.randbytes(min(8, len(plain)))
    if is_raw:
        return bytes(plain)
    if bytes(plain[:2]) in (b"\x1f\x8b", b"\xfd7"):
        plain[0] = 0
    if content.startswith(b"\xfd7zXZ"):
        return _xz(bytes(plain))
    return gzipped(bytes(plain)) if content[:2] == b"\x1f\x8b" else bytes(plain)


# Xen


@cache
def _xen_elf(is_new: bool) -> bytes:
    cache_ = Cache.default()
    path = cache_.xen_new if is_new and cache_.has_two_xens else cache_.xen_old
    return unpacked(path.read_bytes())


@cache
def _launchable_xen(is_new: bool, build: int) -> bytes:
    """Return Debian's Xen as TrenchBoot launches it; `build` 0 is Debian's own code."""
    elf = bytearray(_xen_elf(is_new))
    if build:
        elf[_HARMLESS_AT : _HARMLESS_AT + 4] = build.to_bytes(4, "big")
    return launchable(bytes(elf))


@cache
def _launchable_efi(is_new: bool, build: int) -> bytes:
    cache_ = Cache.default()
    is_other = is_new and cache_.has_two_xens
    path = cache_.xen_new_efi if is_other else cache_.xen_old_efi
    content = bytearray(path.read_bytes())
    if build:
        content[_HARMLESS_AT : _HARMLESS_AT + 4] = build.to_bytes(4, "big")
        build_id = bytes(content).index(b"RSDS") + 4
        content[build_id : build_id + 4] = build.to_bytes(4, "big")
    return launchable_efi(bytes(content))


def debians_xen(*, is_new: bool = False) -> bytes:
    """Return one of Debian's two Xens, packed with gzip."""
    return gzip.compress(_xen_elf(is_new), 1, mtime=0)


def tboots_xen(random: Random) -> bytes:
    """Return a Xen that tboot starts: Debian's, or a made-up one, which is quicker."""
    if random.random() < 0.2:
        return debians_xen(is_new=random.random() < 0.5)
    made = b"\x7fELF\1\1\1" + bytes(45) + random.randbytes(random.choice(_LENGTHS))
    return packed(random, made)


def launchable_xen(random: Random) -> bytes:
    """Return a Xen that TrenchBoot launches, or one with bytes that nobody loads."""
    elf = _launchable_xen(random.random() < 0.5, random.randrange(4))
    elf += random.choice((b"", b"", random.randbytes(16)))
    return random.choice((gzip.compress(elf, 1, mtime=0), elf))


def efi_xen(random: Random) -> bytes:
    """Return a xen.efi, perhaps with a signature or the like behind it."""
    content = _launchable_efi(random.random() < 0.5, random.randrange(3))
    return content + random.choice((b"", b"", random.randbytes(16)))


# What Xen loads


@cache
def _linux() -> bytes:
    return Cache.default().linux.read_bytes()


def kernel(random: Random) -> bytes:
    """Return a kernel: Debian's, another build of that, or a made-up one."""
    drawn = random.random()
    if drawn < 0.1:
        return _linux()
    if drawn < 0.15:
        return rebuilt(random, _linux())
    return b"MZ" + bytes(0x200) + b"HdrS" + random.randbytes(random.choice(_LENGTHS))


def initramfs(random: Random) -> bytes:
    """Return a real cpio archive, packed or not, perhaps behind early microcode."""
    size = random.choice((200, 200, 3000))
    tree = {"init": b"#!/bin/sh\n", "etc/build": random.randbytes(size)}
    archive = pack_initramfs(tree)
    if random.random() < 0.5:
        return MICROCODE + packed(random, archive)
    return packed(random, archive)


def anything(random: Random) -> bytes:
    """Return what may lie in /boot besides."""
    return random.choice(
        (
            MICROCODE,
            packed(random, random.randbytes(random.randrange(64))),
            gzipped(gzipped(b"packed twice")),
            b"\x28\xb5\x2f\xfd" + random.randbytes(40),
            b"\x1f\x8b",
            b"",
        )
    )


def policy_data(random: Random) -> bytes:
    """Return LCP policy data, which tboot takes out of its list."""
    return random.choice((LCP_V1, LCP_V2)) + random.randbytes(20)


# What launches


@cache
def _versioned(version: str) -> bytes:
    return of_version(gzipped(cut_tboot(), 1), version)


def tboot(random: Random) -> bytes:
    """Return a tboot of the package's version: the package's file, or another build."""
    if random.random() < 0.1:
        return Cache.default().tboot.read_bytes()
    image = another_tboot(random.randrange(5))
    return random.choice((image, gzipped(image, 1), gzipped(image, 6, b"tboot")))


def tboot_of(version: str) -> bytes:
    """Return a tboot that stands for this version; the package's own for ""."""
    return _versioned(version) if version else gzipped(cut_tboot(), 1)


def skl(random: Random, header: SklHeader) -> bytes:
    """Return a skl.bin: mostly another version of the same length."""
    version = random.randrange(4)
    drawn = random.random()
    if drawn < 0.7:
        return make_skl(header, version=version)
    if drawn < 0.8:
        return make_skl(header, version=version, unmeasured=random.randbytes(16))
    if drawn < 0.9:
        return make_skl(header, version=version, length=0xC4D0)
    return make_skl(header, version=version, bootloader_data=0xE400)


def sinit(random: Random, platform: Platform) -> bytes:
    """Return a SINIT module: mostly a newer one for this machine, signed as before."""
    module = Acm(
        random.choice((platform,) * 5 + (_ELSEWHERE,)),
        date=random.choice(_DATES),
        build=random.randrange(1, 9),
        key=random.choice((1, 1, 2)),
        capabilities=random.choice((0x36E, 0x36E, 0x36E, 0x26C, 0x77E)),
    )
    if random.random() < 0.1:
        module = replace(module, header=AcmHeader.V3_0)
    padding = bytes(random.choice((0, 0, 0, 0x10000)))
    return module.content + padding


_DATES = (0x20160901, 0x20180904, 0x20210615, 0x20220101, 0x20230301)
_ELSEWHERE = Platform(device=0xB0FF, signature=0x306C3)


def first_sinit(model: TrenchbootModel) -> dict[str, bytes]:
    """Return the SINIT modules that a machine has at first, by GRUB's path."""
    return {f"/{name}": acm.content for name, acm in model.sinit_files}


def first_xen(*, is_efi: bool) -> bytes:
    """Return the older Xen as TrenchBoot launches it."""
    if is_efi:
        return _launchable_efi(False, 0)
    return gzip.compress(_launchable_xen(False, 0), 1, mtime=0)
