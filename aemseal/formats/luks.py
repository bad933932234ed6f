# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes that `cryptsetup luksHeaderBackup` writes: LUKS header and key slots.

Anti Evil Maid's hook measures that backup into PCR 13, so it has to be predicted byte
for byte from the device.

Sources: cryptsetup 2.6 lib/luks1/keymanage.c (LUKS_hdr_backup, LUKS_device_sectors,
LUKS_check_keyslots), lib/luks2/luks2_json_metadata.c (LUKS2_hdr_backup,
LUKS2_hdr_and_areas_size), lib/luks2/luks2_disk_metadata.c (LUKS2_disk_hdr_read); LUKS1
On-Disk Format 1.2.3; LUKS2 On-Disk Format 1.1.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass

from aemseal.words.errors import FormatError

PAGE = 4096
"""cryptsetup rounds the backup up to a memory page; dom0 runs on x86."""

AREA_LIMIT = 128 << 20
"""No header with its key slots is larger (LUKS2_MAX_KEYSLOTS_SIZE)."""

_MAGIC = b"LUKS\xba\xbe"
_MAGIC_SECOND = b"SKUL\xba\xbe"
_SECTOR = 512

_LUKS1_SIZE = 1024
_LUKS1 = struct.Struct(">104x2I96x")
"""Payload offset in sectors and key bytes; the key slots follow at 208."""
_LUKS1_SLOT = struct.Struct(">40x2I")
"""Key material offset in sectors, and stripes."""
_LUKS1_SLOTS = 8
_LUKS1_STRIPES = 4000
_LUKS1_ALIGN = 4096

_LUKS2_SIZE = 4096
_LUKS2 = struct.Struct(">6sHQQ48x32s64x40x48xQ184x64s")
"""Magic, version, header size, sequence, checksum name, offset, checksum."""
_LUKS2_CHECKSUM_AT = 448
_LUKS2_HEADER_SIZES = frozenset(0x4000 << power for power in range(9))
_LUKS2_CHECKSUM = b"sha256"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The backup is `size` bytes of the device, `wiped` zeroed, padded to a page."""

    size: int
    wiped: range = range(0)

    @property
    def padding(self) -> int:
        return -self.size % PAGE


class LuksHeaderBackup:
    """Feed a LUKS device from its start; get the bytes of its header backup.

    `feed` and `finish` return what may be hashed so far; `is_complete` says that no
    more of the device is needed. The device's first bytes are kept until the size is
    known: 1 KiB for LUKS1, both headers (at most 8 MiB) for LUKS2, and one chunk.

    FormatError when the device holds no LUKS header, one of an unknown version, a
    detached one (its data is elsewhere), a damaged one, or ends too early. Of LUKS2
    both headers must be intact and alike, because cryptsetup repairs them otherwise
    before it writes the backup.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._plan: _Plan | None = None
        self._given = 0

    @property
    def is_complete(self) -> bool:
        """No more bytes of the device are needed."""
        return self._plan is not None and self._given == self._plan.size

    def feed(self, chunk: bytes) -> bytes:
        """Take the device's next bytes, return the backup's next ones."""
        if self._plan is not None:
            return self._give(chunk)
        self._held += chunk
        if len(self._held) < _header_size(self._held):
            return b""
        held, self._held = bytes(self._held), bytearray()
        self._plan = _luks1_plan(held) if _version(held) == 1 else _luks2_plan(held)
        return self._give(held)

    def finish(self) -> bytes:
        """Return the padding; FormatError when the device ended too early."""
        if self._plan is None:
            if not self._held.startswith(_MAGIC):
                raise FormatError("there is no LUKS header", 0)
            raise FormatError("the LUKS header is cut off", len(self._held))
        if self._given < self._plan.size:
            raise FormatError(
                f"the LUKS header and key slots have {self._plan.size} bytes, "
                "and the device ends",
                self._given,
            )
        return bytes(self._plan.padding)

    def _give(self, chunk: bytes) -> bytes:
        assert self._plan is not None
        start = self._given
        piece = chunk[: self._plan.size - start]
        self._given += len(piece)
        wiped = self._plan.wiped
        first = min(max(wiped.start - start, 0), len(piece))
        last = min(max(wiped.stop - start, first), len(piece))
        return piece[:first] + bytes(last - first) + piece[last:]


def _version(held: bytes | bytearray) -> int:
    return int.from_bytes(held[6:8], "big")


