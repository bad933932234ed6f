# SPDX-License-Identifier: GPL-2.0-or-later
"""Which machines a SINIT module is for: chipsets and processors, as data and as text.

What can be said of two modules without knowing the machine: that one is for every
machine of the other's, or that no machine is of both.

Sources: Intel TXT Software Development Guide A.1.1 and A.1.2 (the lists), tboot
txt/acmod.c does_acmod_match_platform and TrenchBoot's GRUB
grub_txt_acmod_match_platform (how launchers compare).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

CHIPSET = struct.Struct("<IHHH2x4x")
"""Flags, vendor, device, revision; the extended id is compared by no launcher."""

PROCESSOR = struct.Struct("<IIQQ")
"""Family/model/stepping and its mask, platform id and its mask."""

_REVISION_IS_MASK = 1
_CHIPSET_TEXT = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})/([&=])([0-9a-f]{4})")
_PROCESSOR_TEXT = re.compile(
    r"([0-9a-f]{8})&([0-9a-f]{8})/([0-9a-f]{16})&([0-9a-f]{16})"
)
_TEXT = re.compile(
    r"signed (production|debug); type (-|[0-3]); chipset ([^;]*)"
    r"(?:; processor ([^;]*))?"
)


@dataclass(frozen=True, slots=True, order=True)
class ChipsetId:
    """A chipset: a machine has it when vendor, device and revision fit.

    `revision` is the machine's, or with `is_mask` bits of which one must be set.
    """

    vendor: int
    device: int
    revision: int
    is_mask: bool

    def __str__(self) -> str:
        sign = "&" if self.is_mask else "="
        return f"{self.vendor:04x}:{self.device:04x}/{sign}{self.revision:04x}"

    @classmethod
    def unpack(cls, row: bytes) -> ChipsetId:
        """Read an entry of the list, 16 bytes."""
        flags, vendor, device, revision = CHIPSET.unpack(row)
        return cls(vendor, device, revision, bool(flags & _REVISION_IS_MASK))

    def may_share(self, other: ChipsetId) -> bool:
        """Whether one machine can have both."""
        if (self.vendor, self.device) != (other.vendor, other.device):
            return False
        if self.is_mask and other.is_mask:
            return bool(self.revision and other.revision)
        if self.is_mask or other.is_mask:
            return bool(self.revision & other.revision)
        return self.revision == other.revision


@dataclass(frozen=True, slots=True, order=True)
class ProcessorId:
    """Processors: those whose masked signature and masked platform id are these."""

    fms: int
    fms_mask: int
    platform_id: int
    platform_mask: int

    def __str__(self) -> str:
        signature = f"{self.fms:08x}&{self.fms_mask:08x}"
        return f"{signature}/{self.platform_id:016x}&{self.platform_mask:016x}"

    @classmethod
    def unpack(cls, row: bytes) -> ProcessorId:
        """Read an entry of the list, 24 bytes."""
        return cls(*PROCESSOR.unpack(row))

    def may_share(self, other: ProcessorId) -> bool:
        """Whether one processor can be of both."""
        fms = (self.fms ^ other.fms) & self.fms_mask & other.fms_mask
        both = self.platform_mask & other.platform_mask
        return not fms and not (self.platform_id ^ other.platform_id) & both


@dataclass(frozen=True, slots=True)
class Platform:
    """The machines that a SINIT module matches.

    `processors` is None for a module that names none and so takes any (information
    table below version 4). `kind` is the platform type of the capabilities (bits 6 and
    7: 1 client, 2 server), None where the launcher does not look at it (below 5).
    """

    chipsets: frozenset[ChipsetId]
    processors: frozenset[ProcessorId] | None
    kind: int | None
    is_debug: bool

    def __str__(self) -> str:
        signed = "debug" if self.is_debug else "production"
        kind = "-" if self.kind is None else str(self.kind)
        text = f"signed {signed}; type {kind}; chipset {_words(self.chipsets)}"
        if self.processors is None:
            return text
        return f"{text}; processor {_words(self.processors)}"

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read what `str` gave; ValueError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"not a platform: {text[:80]!r}")
        signed, kind, chipsets, processors = match.groups()
        return cls(
            frozenset(_chipset(word) for word in chipsets.split()),
            None
            if processors is None
            else frozenset(_processor(word) for word in processors.split()),
            None if kind == "-" else int(kind),
            signed == "debug",
        )

    def covers(self, other: Platform) -> bool:
        """Whether every machine that `other` matches is surely matched by this too."""
        if (self.kind, self.is_debug) != (other.kind, other.is_debug):
            return False
        if not other.chipsets <= self.chipsets:
            return False
        if self.processors is None:
            return True
        return other.processors is not None and other.processors <= self.processors

    def may_share(self, other: Platform) -> bool:
        """Whether there can be a machine that both match."""
        if self.is_debug != other.is_debug:
            return False
        if not any(
            one.may_share(two) for one in self.chipsets for two in other.chipsets
        ):
            return False
        if self.processors is None or other.processors is None:
            return True
        return any(
            one.may_share(two) for one in self.processors for two in other.processors
        )


def _words(ids: frozenset[ChipsetId] | frozenset[ProcessorId]) -> str:
    return " ".join(sorted(map(str, ids)))


def _chipset(word: str) -> ChipsetId:
    match = _CHIPSET_TEXT.fullmatch(word)
    if match is None:
        raise ValueError(f"not a chipset: {word!r}")
    vendor, device, sign, revision = match.groups()
    return ChipsetId(int(vendor, 16), int(device, 16), int(revision, 16), sign == "&")


def _processor(word: str) -> ProcessorId:
    match = _PROCESSOR_TEXT.fullmatch(word)
    if match is None:
        raise ValueError(f"not a processor: {word!r}")
    return ProcessorId(*(int(part, 16) for part in match.groups()))
