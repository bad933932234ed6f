# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's measured launch: SENTER and SINIT measure tboot, tboot measures the rest.

Says what a machine of the given kind measures of the files that GRUB loads. Sources:
Intel TXT Software Development Guide 1.10 (measurements of SENTER and SINIT),
tboot/common/policy.c and integrity.c of tboot 1.10 (what tboot extends, and in which
order).

Simulated, and said so: SENTER and SINIT are not run, their events are figures from a
real machine; the SINIT module is the BIOS's own, so none in /boot replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.events import TBOOT_MEASUREMENT
from tpm_sim.disk import Disk
from tpm_sim.eventlog import LogRecord
from tpm_sim.grub import LoadedEntry, LoadedFile
from tpm_sim.hashing import hash_mle, hash_module
from tpm_sim.launch import Measured
from tpm_sim.models import TbootModel
from tpm_sim.sinit import Sinit
from tpm_sim.skipped import measured_modules

_DOM0_KERNEL = 1
"""The module that is dom0's kernel; Xen is module 0."""


@dataclass(frozen=True, slots=True)
class TbootLaunch:
    """tboot on one machine, with the files of its disk."""

    model: TbootModel
    disk: Disk

    def kernel_cmdline(self, entry: LoadedEntry) -> bytes:
        """Return what dom0's kernel gets."""
        if len(entry.modules) <= _DOM0_KERNEL:
            return b""
        return entry.modules[_DOM0_KERNEL].cmdline

    def measure(self, entry: LoadedEntry) -> Measured | None:
        """Say what is measured; None when the kernel is no tboot."""
        mle = self._mle(entry.kernel)
        if not mle:
            return None
        records = tuple(self._records(mle, entry.modules))
        return Measured.as_told(self.model.hash_start_data, records)

    def leave_log(self, _entry: LoadedEntry, measured: Measured | None) -> bytes:
        """Write the log where this machine keeps it, and return its bytes."""
        if measured is None:
            return b""
        log = self.model.log_format.write(measured.records, self.model.banks)
        path = self.disk.root / self.model.log_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log)
        return log

    def _mle(self, kernel: LoadedFile) -> Digests:
        """Hash the MLE in SINIT's banks; nothing when the kernel is no tboot."""
        path = self.disk.resolve(kernel.path)
        banks = self.model.banks
        with ThreadPoolExecutor() as pool:  # a run of lcp2_mlehash takes 0.08 s
            hashed = pool.map(
                lambda bank: hash_mle(self.disk.cache, path, kernel.cmdline, bank),
                banks,
            )
            pairs = list(zip(banks, hashed, strict=True))
        return {bank: digest for bank, digest in pairs if digest is not None}

    def _records(
        self, mle: Digests, modules: Sequence[LoadedFile]
    ) -> Iterator[LogRecord]:
        sinit = Sinit(
            self.model.sinit,
            self.model.banks,
            self.model.hash_start_data,
            mle,
            hash_start=self.model.hash_start,
        )
        yield from sinit.records()
        for pcr in self.model.policy_pcrs:
            yield LogRecord(pcr, TBOOT_MEASUREMENT, self.model.policy, b"")
        for index, digests in enumerate(self._modules(modules)):
            pcr = self.model.xen_pcr if index == 0 else self.model.modules_pcr
            yield LogRecord(pcr, TBOOT_MEASUREMENT, digests, b"")

    def _modules(self, modules: Sequence[LoadedFile]) -> list[Digests]:
        """Hash what tboot measures, in its banks."""
        images = [self.disk.image(each) for each in modules]
        kept = measured_modules(images)
        measured: list[dict[HashAlgorithm, Digest]] = [{} for _ in kept]
        for bank in self.model.tboot_banks:
            hashed = self.disk.hashed([images[index] for index in kept], bank)
            for digests, index, image in zip(measured, kept, hashed, strict=True):
                digests[bank] = hash_module(image, modules[index].cmdline)
        return list(measured)