def _header_size(held: bytes | bytearray) -> int:
    """Return how many bytes must be held before the backup's size is known."""
    if len(held) < 16:
        return 16
    if not held.startswith(_MAGIC):
        raise FormatError("there is no LUKS header", 0)
    version = _version(held)
    if version == 1:
        return _LUKS1_SIZE
    if version != 2:
        raise FormatError(f"LUKS version {version} is not known", 6)
    size = int.from_bytes(held[8:16], "big")
    if size not in _LUKS2_HEADER_SIZES:
        raise FormatError(f"a LUKS2 header cannot have {size} bytes", 8)
    return 2 * size


def _luks1_plan(held: bytes) -> _Plan:
    payload, key_bytes = _LUKS1.unpack_from(held)
    if payload == 0:
        raise _detached(104)
    if key_bytes == 0:
        raise FormatError("the LUKS header names a key of no bytes", 108)
    key_sectors = -(-key_bytes * _LUKS1_STRIPES // _SECTOR)
    starts = []
    for slot in range(_LUKS1_SLOTS):
        at = _LUKS1.size + slot * 48
        start, stripes = _LUKS1_SLOT.unpack_from(held, at)
        if stripes != _LUKS1_STRIPES or start * _SECTOR < _LUKS1_SIZE:
            raise FormatError(f"LUKS key slot {slot} is damaged", at)
        if start + key_sectors > payload:
            raise FormatError(f"LUKS key slot {slot} reaches into the data", at)
        starts.append(start)
    size = (max(starts) + key_sectors) * _SECTOR
    if not _LUKS1_ALIGN <= size <= AREA_LIMIT:
        raise FormatError(f"a LUKS1 header cannot have {size} bytes", 104)
    # Old signatures between header and first key slot do not enter the backup.
    is_aligned = starts[0] * _SECTOR == _LUKS1_ALIGN
    return _Plan(size, range(_LUKS1_SIZE, _LUKS1_ALIGN) if is_aligned else range(0))


def _luks2_plan(held: bytes) -> _Plan:
    header_size = int.from_bytes(held[8:16], "big")
    first = _luks2_sequence(held, 0, header_size, _MAGIC)
    second = _luks2_sequence(held, header_size, header_size, _MAGIC_SECOND)
    if first != second:
        raise FormatError(
            f"the two LUKS2 headers differ (sequence {first} and {second})",
            header_size + 16,
            "open the device once with cryptsetup: it repairs the older one",
        )
    slots = _luks2_slots_size(held[_LUKS2_SIZE:header_size])
    if slots % PAGE or slots > AREA_LIMIT:
        raise FormatError(f"LUKS2 key slots cannot have {slots} bytes", _LUKS2_SIZE)
    return _Plan(2 * header_size + slots)


def _luks2_sequence(held: bytes, at: int, size: int, magic: bytes) -> int:
    """Check one of the two headers and return its sequence number."""
    found, version, said, sequence, name, offset, checksum = _LUKS2.unpack_from(
        held, at
    )
    if (found, version, said, offset) != (magic, 2, size, at):
        raise FormatError("the LUKS2 header is damaged", at)
    if name.rstrip(b"\0") != _LUKS2_CHECKSUM:
        raise FormatError("the LUKS2 header's checksum is not sha256", at + 72)
    running = hashlib.sha256(held[at : at + _LUKS2_CHECKSUM_AT])
    running.update(bytes(len(checksum)))
    running.update(held[at + _LUKS2_CHECKSUM_AT + len(checksum) : at + size])
    if running.digest().ljust(len(checksum), b"\0") != checksum:
        raise FormatError(
            "the LUKS2 header's checksum is wrong",
            at + _LUKS2_CHECKSUM_AT,
            "open the device once with cryptsetup: it repairs a damaged header",
        )
    return int(sequence)


def _luks2_slots_size(area: bytes) -> int:
    """Return config.keyslots_size of the JSON area; refuse a detached header."""
    try:
        metadata = json.loads(area.partition(b"\0")[0])
        size = metadata["config"]["keyslots_size"]
        offsets = [segment["offset"] for segment in metadata["segments"].values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("the LUKS2 metadata cannot be read", _LUKS2_SIZE) from None
    if "0" in offsets:
        raise _detached(_LUKS2_SIZE)
    if not isinstance(size, str) or not re.fullmatch(r"[0-9]{1,20}", size):
        raise FormatError("the LUKS2 key slots have no size", _LUKS2_SIZE)
    return int(size)


def _detached(at: int) -> FormatError:
    return FormatError(
        "the LUKS header is detached: its data is on another device",
        at,
        "only a header on the device itself can be predicted",
    )
