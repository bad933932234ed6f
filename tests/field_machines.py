# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated machine that is updated while it runs, predicted, and booted again.

No secret is sealed here: what counts is what was predicted and what the TPM then held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tpm_sim.boot_directory import make_boot_directory
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES, MachineModel
from tpm_sim.models import TrenchbootModel
from tpm_sim.trenchboot_directory import make_trenchboot_directory

from aemseal.flows.survey import Survey, survey_against
from aemseal.measure.baseline import Baseline
from aemseal.measure.claims import Prediction
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.world.host import LiveHost

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
LAUNCHED = range(17, 23)


@dataclass
class FieldMachine:
    """A machine that runs, and what the last look at it told."""

    machine: Machine
    bank: HashAlgorithm = SHA256
    known: Baseline | None = None

    @property
    def boot_folder(self) -> Path:
        return self.machine.root / "boot"

    def file(self, name: str) -> Path:
        """A file of /boot; under UEFI, of the EFI system partition."""
        if (self.boot_folder / name).exists():
            return self.boot_folder / name
        return next(self.boot_folder.rglob(name), self.boot_folder / name)

    @property
    def grub_cfg(self) -> Path:
        return self.boot_folder / "grub/grub.cfg"

    def update(self, *names: str) -> None:
        """Overwrite files of /boot, as a package does."""
        for name in names:
            self.file(name).write_bytes(b"an update of " + name.encode())

    def edit(self, name: str, old: str, new: str) -> None:
        """Change words of a configuration."""
        path = self.file(name)
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def values(self) -> dict[int, Digest]:
        """The PCRs of the launch, without those that nothing extended."""
        found = self.machine.tpm.read_pcrs(self.bank)
        return {pcr: found[pcr] for pcr in LAUNCHED if not found[pcr].is_blank}

    def look(self) -> Survey:
        """Survey the running boot, with what was known of it before an update."""
        wish = PcrSelection.of(self.bank, set(self.values()))
        host = LiveHost(self.machine.root, self._pcrs, read_nv=self.machine.tpm.read_nv)
        return survey_against(host, self.known, wish)

    def remember(self) -> Survey:
        """Look while the files of the running boot are there, and keep what was seen.

        As enrol and confirm do. Every one of them must explain its measurement.
        """
        found = self.look()
        assert found.calibration.is_calibrated
        self.known = found.running
        return found

    def predict(self) -> Prediction:
        """Predict the boot that GRUB starts next."""
        return self.look().predict(None, hook=False)

    def becomes(self, **changes: object) -> None:
        """Make another machine of it from the next boot on: its log, its firmware."""
        self.machine.model = replace(self.machine.model, **changes)  # type: ignore[arg-type] # each model has its own fields

    def reboot(self) -> dict[int, Digest]:
        """Switch off and on; return what the TPM then holds."""
        self.machine.power_off()
        assert self.machine.boot().launch.is_measured
        return self.values()

    def boots_as_predicted(self) -> Prediction:
        """Predict, reboot, and hold the one against the other: every PCR is known."""
        prediction = self.predict()
        assert not prediction.refusals
        assert prediction.is_calibrated
        before = self.values()
        assert dict(prediction.bank(self.bank).values) == self.reboot()
        assert self.values() != before, "the update changes something"
        self.remember()
        return prediction

    def boots_as_far_as_predicted(self) -> dict[int, str]:
        """Predict and reboot; the PCRs that were refused, with the reasons.

        What was not refused must be so.
        """
        prediction = self.predict()
        said = dict(prediction.bank(self.bank).values)
        now = self.reboot()
        assert said == {pcr: now[pcr] for pcr in said}
        refused = {each.pcr: each.reason for each in prediction.refusals}
        assert set(said) | set(refused) == set(now)
        return refused

    def _pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        return PcrBank(algorithm, dict(self.machine.tpm.read_pcrs(algorithm)))


@contextmanager
def running(
    model: MachineModel | str, folder: Path, *more_modules: str
) -> Iterator[FieldMachine]:
    """Start a machine, with small files, and remember its boot.

    `more_modules` are lines of the boot entry, or of Xen's configuration; their files
    hold their own names.
    """
    if isinstance(model, str):
        model = MACHINES[model]
    with Machine(model, folder / "root") as machine:
        lay_out(machine.root, model, folder, more_modules)
        machine.boot()
        made = FieldMachine(machine, SHA256 if SHA256 in model.banks else SHA1)
        made.remember()
        yield made


def lay_out(
    root: Path, model: MachineModel, folder: Path, more_modules: Sequence[str] = ()
) -> None:
    """Make the /boot of a model, with a kernel that a launch takes for one."""
    kernel = folder / "vmlinuz"
    kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
    cache = Cache.default()
    for line in more_modules:
        name = next(word for word in line.split() if word.startswith("/"))[1:]
        (root / "boot").mkdir(parents=True, exist_ok=True)
        (root / "boot" / name).write_bytes(name.encode())
    if isinstance(model, TrenchbootModel):
        make_trenchboot_directory(
            root, model, cache, kernel=kernel, more_modules=more_modules
        )
    else:
        make_boot_directory(
            root, cache, kernel=kernel, model=model, more_modules=more_modules
        )
