# SPDX-License-Identifier: GPL-2.0-or-later
"""What the measure layer asks to have hashed, and what the world answers.

Measuring never reads a file and the world knows no launch stack: the two meet in
these three types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from aemseal.words.digest import Digests


class View(Enum):
    """Which bytes of a file are meant."""

    RAW = "raw"
    """As they are on disk (GRUB with --nounzip)."""

    GRUB = "grub"
    """As GRUB hands them to a multiboot image: decompressed by magic."""

    MLE = "mle"
    """The measured launch environment inside a tboot image, with a command line."""

    LUKS = "luks"
    """The LUKS header and key slots, as cryptsetup luksHeaderBackup writes them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file in one view. `path` is absolute, below the host's root.

    `cmdline` is for View.MLE alone: the bytes tboot receives, without NUL.
    """

    path: str
    view: View
    cmdline: bytes = b""

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"{self.path!r} is not an absolute path")
        if self.cmdline and self.view is not View.MLE:
            raise ValueError("only an MLE is hashed with its command line")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one pass over a file told: all of it from the bytes that were hashed.

    `size` and `digests` are of the view. `notes` are the words below, where they
    apply; a note is for people and for tables, never trusted as a measurement.
    """

    wanted: Wanted
    size: int
    digests: Digests
    notes: Mapping[str, str] = field(default_factory=dict)


NOTE_XEN_VERSION = "xen_version"
"""Xen's own version string, for example "4.17.5+72-g01140da4e8-1"."""

NOTE_TBOOT_VERSION = "tboot_version"
"""tboot's release, for example "1.10.5"."""

NOTE_MLE_CAPABILITIES = "mle_capabilities"
"""The capabilities word of the MLE header, as "0x627"."""

NOTE_PACKING = "packing"
"""What GRUB unpacked the file with: "gzip" or "xz"; absent where it is plain."""

NOTE_TBOOT_SKIPS = "tboot_skips"
"""What tboot takes this module for, and may drop it unmeasured: "sinit-acm", or policy
data, "lcp-policy-data" ("lcp-policy-data-v1" of version 0 and 1)."""
