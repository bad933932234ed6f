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

    ACM = "acm"
    """What the processor hashes of a SINIT module, as GRUB hands the module over.

    Its facts hold sha256 whatever banks were asked for, and the NOTE_SINIT_ words. A
    file that is no SINIT module for tboot has the facts of View.GRUB's bytes instead,
    and none of these words: NOTE_SINIT_DATE tells the two apart.
    """

    SLAUNCH_MLE_V04 = "slaunch-mle-v0.4.1"
    """The measured launch environment inside Xen, by formats/slaunch_mle.py's rule V04.

    With the two that follow, what GRUB has launched of a Xen for multiboot2.
    """

    SLAUNCH_MLE_ALIGNED = "slaunch-mle-v0.4.0"
    """The same by the rule ALIGNED."""

    SLAUNCH_MLE_REWRITTEN = "slaunch-mle-v0.3"
    """The same by the rule REWRITTEN."""

    SLAUNCH_ENTRY = "slaunch-entry"
    """The entry point of Xen's MLE header, as 4 bytes; of xen.gz or xen.efi."""

    SKL = "skl"
    """What SKINIT hashes of a secure kernel loader (skl.bin).

    A file that GRUB would not take for one has the facts of View.GRUB's bytes instead,
    and no NOTE_SKL_SLRT_SIZE.
    """


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

NOTE_SINIT_KEY = "sinit_key"
"""SHA-256 of the RSA modulus as stored, lower-case hex; absent where the header's
version is not one whose layout is known."""

NOTE_SINIT_CAPABILITIES = "sinit_capabilities"
"""The capabilities word of a SINIT module's information table, as "0x36e"."""

NOTE_SINIT_DATE = "sinit_date"
"""A SINIT module's date, yyyymmdd: "20190708". Launchers compare these as numbers."""

NOTE_SINIT_PLATFORM = "sinit_platform"
"""The chipsets and processors that a SINIT module is for: acm_info.Platform's text.
Absent where the information table is of a version whose lists are not read (9)."""

NOTE_SINIT_SECURITY_VERSION = "sinit_security_version"
"""A SINIT module's TXT security version number, decimal."""

NOTE_SINIT_HEADER_VERSION = "sinit_header_version"
"""The version of a SINIT module's header: "0.0" or "3.0" where its layout is known."""

NOTE_SLAUNCH_ENTRY = "slaunch_entry"
"""The entry point of Xen's MLE header as it is hashed, 4 bytes in hex: "94676200"."""

NOTE_XEN_BUILD_ID = "xen_build_id"
"""The build id of a Xen that GRUB launches, as the running one tells it: hex."""

NOTE_SKL_SLRT_SIZE = "skl_slrt_size"
"""Bytes that a secure kernel loader leaves for the SLRT, decimal: "6956"."""
