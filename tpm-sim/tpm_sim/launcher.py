# SPDX-License-Identifier: GPL-2.0-or-later
"""The measured launch: GRUB loads, SENTER and SINIT measure, tboot measures the rest.

It measures the files of a boot directory into a real TPM implementation and leaves a
log, as a machine of the given kind would. Sources: Intel TXT Software Development
Guide 1.10 (measurements of SENTER and SINIT), tboot/common/policy.c and integrity.c of
tboot 1.10 (what tboot extends, and in which order).

Simulated, and said so: SENTER and SINIT are not run, their events are figures from a
real machine; the SINIT module is the BIOS's own, so none in /boot replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.events import TBOOT_MEASUREMENT, TXT_HASH_START, TXT_MLE_HASH
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.eventlog import LogRecord
from tpm_sim.grub import (
    LoadedEntry,
    LoadedFile,
    entry_of,
    find_config,
    run_grub,
    write_saved,
)
from tpm_sim.hashing import Image, hash_images, hash_mle, hash_module
from tpm_sim.machines import HashStart, MachineModel, SinitEvent
from tpm_sim.skipped import measured_modules
from tpm_sim.swtpm import LOCALITY_LAUNCHED, Swtpm

_LAST_PCR = 23


@dataclass(frozen=True, slots=True)
class Launch:
    """What a boot did: the entry that GRUB chose, and the log if it was measured.

    `records` is empty when nothing was measured: PCR 17 to 22 stay FF...
    """

    entry: LoadedEntry | None
    records: tuple[LogRecord, ...]

    @property
    def is_measured(self) -> bool:
        """Whether a dynamic launch took place."""
        return bool(self.records)


@dataclass(frozen=True, slots=True)
class DynamicLaunch:
    """The launcher of one machine: its model, its TPM and its file system's root."""

    model: MachineModel
    tpm: Swtpm
    root: Path
    cache: Cache

    def run(self, *, unmeasured: bool = False) -> Launch:
        """Boot what grub.cfg says, from a TPM that was just powered on.

        Nothing is measured when the entry has no tboot, or with `unmeasured`: tboot
        falls back so when the processor or the SINIT module refuses. A log of an
        earlier boot is gone either way. SimulationError when GRUB boots nothing.
        """
        log = self.root / self.model.log_format.path
        log.unlink(missing_ok=True)
        config = find_config(self.root)
        run = run_grub(self.cache.grub_emu, config)
        write_saved(config, run.saved)
        entry = entry_of(run)
        if entry is None or unmeasured:
            return Launch(entry, ())
        mle = self._mle(entry.kernel)
        if not mle:
            return Launch(entry, ())
        records = tuple(self._records(mle, entry.modules))
        self._measure(records)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(self.model.log_format.write(records, self.model.banks))
        return Launch(entry, records)

    def resolve(self, path: str) -> Path:
        """Return the file that GRUB finds; /boot may be a file system of its own."""
        whole, below_boot = self.root / path[1:], self.root / "boot" / path[1:]
        candidates = [below_boot, whole]
        if path.startswith("/boot/"):
            candidates = [whole, below_boot]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise SimulationError(f"GRUB cannot find {path}: this machine does not boot")

    def _mle(self, kernel: LoadedFile) -> Digests:
        """Hash the MLE in SINIT's banks; nothing when the kernel is no tboot."""
        path = self.resolve(kernel.path)
        banks = self.model.banks
        with ThreadPoolExecutor() as pool:  # a run of lcp2_mlehash takes 0.08 s
            hashed = pool.map(
                lambda bank: hash_mle(self.cache, path, kernel.cmdline, bank), banks
            )
            pairs = list(zip(banks, hashed, strict=True))
        return {bank: digest for bank, digest in pairs if digest is not None}

    def _records(
        self, mle: Digests, modules: Sequence[LoadedFile]
    ) -> Iterator[LogRecord]:
        yield self._hash_start()
        for event in self.model.sinit:
            digests = mle if event.type == TXT_MLE_HASH else self._sinit_digests(event)
            yield LogRecord(event.pcr, event.type, digests, event.data)
        for pcr in self.model.policy_pcrs:
            yield LogRecord(pcr, TBOOT_MEASUREMENT, self.model.policy, b"")
        for index, digests in enumerate(self._modules(modules)):
            pcr = self.model.xen_pcr if index == 0 else self.model.modules_pcr
            yield LogRecord(pcr, TBOOT_MEASUREMENT, digests, b"")

    def _hash_start(self) -> LogRecord:
        digests = {}
        for bank in self.model.banks:
            digest = bank.hash(self.model.hash_start_data)
            if self.model.hash_start is HashStart.SET:
                digest = bank.zero().extended(digest)
            digests[bank] = digest
        return LogRecord(17, TXT_HASH_START, digests, self.model.hash_start_data)

    def _sinit_digests(self, event: SinitEvent) -> Digests:
        if event.pcr > _LAST_PCR:
            return {bank: bank.zero() for bank in self.model.banks}
        return {
            bank: event.digests.get(bank) or bank.hash(event.data)
            for bank in self.model.banks
        }

    def _modules(self, modules: Sequence[LoadedFile]) -> list[Digests]:
        """Hash what tboot measures, in its banks."""
        images = [Image(self.resolve(each.path), each.decompress) for each in modules]
        kept = measured_modules(images)
        measured: list[dict[HashAlgorithm, Digest]] = [{} for _ in kept]
        for bank in self.model.tboot_banks:
            hashed = hash_images(self.cache, [images[index] for index in kept], bank)
            for digests, index, image in zip(measured, kept, hashed, strict=True):
                digests[bank] = hash_module(image, modules[index].cmdline)
        return list(measured)

    def _measure(self, records: Sequence[LogRecord]) -> None:
        """Send to the TPM what the processor, SINIT and tboot send."""
        self.tpm.hash_sequence(self.model.hash_start_data)
        extends = [
            (record.pcr, record.digests)
            for record in records[1:]
            if record.pcr <= _LAST_PCR
        ]
        self.tpm.extend(extends, LOCALITY_LAUNCHED)
