# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot: GRUB loads, a launcher measures into a real TPM, a log is left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tpm_sim.cache import Cache
from tpm_sim.disk import Disk
from tpm_sim.launch import Launch
from tpm_sim.memory import clear_memory
from tpm_sim.models import MachineModel, TbootModel, TrenchbootModel
from tpm_sim.swtpm import LOCALITY_LAUNCHED, Swtpm
from tpm_sim.tboot_launch import TbootLaunch
from tpm_sim.tboot_logs import forget_logs
from tpm_sim.trenchboot_launch import TrenchbootLaunch


@dataclass(frozen=True, slots=True)
class DynamicLaunch:
    """The launcher of one machine: its model, its TPM and its file system's root."""

    model: MachineModel
    tpm: Swtpm
    root: Path
    cache: Cache

    def run(self, *, unmeasured: bool = False) -> Launch:
        """Boot what grub.cfg says, from a TPM that was just powered on.

        Nothing is measured when the entry launches nothing, or with `unmeasured`: a
        launcher falls back so when the processor or the SINIT module refuses. A log
        of an earlier boot is gone either way. SimulationError when GRUB boots nothing.
        """
        (self.root / self.model.log_path).unlink(missing_ok=True)
        forget_logs(self.root)
        clear_memory(self.root)
        disk = Disk(self.root, self.cache)
        launcher = self._launcher(disk)
        entry = disk.boot_entry()
        if entry is None:
            return Launch(None, ())
        kernel_cmdline = launcher.kernel_cmdline(entry)
        measured = None if unmeasured else launcher.measure(entry)
        if measured is not None:
            self.tpm.hash_sequence(measured.hash_data)
            self.tpm.extend(measured.extends, LOCALITY_LAUNCHED)
        log = launcher.leave_log(entry, measured)
        records = measured.records if measured else ()
        return Launch(entry, records, kernel_cmdline, log)

    def _launcher(self, disk: Disk) -> TbootLaunch | TrenchbootLaunch:
        if isinstance(self.model, TbootModel):
            return TbootLaunch(self.model, disk, self.tpm.read_nv)
        assert isinstance(self.model, TrenchbootModel)
        return TrenchbootLaunch(self.model, disk)
