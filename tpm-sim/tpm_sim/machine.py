# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole simulated laptop: a disk, a TPM, a power switch and a measured launch."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tpm_sim.boot_directory import BootDirectory, make_boot_directory
from tpm_sim.build_id import build_id_of
from tpm_sim.cache import Cache
from tpm_sim.disk import Disk
from tpm_sim.launch import Launch
from tpm_sim.launcher import DynamicLaunch
from tpm_sim.models import MachineModel, TbootModel, TrenchbootModel
from tpm_sim.policy_tool import make_policy
from tpm_sim.swtpm import Swtpm
from tpm_sim.tboot_policy import NV_INDEX
from tpm_sim.trenchboot_directory import make_trenchboot_directory
from tpm_sim.unpacked import unpacked


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: its number from 1, what was measured, what the hook returned."""

    number: int
    launch: Launch
    hook_result: object


class Machine:
    """A laptop of one model; it is off until `boot`.

    `root` is its file system: /boot, /dev/disk/by-uuid, /sys with the launch's log,
    /proc with the kernel's command line and boot id, /run fresh at each boot. As a
    context manager the TPM, and a root made here, are removed at the end.
    """

    def __init__(
        self, model: MachineModel, root: Path | None = None, cache: Cache | None = None
    ) -> None:
        self.model = model
        self.cache = cache or Cache.default()
        self._own_root = root is None
        self.root = root or Path(tempfile.mkdtemp(prefix="laptop-"))
        self.tpm = Swtpm(model.banks)
        self.boots = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.tpm.discard()
        if self._own_root:
            shutil.rmtree(self.root, ignore_errors=True)

    @property
    def tcti(self) -> str:
        """The TCTI for tpm2-tools and tpm2-pytss."""
        return self.tpm.tcti

    @property
    def log_path(self) -> Path:
        """Where a measured boot leaves the launch's log."""
        return self.root / self.model.log_path

    def install(self) -> BootDirectory:
        """Put a plausible /boot and a disk there, as this model boots them."""
        if isinstance(self.model, TrenchbootModel):
            return make_trenchboot_directory(self.root, self.model, self.cache)
        made = make_boot_directory(self.root, self.cache, model=self.model)
        self.provision_policy()
        return made

    def provision_policy(self) -> None:
        """Have the owner put the model's policy into the TPM, of the files as they are.

        Nothing is done where the model has none. The machine must be off.
        """
        model = self.model
        if not isinstance(model, TbootModel) or not model.policy_rules:
            return
        policy = make_policy(Disk(self.root, self.cache), model)
        self.tpm.power_on()
        self.tpm.write_nv(NV_INDEX, policy)
        self.tpm.power_off()

    def boot(
        self,
        hook: Callable[[Machine], object] | None = None,
        *,
        unmeasured: bool = False,
    ) -> Boot:
        """Power on, launch what grub.cfg says, then run the initramfs hook, if any.

        The hook runs at locality 0, as everything after the launch does. With
        `unmeasured` tboot falls back and PCR 17 to 22 stay FF... SimulationError when
        the machine is on already or finds nothing to boot.
        """
        self.tpm.power_on()
        self.boots += 1
        launcher = DynamicLaunch(self.model, self.tpm, self.root, self.cache)
        launch = launcher.run(unmeasured=unmeasured)
        self._start_kernel(launch)
        return Boot(self.boots, launch, hook(self) if hook else None)

    def power_off(self) -> None:
        """Shut down in good order."""
        self.tpm.power_off()

    def power_cut(self) -> None:
        """Pull the plug."""
        self.tpm.power_cut()

    def _start_kernel(self, launch: Launch) -> None:
        """Lay out what a freshly started kernel shows in /run and /proc."""
        shutil.rmtree(self.root / "run", ignore_errors=True)
        (self.root / "run").mkdir(parents=True)
        boot_id = uuid.UUID(int=self.boots, version=4)
        random = self.root / "proc/sys/kernel/random"
        random.mkdir(parents=True, exist_ok=True)
        (random / "boot_id").write_text(f"{boot_id}\n", encoding="ascii")
        (self.root / "proc/cmdline").write_bytes(launch.kernel_cmdline + b"\n")
        self._tell_build_id(launch)

    def _tell_build_id(self, launch: Launch) -> None:
        """Let a Xen that GRUB itself launched tell its build id."""
        path = self.root / "sys/hypervisor/buildid"
        path.unlink(missing_ok=True)
        is_xen = isinstance(self.model, TrenchbootModel)
        if launch.entry is None or not launch.is_measured or not is_xen:
            return
        xen = Disk(self.root, self.cache).resolve(launch.entry.kernel.path)
        build_id = build_id_of(unpacked(xen.read_bytes()))
        if build_id is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{build_id}\n", encoding="ascii")
