# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's measured launch: SENTER and SINIT measure tboot, tboot measures the rest.

Says what a machine of the given kind measures of the files that GRUB loads. Sources:
Intel TXT Software Development Guide 1.10 (measurements of SENTER and SINIT),
tboot/common/policy.c and integrity.c of tboot 1.10 (what tboot extends, and in which
order), txt/txt.c (which SINIT module it takes, and what it asks that for).

Simulated, and said so: SENTER and SINIT are not run, their events are figures from a
real machine. The SINIT module is the firmware's own; on the machines that have modules
in /boot these are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.events import TBOOT_MEASUREMENT, TXT_HASH_START
from tpm_sim.disk import Disk
from tpm_sim.errors import SimulationError
from tpm_sim.eventlog import LogRecord
from tpm_sim.grub import LoadedEntry, LoadedFile
from tpm_sim.hashing import hash_mle, hash_module
from tpm_sim.heap import SinitTable
from tpm_sim.launch import LAST_PCR, Measured
from tpm_sim.models import SHA1, SHA256, TbootModel
from tpm_sim.sinit import Sinit, hash_data_of, selected_module, sinit_banks_of
from tpm_sim.sinit_figures import CAP_VALUE
from tpm_sim.skipped import measured_modules
from tpm_sim.tboot_image import TbootImage
from tpm_sim.tboot_logs import leave_logs
from tpm_sim.tboot_policy import (
    NO_PCR,
    NV_INDEX,
    LaunchPolicy,
    PolicyEntry,
    default_policy,
)
from tpm_sim.tboot_text import ToldLaunch

_DOM0_KERNEL = 1
"""The module that is dom0's kernel; Xen is module 0."""

_FIGURES_SINIT_SIZE = 0x20000
"""Bytes of the module that the figures are of; here the firmware has it."""

ReadNv = Callable[[int], bytes | None]


@dataclass(frozen=True, slots=True)
class TbootMeasured(Measured):
    """What a launch by tboot measured, and all that tboot has to tell of it."""

    told: ToldLaunch


