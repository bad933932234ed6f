# SPDX-License-Identifier: GPL-2.0-or-later
"""TrenchBoot's measured launch: GRUB prepares it, SKL or SINIT starts it, Xen goes on.

Sources: TrenchBoot/secure-kernel-loader main.c (what SKL extends), Xen arch/x86/
slaunch.c and tpm.c (what Xen extends, and in which order).

Simulated, and said so: skl.bin, the SINIT modules and the MLE header in Xen are made
up (slr.py, acm.py, xen_image.py); SINIT's events are figures from a real machine; where
GRUB places things follows its rules, not its bookkeeping (memory.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aemseal.words.digest import Digests
from tpm_sim.disk import Disk
from tpm_sim.errors import SimulationError
from tpm_sim.eventlog import LogRecord
from tpm_sim.grub import LoadedEntry
from tpm_sim.hashing import Image, hash_bytes
from tpm_sim.launch import Measured
from tpm_sim.legacy_loading import LoadedXen, load_xen
from tpm_sim.models import Firmware, Processor, TrenchbootModel
from tpm_sim.sinit import (
    Sinit,
    hash_data_of,
    selected_module,
    trenchboots_capabilities,
)
from tpm_sim.slaunch_log import console_of, leave_log, log_bytes, write_console
from tpm_sim.slr import (
    HEAP_OS_MLE,
    ProcessorState,
    Skl,
    amd_info,
    intel_info,
    os_mle_data,
)
from tpm_sim.uefi_loading import StartedXen, configuration, start_xen

SLAUNCH_MEASUREMENT = 0x502
CODE_PCR = 17
DATA_PCR = 18

AnyXen = LoadedXen | StartedXen


@dataclass(frozen=True, slots=True)
class TrenchbootLaunch:
    """TrenchBoot on one machine, with the files of its disk."""

    model: TrenchbootModel
    disk: Disk

    def kernel_cmdline(self, entry: LoadedEntry) -> bytes:
        """Return what dom0's kernel gets."""
        if entry.is_efi:
            _, config = configuration(self.disk, entry)
            return config.modules[0].words
        return entry.modules[0].cmdline if entry.modules else b""

    def measure(self, entry: LoadedEntry) -> Measured | None:
        """Say what is measured; None when the entry does no dynamic launch.

        GRUB does none without `slaunch`, without a module that it accepts, or for a
        kernel that has no MLE header.
        """
        if not entry.is_launch:
            return None
        xen = self._started(entry)
        if xen is None:
            return None
        if self.model.processor is Processor.AMD:
            return self._with_skinit(entry, xen)
        return self._with_txt(entry, xen)

    def leave_log(self, entry: LoadedEntry, measured: Measured | None) -> bytes:
        """Leave the log and what Xen says on its console; return the log's bytes."""
        address = measured.log_address if measured else None
        cmdline = entry.kernel.cmdline
        write_console(self.disk.root, console_of(self.model, cmdline, address))
        if measured is None:
            return b""
        log = log_bytes(
            measured.records,
            self.model.banks,
            self.model.processor,
            measured.log_address,
        )
        leave_log(self.disk.root, self.model, measured.log_address, log)
        return log

    def _started(self, entry: LoadedEntry) -> AnyXen | None:
        """Load what the entry boots; a machine boots in one of the two ways only."""
        if entry.is_efi is not (self.model.firmware is Firmware.UEFI):
            raise SimulationError("this machine's firmware does not boot this entry")
        load = start_xen if entry.is_efi else load_xen
        return load(self.model, self.disk, entry)

    # AMD

    def _with_skinit(self, entry: LoadedEntry, xen: AnyXen) -> Measured | None:
        """Launch with the last of the entry's modules that GRUB takes for a skl.bin."""
        skls = [
            Skl.of(self.disk.content(module), self.model.skl_header)
            for module in entry.launch_modules
        ]
        skl = next((each for each in reversed(skls) if each), None)
        if skl is None:
            return None
        about = []
        if self.model.generation.has_xen_of_v0_5:
            about = [self._event(DATA_PCR, amd_info(skl.slrt_size))]
        records = (*self._skl(skl, xen), *self._xen(entry, xen, about))
        return Measured.as_told(skl.measured, records, xen.log_address)

    def _skl(self, skl: Skl, xen: AnyXen) -> Iterator[LogRecord]:
        """Tell what the processor and then the Secure Kernel Loader measure."""
        yield self._event(CODE_PCR, skl.measured, b"SKINIT")
        entry_point = xen.entry_point.to_bytes(4, "little")
        yield self._event(CODE_PCR, entry_point, b"DLME entry offset")
        yield self._event(CODE_PCR, xen.measured, b"DLME")

    # Intel

    def _with_txt(self, entry: LoadedEntry, xen: AnyXen) -> Measured | None:
        """Launch with the SINIT module that is for this machine."""
        model = self.model
        assert model.platform is not None
        module = selected_module(
            [self.disk.content(each) for each in entry.launch_modules],
            model.firmware_sinit.content if model.firmware_sinit else None,
            model.platform,
        )
        if module is None:
            return None
        sinit = Sinit(
            model.sinit,
            model.banks,
            hash_data_of(module),
            {bank: hash_bytes(xen.measured, bank) for bank in model.banks},
            module,
            trenchboots_capabilities(module.capabilities, mask_fix=model.has_mask_fix),
        )
        about = [
            self._event(DATA_PCR, intel_info(ProcessorState(), model.generation)),
            self._event(DATA_PCR, self._os_mle(xen), b"Measured TXT OS-MLE data"),
        ]
        records = (*sinit.records(), *self._xen(entry, xen, about))
        return Measured.as_told(sinit.hash_data, records, xen.log_address)

    def _os_mle(self, xen: AnyXen) -> bytes:
        information = xen.information_address if isinstance(xen, LoadedXen) else 0
        return os_mle_data(
            self.model.generation,
            information=information,
            table=HEAP_OS_MLE + 0x80,
            info=HEAP_OS_MLE + 0xC0,
            wake=xen.wake_address,
        )

    # Both

    def _xen(
        self, entry: LoadedEntry, xen: AnyXen, about: list[LogRecord]
    ) -> Iterator[LogRecord]:
        """Tell what Xen measures, in its order; `about` the platform it is told of."""
        if isinstance(xen, StartedXen):
            yield from about
            yield from self._started_by_firmware(xen)
            return
        yield self._event(DATA_PCR, xen.information)
        yield from about
        images = [self.disk.image(module) for module in entry.modules]
        for digests in self._hashed(images):
            yield self._record(CODE_PCR, digests, b"Measured MB2 module")

    def _started_by_firmware(self, xen: StartedXen) -> Iterator[LogRecord]:
        """Tell what a UEFI Xen measures of what it loaded: words, then raw files."""
        yield self._event(DATA_PCR, xen.cmdline, b"Xen's command line")
        images = [Image(module.path, decompress=False) for module in xen.modules]
        for module, digests in zip(xen.modules, self._hashed(images), strict=True):
            yield self._event(DATA_PCR, module.text, b"MB module string")
            yield self._record(CODE_PCR, digests, b"MB module")

    def _hashed(self, images: list[Image]) -> list[Digests]:
        """Hash files in every bank."""
        hashed = {bank: self.disk.hashed(images, bank) for bank in self.model.banks}
        return [
            {bank: found[number] for bank, found in hashed.items()}
            for number in range(len(images))
        ]

    def _event(self, pcr: int, content: bytes, text: bytes = b"") -> LogRecord:
        digests = {bank: hash_bytes(content, bank) for bank in self.model.banks}
        return self._record(pcr, digests, text)

    def _record(self, pcr: int, digests: Digests, text: bytes) -> LogRecord:
        return LogRecord(pcr, SLAUNCH_MEASUREMENT, digests, text)
