# SPDX-License-Identifier: GPL-2.0-or-later
"""The measured launch environment (MLE) inside a tboot image, and what is hashed of it.

SINIT hashes a range of tboot as it lies in memory, not the file. tboot copies its own
command line into that range before GETSEC[SENTER], so the hash covers it as well.

Sources: Intel TXT Software Development Guide 2.1 (MLE header); tboot
lcptools-v2/mlehash.c (expand_elf_image, find_mle_hdr, main), tboot/common/tboot.c
(begin_launch: the command line is cut at 511 bytes and padded with zeros).

lcp2_mlehash gives the same digest up to 510 bytes of command line. From 511 bytes on
its strcpy_s has no room for the NUL, fails, and leaves a zero in place of the first
byte; tboot itself copies 511 bytes, and so does this module. More is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from aemseal.words.errors import BootFileError, FormatError

CMDLINE_LIMIT = 511
"""Bytes of command line that tboot keeps, without the NUL (CMDLINE_SIZE - 1)."""

LOADED_LIMIT = 16 << 20
"""How much of the loaded image is laid out; the MLE must end within it.

A tboot image declares tens of MiB of data behind an MLE of 0.3 MiB.
"""

_UUID = bytes.fromhex("5aac82906f47a7740f5c55a2cb51b642")
_UUID_STEP = 16
_HEADER = struct.Struct("<16s9I")
_ELF = struct.Struct("<4s3B9xHHI4xI8x2xHH6x")
"""Magic; class, byte order, version; type, machine, version; program headers'
offset, size of one and number."""
_PHDR = struct.Struct("<8I")
_ET_EXEC = 2
_EM_386 = 3
_PT_LOAD = 1


@dataclass(frozen=True, slots=True)
class MleImage:
    """A tboot image's MLE. Offsets and sizes are bytes, from the image's load address.

    `loaded` is the image as loaded, up to `mle_end`. The command line area is
    `cmdline_start` to `cmdline_end`, within the MLE; both 0 where there is none.
    """

    loaded: bytes = field(repr=False)
    capabilities: int
    mle_start: int
    mle_end: int
    cmdline_start: int
    cmdline_end: int

    @classmethod
    def parse(cls, image: bytes) -> MleImage:
        """Find the MLE in a plain (decompressed) ELF image.

        FormatError when this is no ELF32 little-endian executable for the 386, when a
        segment leaves the file, when there is no MLE header, and when the header's
        ranges leave the image or span two segments that do not adjoin in memory. Its
        offset counts in the file for the ELF part, in the loaded image for the rest.
        """
        loaded, whole_until = _load(image)
        header_at = _find_header(loaded)
        _, *words = _HEADER.unpack_from(loaded, header_at)
        _, _, _, _, mle_start, mle_end, capabilities, cmd_start, cmd_end = words
        if not mle_start < mle_end <= len(loaded):
            raise FormatError(
                f"the MLE ({mle_start:#x} to {mle_end:#x}) is not within the loaded "
                f"image ({len(loaded):#x} bytes), as its header says",
                header_at,
            )
        if mle_end > whole_until:
            raise FormatError(
                "the MLE spans two segments that do not adjoin in memory", whole_until
            )
        if cmd_start >= cmd_end:
            cmd_start = cmd_end = 0
        elif cmd_start < mle_start or cmd_end > mle_end:
            raise FormatError(
                f"the command line area ({cmd_start:#x} to {cmd_end:#x}) is not within "
                "the MLE, as its header says",
                header_at,
            )
        return cls(
            loaded[:mle_end], capabilities, mle_start, mle_end, cmd_start, cmd_end
        )

    def measured_bytes(self, cmdline: bytes | None) -> bytes:
        """Return what SINIT hashes when tboot was given this command line.

        `cmdline` is without its NUL; None leaves the area as the file has it.
        BootFileError when it holds a NUL, is longer than 511 bytes or than its area.
        """
        if cmdline is None:
            return self.loaded[self.mle_start :]
        check_cmdline(cmdline)
        room = self.cmdline_end - self.cmdline_start
        if len(cmdline) > room:
            raise BootFileError(
                f"the MLE has {room} bytes of room for a command line, "
                f"{len(cmdline)} are given"
            )
        return (
            self.loaded[self.mle_start : self.cmdline_start]
            + cmdline.ljust(room, b"\0")
            + self.loaded[self.cmdline_end :]
            if room
            else self.loaded[self.mle_start :]
        )


def check_cmdline(cmdline: bytes) -> None:
    """Raise BootFileError for a command line that tboot would cut."""
    if b"\0" in cmdline:
        raise BootFileError("tboot's command line holds a NUL byte")
    if len(cmdline) > CMDLINE_LIMIT:
        raise BootFileError(
            f"tboot's command line has {len(cmdline)} bytes",
            f"tboot keeps {CMDLINE_LIMIT} and drops the rest: shorten it",
        )


def _load(image: bytes) -> tuple[bytes, int]:
    """Lay the loadable segments end to end, as mlehash.c does.

    Returns at most LOADED_LIMIT bytes, and the offset up to which that is also how
    they lie in memory: a hole between two segments is not reproduced.
    """
    loaded = bytearray()
    base: int | None = None
    whole_until: int | None = None
    for at, (offset, address, in_file, in_memory) in _segments(image):
        if in_file > in_memory:
            raise FormatError("the segment is larger in the file than in memory", at)
        if offset + in_file > len(image):
            raise FormatError("the segment leaves the file", at)
        if base is None:
            base = address
        if whole_until is None and address != base + len(loaded):
            whole_until = len(loaded)
        room = LOADED_LIMIT - len(loaded)
        loaded += image[offset : offset + min(in_file, room)]
        loaded += bytes(min(in_memory, room) - min(in_file, room))
        if len(loaded) == LOADED_LIMIT:
            break
    return bytes(loaded), len(loaded) if whole_until is None else whole_until


def _segments(image: bytes) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return the loadable segments: where each header is, (offset, address, sizes)."""
    if len(image) < _ELF.size:
        raise FormatError("the image is too short for an ELF header", len(image))
    magic, *kinds, phoff, entry, count = _ELF.unpack_from(image)
    if magic != b"\x7fELF":
        raise FormatError("the image is no ELF file", 0)
    if kinds != [1, 1, 1, _ET_EXEC, _EM_386, 1]:
        raise FormatError(
            "the image is no ELF executable for the 386 (32 bits, little-endian)", 4
        )
    if entry < _PHDR.size:
        raise FormatError("the program headers are too small", 42)
    if phoff + entry * count > len(image):
        raise FormatError("the program headers leave the file", 28)
    found = []
    for number in range(count):
        at = phoff + number * entry
        p_type, offset, _, address, in_file, in_memory, *_ = _PHDR.unpack_from(
            image, at
        )
        if p_type == _PT_LOAD and in_memory:
            found.append((at, (offset, address, in_file, in_memory)))
    if not found:
        raise FormatError("the image has no loadable segment", 28)
    return found


def _find_header(loaded: bytes) -> int:
    """Return the offset of the first MLE header; FormatError when there is none."""
    at = loaded.find(_UUID)
    while at >= 0 and at % _UUID_STEP:
        at = loaded.find(_UUID, at + 1)
    if at < 0:
        raise FormatError("the image has no MLE header", len(loaded))
    if at + _HEADER.size > len(loaded):
        raise FormatError("the MLE header is cut off", at)
    return at