@dataclass(frozen=True, slots=True)
class TbootLaunch:
    """tboot on one machine, with the files of its disk and its TPM's NV memory."""

    model: TbootModel
    disk: Disk
    read_nv: ReadNv

    def kernel_cmdline(self, entry: LoadedEntry) -> bytes:
        """Return what dom0's kernel gets."""
        if len(entry.modules) <= _DOM0_KERNEL:
            return b""
        return entry.modules[_DOM0_KERNEL].cmdline

    def measure(self, entry: LoadedEntry) -> TbootMeasured | None:
        """Say what is measured; None when the kernel is no tboot."""
        tboot = TbootImage.of(self.disk.resolve(entry.kernel.path).read_bytes())
        mle = self._mle(entry.kernel)
        if not mle or tboot is None:
            return None
        sinit = self._sinit(tboot, mle, entry.modules)
        if sinit is None:
            return None
        policy = self._policy(tboot)
        model = self.model
        records = tuple(sinit.records())
        told = ToldLaunch(
            tboot=tboot,
            cmdline=entry.kernel.cmdline,
            is_tpm2=not model.is_tpm12,
            banks=model.banks if model.lists_caps else sinit_banks_of(model),
            log_format=model.event_log,
            sinit=tuple(
                each for each in records if model.lists_caps or each.type != CAP_VALUE
            ),
            own=tuple(self._own_records(policy, entry.modules)),
            policy=policy,
            table=self._table(sinit.hash_data, mle),
            capabilities=sinit.capabilities or 0,
            module_capabilities=self._module_capabilities(sinit),
            bios_sinit_size=self._bios_sinit_size(),
        )
        records = (*records, *told.own)
        extends = tuple(
            (record.pcr, record.digests)
            for record in records
            if record.pcr <= LAST_PCR and record.type != TXT_HASH_START
        )
        return TbootMeasured(sinit.hash_data, extends, records, 0, told)

    def leave_log(self, _entry: LoadedEntry, measured: Measured | None) -> bytes:
        """Write the log wherever this machine keeps it, and return its bytes."""
        if not isinstance(measured, TbootMeasured):
            return b""
        return leave_logs(self.disk.root, self.model, measured.told)

    def _mle(self, kernel: LoadedFile) -> Digests:
        """Hash the MLE in SINIT's banks; nothing when the kernel is no tboot."""
        path = self.disk.resolve(kernel.path)
        banks = sinit_banks_of(self.model)
        cache = self.disk.cache
        with ThreadPoolExecutor() as pool:  # a run of lcp2_mlehash takes 0.08 s
            hashed = pool.map(
                lambda bank: hash_mle(cache, path, kernel.cmdline, bank), banks
            )
            pairs = list(zip(banks, hashed, strict=True))
        return {bank: digest for bank, digest in pairs if digest is not None}

    def _sinit(
        self, tboot: TbootImage, mle: Digests, modules: Sequence[LoadedFile]
    ) -> Sinit | None:
        """Say what SINIT does; None when there is none for this machine."""
        model = self.model
        hash_data, module = model.hash_start_data, None
        if model.platform is not None:
            files = [self.disk.content(each) for each in modules[1:]]
            firmware = model.firmware_sinit
            own = firmware.content if firmware else None
            module = selected_module(files, own, model.platform)
            if module is None:
                return None
            hash_data = hash_data_of(module)
        can = module.capabilities if module else model.module_capabilities
        asked = tboot.os_sinit_capabilities(can, is_tpm2=not model.is_tpm12)
        return Sinit(
            model.sinit,
            sinit_banks_of(model),
            hash_data,
            mle,
            module,
            asked,
            self._table(hash_data, mle).combined(asked),
            model.hash_start,
            model.hash_start_times,
        )

    def _module_capabilities(self, sinit: Sinit) -> int:
        if sinit.module is None:
            return self.model.module_capabilities
        return sinit.module.capabilities

    def _bios_sinit_size(self) -> int:
        """Return the size of the firmware's own SINIT module, 0 if it has none."""
        if self.model.platform is None:
            return _FIGURES_SINIT_SIZE
        firmware = self.model.firmware_sinit
        return len(firmware.content) if firmware else 0

    def _table(self, hash_data: bytes, mle: Digests) -> SinitTable:
        """Return SINIT's table; only with a TPM 1.2 does it hold hashes."""
        table = self.model.table
        if not self.model.is_tpm12:
            return table
        sinit_hash = hash_data[:-4]
        if table.version > 6:
            sinit_hash = SHA1.zero().extended(SHA1.hash(hash_data)).value
        policy = mle[SHA1].value if self.model.has_mle_in_policy else bytes(20)
        return replace(
            table,
            sinit_hash=sinit_hash,
            mle_hash=mle[SHA1].value,
            lcp_policy_hash=policy,
        )

    def _policy(self, tboot: TbootImage) -> LaunchPolicy:
        """Return the policy in the TPM, else the one that is built in."""
        stored = None if self.model.is_tpm12 else self.read_nv(NV_INDEX)
        if stored is not None:
            return LaunchPolicy.of(stored)
        return default_policy(
            tboot.number,
            is_tpm12=self.model.is_tpm12,
            others_pcr=self.model.modules_pcr,
        )

    def _own_records(
        self, policy: LaunchPolicy, modules: Sequence[LoadedFile]
    ) -> Iterator[LogRecord]:
        """Tell what tboot extends: the policy, Xen, then what the policy says."""
        banks = self.model.tboot_banks
        own = SHA1 if SHA256 not in banks else SHA256
        digests = {
            bank: self.model.policy.get(bank) or policy.digest(bank, own)
            for bank in banks
        }
        for pcr in self.model.policy_pcrs:
            yield LogRecord(pcr, TBOOT_MEASUREMENT, digests, b"")
        measured = self._modules(modules)
        for number, found in enumerate(measured):
            if number == 0:
                yield LogRecord(self.model.xen_pcr, TBOOT_MEASUREMENT, found, b"")
            entry = policy.entry(number)
            if entry is None:
                continue
            if policy.halts and not _passes(found, entry):
                raise SimulationError(f"tboot halts: module {number} is not listed")
            if entry.pcr != NO_PCR:
                yield LogRecord(entry.pcr, TBOOT_MEASUREMENT, found, b"")

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


def _passes(found: Digests, entry: PolicyEntry) -> bool:
    """Whether an entry takes a module with these hashes."""
    if entry.hashes is None:
        return True
    return any(digest.value in entry.hashes for digest in found.values())
