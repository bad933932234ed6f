# SPDX-License-Identifier: GPL-2.0-or-later
"""Capabilities words of TXT: their bits, who asks for what, and what modules offer.

The same bits are in three places: the MLE header (what tboot can do), a SINIT module's
information table (what it offers) and OsSinitData (what the launcher asks of SINIT,
which SINIT measures as event 0x40f, or inside 0x403 on TPM 1.2).
Source: Intel TXT Software Development Guide, table 4 (MLE/SINIT capabilities); tboot
include/mle.h; TrenchBoot's GRUB include/grub/i386/txt.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.measure.tboot_tables import Version

WAKE_GETSEC = 1 << 0
WAKE_MONITOR = 1 << 1
ECX_PAGE_TABLE = 1 << 2
NO_LEGACY_MAP = 1 << 4
DETAILS_AUTHORITIES_MAP = 1 << 5
MAX_PHYS_ADDR = 1 << 8
TCG_LOG = 1 << 9
CBNT = 1 << 10
TPR = 1 << 14

PCR_MAP_BITS = NO_LEGACY_MAP | DETAILS_AUTHORITIES_MAP

TCG_LOG_ALWAYS_ASKED = (1, 9, 6)
"""The one tboot that asks for TCG's log format whatever SINIT and TPM are.
Source: tboot txt.c (init_txt_heap, caps_mask) of 1.9.6; 1.9.7 masks the bit."""


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """The MLE header's word in tboot from `since` to below `before`."""

    since: Version
    before: Version | None
    capabilities: int
    source: str

    def covers(self, version: Version) -> bool:
        """Whether this row speaks of that version of tboot."""
        return self.since <= version and (self.before is None or version < self.before)


MLE_HEADERS = (
    HeaderRow((1,), (1, 9, 6), 0x27, "include/mle.h; asked 0x1 of a Broadwell Xeon"),
    HeaderRow((1, 9, 6), (1, 10, 1), 0x227, "include/mle.h; asked 0x201 of Xeons"),
    HeaderRow((1, 10, 1), (1, 11, 6), 0x627, "tboot.gz of Debian's 1.10.5-4"),
    HeaderRow((1, 11, 6), None, 0x4627, "include/mle.h of 1.11.6 (DMA protection)"),
)


@dataclass(frozen=True, slots=True)
class OfferRow:
    """What a released SINIT module offers, by the family that it is for."""

    family: str
    capabilities: int
    source: str


_RELEASE = "information table of the module in Intel's release 630744_003"
SINIT_OFFERS = (
    OfferRow("Sandy Bridge, Ivy Bridge", 0x2E, _RELEASE),
    OfferRow("Broadwell", 0x16E, _RELEASE),
    OfferRow("Skylake, Kaby Lake, Amber Lake", 0x36E, _RELEASE),
    OfferRow("Coffee Lake", 0x36E, _RELEASE),
    OfferRow("Comet Lake, Rocket Lake, Tiger Lake", 0x77E, _RELEASE),
    OfferRow("Alder Lake", 0x77E, f"{_RELEASE}; txt-acminfo, tboot-devel 2024"),
)


def may_be_1_9_6(version: Version | None, capabilities: int) -> bool:
    """Whether a tboot may be the one of TCG_LOG_ALWAYS_ASKED.

    `capabilities` are its header's; `version` is None where its file does not say.
    """
    if version is not None:
        return version == TCG_LOG_ALWAYS_ASKED
    return any(
        row.capabilities == capabilities and row.covers(TCG_LOG_ALWAYS_ASKED)
        for row in MLE_HEADERS
    )


def bit_names(word: int) -> str:
    """Return the bits that are set as people call them: "bit 9", "bits 4, 5"."""
    bits = [str(bit) for bit in range(word.bit_length()) if word >> bit & 1]
    return f"bit{'s' * (len(bits) > 1)} {', '.join(bits)}"
