# SPDX-License-Identifier: GPL-2.0-or-later
"""What a launcher asks of SINIT (OsSinitData.Capabilities), now and next.

The word follows from the launcher and from what the SINIT module offers. Not all of
that is known: a module that the firmware supplies cannot be read, and some builds do
not tell their version. So every reading of the machine is tried: those that give the
word that was logged are possible, and the next word is known when all of them agree
on it. With no reading left the rule does not hold here, and nothing is predicted.

Sources: tboot txt.c (init_txt_heap, get_evtlog_type, is_tpr_supported), cmdline.c;
TrenchBoot's GRUB loader/i386/txt/txt.c (init_txt_heap) of its releases, and of the
branch intel-txt-aem-mtrr-mask-fix for the second generation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from aemseal.measure.sinit_tables import (
    CBNT,
    DETAILS_AUTHORITIES_MAP,
    ECX_PAGE_TABLE,
    MAX_PHYS_ADDR,
    NO_LEGACY_MAP,
    PCR_MAP_BITS,
    TCG_LOG,
    TPR,
    WAKE_GETSEC,
    WAKE_MONITOR,
    bit_names,
    may_be_1_9_6,
)
from aemseal.measure.tboot_tables import Version, parse_version

_BOTH = (False, True)
_FORCE_PMRS = b"force_pmrs"
_FORCE_LEGACY_LOG = b"force_tpm2_legacy_log"
_PCR_MAP = b"pcr_map"
_WORD = re.compile(r"0x[0-9a-f]{1,8}")

_ANY_OFFER = tuple(
    wake | tcg | DETAILS_AUTHORITIES_MAP
    for wake, tcg in product((WAKE_GETSEC, WAKE_MONITOR), (0, TCG_LOG))
)
"""What a module that cannot be read may offer, as far as tboot looks at it."""


class CapabilitiesRule(Protocol):
    """How one launcher makes the word: TbootRule or GrubRule."""

    @property
    def is_of_mle(self) -> bool:
        """Whether another MLE may ask for something else."""

    def next_word(
        self, logged: int, running: int | None, coming: int | None
    ) -> int | str:
        """Return the word of the next boot, or why it cannot be known.

        `running` is what the launched module offers, None where it cannot be read;
        `coming` what the next one offers, None where that is the same module.
        """


@dataclass(frozen=True, slots=True)
class TbootImage:
    """A tboot as far as the word depends on it.

    `capabilities` is its MLE header's word and `version` its release, None where they
    are not known; `options` are the words of its command line that steer the word.
    """

    capabilities: int | None
    version: Version | None
    options: frozenset[bytes]

    @classmethod
    def of(
        cls, capabilities: str | None, version: str | None, cmdline: bytes | None
    ) -> TbootImage:
        """Read the notes of a View.MLE and the command line that goes with it.

        Notes that are not in their form count as not known.
        """
        is_word = _WORD.fullmatch(capabilities or "") is not None
        steering = (_FORCE_PMRS, _FORCE_LEGACY_LOG, _PCR_MAP)
        return cls(
            int(capabilities, 16) if capabilities and is_word else None,
            parse_version(version),
            frozenset(
                word
                for word in (cmdline or b"").split()
                if b"=" in word and word.partition(b"=")[0] in steering
            ),
        )

    def has(self, option: bytes) -> bool:
        """Whether an option is on the command line, whatever it is set to."""
        return any(word.partition(b"=")[0] == option for word in self.options)

    @property
    def always_asks_tcg(self) -> tuple[bool, ...]:
        """Whether it asks for TCG's log whatever SINIT offers; both where unknown."""
        if self.capabilities is None:
            return _BOTH
        possible = may_be_1_9_6(self.version, self.capabilities)
        if self.version is None and possible:
            return _BOTH
        return (possible,)


@dataclass(frozen=True, slots=True)
class TbootReading:
    """What tboot finds at a launch, besides itself.

    `offer` is the SINIT module's word. `prefers_da`, `legacy_log` and `no_tpr` are what
    the options pcr_map, force_tpm2_legacy_log and force_pmrs make of it.
    """

    offer: int
    is_tpm2: bool = True
    prefers_da: bool = False
    legacy_log: bool = False
    no_tpr: bool = False


def tboot_word(header: int, reading: TbootReading, *, always_tcg: bool = False) -> int:
    """Return what tboot asks for; `header` is its MLE header's word.

    Of the header's bits those are kept that are not about wake-up, page table, map or
    log. The map's are 0 on TPM 2.0, which knows one map alone.
    """
    word = header & ~(WAKE_GETSEC | WAKE_MONITOR | ECX_PAGE_TABLE | PCR_MAP_BITS)
    can_tcg = reading.offer & TCG_LOG and reading.is_tpm2 and not reading.legacy_log
    if not can_tcg and not always_tcg:
        word &= ~TCG_LOG
    if reading.no_tpr:
        word &= ~TPR
    word |= WAKE_MONITOR if reading.offer & WAKE_MONITOR else WAKE_GETSEC
    return word if reading.is_tpm2 else word | _tpm12_map(reading)


