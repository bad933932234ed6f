# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processor and SINIT measure: events as data, completed by what is at hand.

Sources: Intel TXT Software Development Guide 1.10 (HASH_START, the events' contents),
TrenchBoot's GRUB loader/slaunch/txt.c (which module is launched, and the capabilities
that it asks SINIT for).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aemseal.words.digest import Digests, HashAlgorithm
from aemseal.words.events import (
    TXT_COMBINED_HASH,
    TXT_HASH_START,
    TXT_MLE_HASH,
    TXT_OSSINITDATA_CAP_HASH,
    TXT_SINIT_PUBKEY_HASH,
)
from tpm_sim.acm import Platform, SinitModule
from tpm_sim.eventlog import LogRecord
from tpm_sim.launch import LAST_PCR
from tpm_sim.models import HashStart, SinitEvent, TbootModel

SHA256 = HashAlgorithm.SHA256

_NO_PARAMETERS = bytes(4)
"""EDX of GETSEC[SENTER]."""


@dataclass(frozen=True, slots=True)
class Sinit:
    """SINIT in one launch: its events, and what they are made of.

    `banks` are those that SINIT hashes for. `module` and `capabilities` are None where
    the events hold their figures already. `combined` is the data of TPM 1.2's combined
    event. The log lists HASH_START `times`.
    """

    events: Sequence[SinitEvent]
    banks: Sequence[HashAlgorithm]
    hash_data: bytes
    mle: Digests
    module: SinitModule | None = None
    capabilities: int | None = None
    combined: bytes = b""
    hash_start: HashStart = HashStart.EXT
    times: int = 1

    def records(self) -> Iterator[LogRecord]:
        """Tell HASH_START, then SINIT's events."""
        for _ in range(self.times):
            yield self._hash_start()
        for event in self.events:
            data = self._data(event)
            yield LogRecord(event.pcr, event.type, self._digests(event, data), data)

    def _hash_start(self) -> LogRecord:
        digests = {}
        for bank in self.banks:
            digest = bank.hash(self.hash_data)
            if self.hash_start is HashStart.SET:
                digest = bank.zero().extended(digest)
            digests[bank] = digest
        return LogRecord(17, TXT_HASH_START, digests, self.hash_data)

    def _data(self, event: SinitEvent) -> bytes:
        if event.type == TXT_OSSINITDATA_CAP_HASH and self.capabilities is not None:
            return struct.pack("<I", self.capabilities)
        if event.type == TXT_COMBINED_HASH:
            return self.combined
        return secrets.token_bytes(32) if event.is_random else event.data

    def _digests(self, event: SinitEvent, data: bytes) -> Digests:
        banks = event.banks or self.banks
        if event.pcr > LAST_PCR:
            return {bank: bank.zero() for bank in banks}
        if event.type == TXT_MLE_HASH:
            return self.mle
        if event.type == TXT_SINIT_PUBKEY_HASH and self.module is not None:
            key = SHA256.hash(self.module.modulus).value
            return {bank: bank.hash(key) for bank in banks}
        return {bank: event.digests.get(bank) or bank.hash(data) for bank in banks}


def hash_data_of(module: SinitModule) -> bytes:
    """Return what the processor hashes: H(module) by SHA-256, and SENTER's EDX."""
    return SHA256.hash(module.measured).value + _NO_PARAMETERS


def selected_module(
    files: Sequence[bytes], firmware: bytes | None, platform: Platform
) -> SinitModule | None:
    """Return the module that is launched, None when there is none for the machine.

    Of the files that match the platform GRUB keeps the last; the firmware's own is
    taken when it is not older than that.
    """
    found = [SinitModule.of(each) for each in files]
    of_files = [each for each in found if each and each.matches(platform)]
    chosen = of_files[-1] if of_files else None
    own = SinitModule.of(firmware) if firmware is not None else None
    if own is None or not own.matches(platform):
        return chosen
    return own if chosen is None or own.date >= chosen.date else chosen


def trenchboots_capabilities(module: int, *, mask_fix: bool) -> int:
    """Return what TrenchBoot's GRUB asks SINIT for, with a TPM 2.0.

    Details/authorities and the TCG log always; monitor wake-up or GETSEC's, ECX as the
    page table, as the module can. `mask_fix` is the branch intel-txt-aem-mtrr-mask-fix,
    which takes up bit 8, and bits 4 and 10 of a CBnT module.
    """
    asked = 0x220 | (0x2 if module & 0x2 else 0x1) | (module & 0x4)
    if mask_fix:
        asked |= (module & 0x100) | (0x410 if module & 0x400 else 0)
    return asked


def sinit_banks_of(model: TbootModel) -> tuple[HashAlgorithm, ...]:
    """Return the banks that a machine's SINIT hashes for."""
    return model.sinit_banks or model.banks
