# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot did: the words that every launcher and the machine share."""

from __future__ import annotations

from dataclasses import dataclass

from aemseal.words.digest import Digests
from tpm_sim.eventlog import LogRecord
from tpm_sim.grub import LoadedEntry

LAST_PCR = 23


@dataclass(frozen=True, slots=True)
class Measured:
    """What a launch sends to the TPM, and what its log tells of it.

    The processor hashes `hash_data` at locality 4; then `extends` follow, in order.
    `records` need not tell the same: some machines' logs do not. `log_address` is
    where the log is in memory, if it is kept there.
    """

    hash_data: bytes
    extends: tuple[tuple[int, Digests], ...]
    records: tuple[LogRecord, ...]
    log_address: int

    @classmethod
    def as_told(
        cls, hash_data: bytes, records: tuple[LogRecord, ...], log_address: int
    ) -> Measured:
        """Return a launch whose log is true: the first record is the processor's."""
        extends = tuple(
            (record.pcr, record.digests)
            for record in records[1:]
            if record.pcr <= LAST_PCR
        )
        return cls(hash_data, extends, records, log_address)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a boot did: the entry that GRUB chose, and the log if it was measured.

    `records` is empty when nothing was measured: PCR 17 to 22 stay FF... `log` is the
    log's bytes as they were left behind, `kernel_cmdline` what dom0's kernel got.
    """

    entry: LoadedEntry | None
    records: tuple[LogRecord, ...]
    kernel_cmdline: bytes = b""
    log: bytes = b""

    @property
    def is_measured(self) -> bool:
        """Whether a dynamic launch took place."""
        return bool(self.records)
