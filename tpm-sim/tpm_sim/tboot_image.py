# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's image: its version, what it asks SINIT for, and tboots "of another version".

Few versions of tboot can be had as packages. `of_version` makes what stands for
another: the package's own image with the version and the capabilities of that one
patched in, and nothing else. Sources: tboot include/mle.h (MLE header), common/tboot.c
(banner); capabilities by version: tboot include/config.h and mle.h, 1.8 to 1.11.
"""

from __future__ import annotations

import gzip
import re
import struct
from dataclasses import dataclass

from tpm_sim.errors import SimulationError
from tpm_sim.unpacked import unpacked
from tpm_sim.xen_image import MLE_UUID

Version = tuple[int, ...]

_HEADER_SIZE = 0x34
_CAPABILITIES_AT = 40
_BANNER = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}) (\d+\.\d+\.\d+)\0+")

_GETSEC, _MONITOR, _ECX = 0x1, 0x2, 0x4
_DETAILS_AUTHORITIES = 0x20
_TCG_LOG = 0x200
_NEVER_PASSED_ON = _GETSEC | _MONITOR | _ECX | _DETAILS_AUTHORITIES

_HEADER_CAPABILITIES: tuple[tuple[Version, int], ...] = (
    ((1, 11, 6), 0x4627),
    ((1, 10, 1), 0x627),
    ((1, 9, 6), 0x227),
    ((0,), 0x27),
)
"""What the MLE header says, from which version on; the newest first."""


@dataclass(frozen=True, slots=True)
class TbootImage:
    """What tboot's file says of itself: "1.10.5", its date, its capabilities."""

    version: str
    date: str
    capabilities: int

    @classmethod
    def of(cls, content: bytes) -> TbootImage | None:
        """Read a tboot.gz; None for what is none."""
        image = unpacked(content)
        banner = _BANNER.search(image)
        header = _header_offset(image)
        if banner is None or header is None:
            return None
        (found,) = struct.unpack_from("<I", image, header + _CAPABILITIES_AT)
        return cls(banner[2].decode(), banner[1].decode(), found)

    @property
    def number(self) -> Version:
        """The version as numbers."""
        return tuple(int(part) for part in self.version.split("."))

    def os_sinit_capabilities(self, module: int, *, is_tpm2: bool) -> int:
        """Return what tboot asks a SINIT module with these capabilities for."""
        asked = self.capabilities & ~_NEVER_PASSED_ON
        if self.number != (1, 9, 6):  # which left the header's bit as it was
            asked &= ~_TCG_LOG
        asked |= _MONITOR if module & _MONITOR else _GETSEC
        knows_log = self.number >= (1, 9, 6) and is_tpm2
        return asked | (module & _TCG_LOG if knows_log else 0)


def of_version(content: bytes, version: str) -> bytes:
    """Return a tboot.gz that stands for another version."""
    image = bytearray(unpacked(content))
    banner = _BANNER.search(image)
    header = _header_offset(image)
    if banner is None or header is None:
        raise SimulationError("this is no tboot")
    room = banner.end() - banner.start(2)
    if len(version) >= room:
        raise SimulationError(f"tboot has no room for the version {version}")
    image[banner.start(2) : banner.end()] = version.encode().ljust(room, b"\0")
    number = tuple(int(part) for part in version.split("."))
    found = next(caps for since, caps in _HEADER_CAPABILITIES if number >= since)
    struct.pack_into("<I", image, header + _CAPABILITIES_AT, found)
    return gzip.compress(bytes(image), compresslevel=1, mtime=0)


def _header_offset(image: bytes | bytearray) -> int | None:
    """Return where the MLE header is: its UUID, with a header's size behind it."""
    size = struct.pack("<I", _HEADER_SIZE)
    at = image.find(MLE_UUID + size)
    return at if at >= 0 else None