def _tpm12_map(reading: TbootReading) -> int:
    can_da = reading.offer & DETAILS_AUTHORITIES_MAP
    can_legacy = not reading.offer & NO_LEGACY_MAP
    return PCR_MAP_BITS if can_da and (reading.prefers_da or not can_legacy) else 0


@dataclass(frozen=True, slots=True)
class TbootRule:
    """tboot's rule: both tboots as their files say, `is_tpm2` None where not known."""

    running: TbootImage
    coming: TbootImage
    is_tpm2: bool | None

    @property
    def is_of_mle(self) -> bool:
        """It is: tboot itself is the MLE."""
        return True

    def next_word(
        self, logged: int, running: int | None, coming: int | None
    ) -> int | str:
        """Return the word of the next boot, or why it cannot be known.

        A tboot of the same release, header and options asks for the same of the same
        module, whether the rule holds here or not.
        """
        before, after = self.running.capabilities, self.coming.capabilities
        if before is None or after is None:
            which = "running" if before is None else "next"
            return f"the {which} tboot's capabilities are not known"
        if changed := self.running.options ^ self.coming.options:
            words = b" ".join(sorted(changed)).decode("ascii", "backslashreplace")
            return f"tboot's command line changes in {words}"
        if coming is None and self.running.version and self.running == self.coming:
            return logged
        tcg = product(self.running.always_asks_tcg, self.coming.always_asks_tcg)
        pairs = (
            (
                tboot_word(before, reading, always_tcg=now),
                tboot_word(after, _with_offer(reading, coming), always_tcg=then),
            )
            for reading, (now, then) in product(self._readings(running), tcg)
        )
        return _agreed(logged, pairs, f"tboot with {before:#x} in its MLE header")

    def _readings(self, offer: int | None) -> Iterator[TbootReading]:
        for values in product(
            _ANY_OFFER if offer is None else (offer,),
            _BOTH if self.is_tpm2 is None else (self.is_tpm2,),
            _BOTH,
            _BOTH if self.running.has(_FORCE_LEGACY_LOG) else (False,),
            _BOTH if self.running.has(_FORCE_PMRS) else (False,),
        ):
            yield TbootReading(*values)


def _with_offer(reading: TbootReading, offer: int | None) -> TbootReading:
    return reading if offer is None else replace(reading, offer=offer)


GRUB_GENERATIONS = (0, MAX_PHYS_ADDR | NO_LEGACY_MAP | CBNT)
"""What of an offer TrenchBoot's GRUB takes over, besides wake-up and page table:
nothing (releases up to v0.5), or the bits of mtrr-mask-fix (the map's with CBnT)."""


def grub_word(offer: int, generation: int, *, is_tpm2: bool) -> int:
    """Return what TrenchBoot's GRUB asks for; `generation` is a GRUB_GENERATIONS."""
    word = DETAILS_AUTHORITIES_MAP | offer & ECX_PAGE_TABLE
    word |= WAKE_MONITOR if offer & WAKE_MONITOR else WAKE_GETSEC
    if is_tpm2:
        word |= TCG_LOG
    word |= offer & generation & MAX_PHYS_ADDR
    return word | (generation & (CBNT | NO_LEGACY_MAP) if offer & CBNT else 0)


@dataclass(frozen=True, slots=True)
class GrubRule:
    """TrenchBoot's GRUB's rule; it asks nothing of its own. `is_tpm2` as above.

    A GRUB of another generation is not seen in any file that is looked at: the rule is
    for the GRUB that launched the running boot.
    """

    is_tpm2: bool | None

    @property
    def is_of_mle(self) -> bool:
        """It is not: GRUB launches Xen, which has no say."""
        return False

    def next_word(
        self, logged: int, running: int | None, coming: int | None
    ) -> int | str:
        """Return the word of the next boot, or why it cannot be known."""
        if coming is None:
            return logged
        if running is None:
            return "what the launched SINIT module offers is not known"
        pairs = (
            (
                grub_word(running, generation, is_tpm2=is_tpm2),
                grub_word(coming, generation, is_tpm2=is_tpm2),
            )
            for generation, is_tpm2 in product(
                GRUB_GENERATIONS, _BOTH if self.is_tpm2 is None else (self.is_tpm2,)
            )
        )
        return _agreed(logged, pairs, "TrenchBoot's GRUB")


def _agreed(logged: int, pairs: Iterable[tuple[int, int]], who: str) -> int | str:
    """Return the one next word of the pairs (now, next) whose first was logged."""
    tried, possible = set(), set()
    for now, then in pairs:
        tried.add(now)
        if now == logged:
            possible.add(then)
    if not possible:
        words = " or ".join(f"{word:#x}" for word in sorted(tried))
        return f"{who} asks SINIT for {words}, and {logged:#x} was asked for"
    doubt = 0
    word = possible.pop()
    for other in possible:
        doubt |= word ^ other
    if doubt:
        return f"{bit_names(doubt)} of what SINIT is asked for next cannot be told"
    if (word ^ logged) & DETAILS_AUTHORITIES_MAP:
        return f"the PCR map changes: SINIT is asked for {word:#x} after {logged:#x}"
    return word
