# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the recordings of simulated machines in tests/recorded anew.

    PYTHONPATH=tpm-sim .venv/bin/python tests/recorded_simulations.py [NAME ...]

Each is a machine of tpm-sim with the commands given on it that a person would give,
recorded with a newer kernel in /boot, so that the next boot differs from this one. It
needs what `make setup` installs. A folder that is there already is left alone: an old
recording guards that later versions of the tool still read it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorded_machines import RECORDED, Ran, run, write_expected
from tpm_sim.boot_directory import INITRAMFS_TREE, BootDirectory, write_initramfs
from tpm_sim.initramfs import build_command, run_hook
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES
from tpm_sim.models import MachineModel, Map, TbootModel

from aemseal.words.digest import HashAlgorithm

SECRET = "the heron stands in the ford at dusk"
KERNEL = b"dom0's kernel, as far as a launch can tell\n" * 99
NEWER_KERNEL = b"newer kernel, as far as a launch can tell \n" * 99
"""Of the same size: TrenchBoot's GRUB measures where it puts files in memory."""

GROWN_KERNEL = NEWER_KERNEL * 2


@dataclass(frozen=True)
class Laptop:
    """A machine that is on, its /boot, and the commands given on it."""

    machine: Machine
    boot: BootDirectory

    @classmethod
    def made(cls, machine: Machine) -> Laptop:
        """Install a machine with a small kernel and start it."""
        made = machine.install()
        made.kernel.write_bytes(KERNEL)
        settled: dict[str, object] = {"initramfs_command": build_command(machine.root)}
        stick = {"label": "stick", "path": "/boot/aemseal", "carried": True}
        settled |= {"media": [stick], **_settled_pcrs(machine.model)}
        config = machine.root / "etc/aemseal.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(settled), encoding="utf-8")
        if made.xen_config:
            (machine.root / "sys/firmware/efi").mkdir(parents=True)
        laptop = cls(machine, made)
        laptop.reboot()
        return laptop

    def aemseal(self, *arguments: str) -> None:
        """Give a command that must succeed."""
        ran = self.tried(*arguments)
        if ran.code != 0:
            raise SystemExit(f"{self.machine.model.name}: {arguments}: {ran.told}")

    def tried(self, *arguments: str) -> Ran:
        """Give a command."""
        words = (*arguments, "--root", str(self.machine.root))
        return run(*words, tcti=self.machine.tcti, stdin=SECRET.encode())

    def reboot(self) -> None:
        """Switch off and on; the hook of the booted image runs, if it has one."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        # Where Xen is a UEFI program the image lies elsewhere, and has no hook.
        self.machine.boot(None if self.boot.xen_config else run_hook)

    def enrol(self) -> None:
        """Seal a secret and reach the boot that shows it."""
        if self.tried("enrol", "text").code != 0:
            # TrenchBoot's GRUB measures sizes: it takes a boot with the larger image.
            self.reboot()
            self.aemseal("enrol", "text")
        self.reboot()
        self.aemseal("confirm")


def _settled_pcrs(model: MachineModel) -> dict[str, str]:
    """Return what the owner of a TPM with a SHA-1 bank alone must write down."""
    if HashAlgorithm.SHA256 in model.banks:
        return {}
    is_da = isinstance(model, TbootModel) and model.map is Map.DETAILS_AUTHORITIES
    return {"pcrs": "sha1:17,18" if is_da else "sha1:17,18,19"}


def add_newer_entry(laptop: Laptop, kernel: bytes) -> None:
    """Put a newer kernel beside the old one, in an entry of its own: the first."""
    boot = laptop.boot
    names = {each.name: _newer(each.name) for each in (boot.kernel, boot.initramfs)}
    boot.kernel.with_name(_newer(boot.kernel.name)).write_bytes(kernel)
    tree = {**INITRAMFS_TREE, "etc/machine": b"for newer kernels\n"}
    write_initramfs(boot.initramfs.with_name(_newer(boot.initramfs.name)), tree)
    if boot.xen_config:
        # Which word names a section is open, so the newer Xen has a file of its own.
        config = _renamed(boot.xen_config.read_text(encoding="utf-8"), names)
        beside = boot.xen_config.with_name(_newer(boot.xen_config.name))
        beside.write_text(config, encoding="utf-8")
        names = {boot.xen.name: _newer(boot.xen.name)}
        shutil.copyfile(boot.xen, boot.xen.with_name(names[boot.xen.name]))
    text = boot.grub_cfg.read_text(encoding="utf-8")
    before, mark, rest = text.partition("menuentry 'AEM Qubes, with Xen hypervisor'")
    entry, end, _ = rest.partition("\n}\n")
    newer = "menuentry 'AEM Qubes, with Xen hypervisor and a newer kernel'"
    entry = _renamed(entry, {**names, "'aem-xen'": "'aem-xen-newer'"})
    written = f"{before}{newer}{entry}{end}{mark}{rest}"
    boot.grub_cfg.write_text(written, encoding="utf-8")


def _newer(name: str) -> str:
    path = Path(name)
    return f"{path.stem}-newer{path.suffix}"


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def overwrite_kernel(laptop: Laptop) -> None:
    """Have an update overwrite the kernel, as that of a Xen does."""
    laptop.boot.kernel.write_bytes(NEWER_KERNEL)


# What happened on a machine before it was recorded


def updated(laptop: Laptop) -> None:
    """Nothing is sealed; a newer kernel lies beside the one that runs."""
    add_newer_entry(laptop, NEWER_KERNEL)


def grown(laptop: Laptop) -> None:
    """Nothing is sealed; the newer kernel is larger than the one that runs."""
    add_newer_entry(laptop, GROWN_KERNEL)


def sealed_and_updated(laptop: Laptop) -> None:
    """The vault's boot runs; the kernel was overwritten by an update."""
    laptop.enrol()
    overwrite_kernel(laptop)


def sealed_and_staged(laptop: Laptop) -> None:
    """The vault's boot runs; the next one has a newer kernel, and is staged."""
    laptop.enrol()
    overwrite_kernel(laptop)
    laptop.aemseal("reseal", "--accept", "kernel")


def sealed_and_tampered(laptop: Laptop) -> None:
    """A boot runs whose initramfs somebody changed."""
    laptop.enrol()
    image = laptop.boot.initramfs.read_bytes()
    changed = image.replace(b"a simulated laptop", b"A simulated laptop")
    laptop.boot.initramfs.write_bytes(changed)
    laptop.reboot()


def sealed_with_another_sinit(laptop: Laptop) -> None:
    """The vault's boot runs; GRUB's last SINIT module is another file by now."""
    laptop.enrol()
    path = laptop.boot.launch_modules[-1]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


Story = Callable[[Laptop], None]

SIMULATIONS: Mapping[str, tuple[str, Story]] = {
    "tboot-da-updated": ("tboot-da", sealed_and_updated),
    "tboot-da-tcg-sha1": ("tboot-da-tcg-sha1", updated),
    "tboot-da-per-bank": ("tboot-da-per-bank", sealed_and_updated),
    "tboot-da-heap": ("tboot-da-heap", updated),
    "tboot-da-text": ("tboot-da-text", sealed_and_updated),
    "tboot-da-memory": ("tboot-da-memory", updated),
    "tboot-da-policy": ("tboot-da-policy", sealed_and_updated),
    "tboot-da-sinit-file": ("tboot-da-sinit-file", sealed_with_another_sinit),
    "tboot-da-capped": ("tboot-da-capped", sealed_and_updated),
    "tboot-da-random": ("tboot-da-random", updated),
    "tboot-gm45": ("tboot-gm45", updated),
    "tboot-legacy-staged": ("tboot-legacy", sealed_and_staged),
    "tboot-legacy-tampered": ("tboot-legacy", sealed_and_tampered),
    "tboot-legacy-txt-container": ("tboot-legacy-txt-container", updated),
    "trenchboot-skinit": ("trenchboot-skinit", updated),
    "trenchboot-skinit-grown": ("trenchboot-skinit", grown),
    "trenchboot-skinit-uefi": ("trenchboot-skinit-uefi-v0.5.3", updated),
    "trenchboot-txt": ("trenchboot-txt", sealed_and_updated),
    "trenchboot-txt-uefi": ("trenchboot-txt-uefi", updated),
}
"""The recordings by name: the machine, and what happened on it."""


def make(name: str, folder: Path) -> None:
    """Make one recording and its expected.json in a new folder."""
    model, story = SIMULATIONS[name]
    with (
        tempfile.TemporaryDirectory(prefix="recorded-") as scratch,
        Machine(MACHINES[model], Path(scratch)) as machine,
    ):
        laptop = Laptop.made(machine)
        story(laptop)
        laptop.aemseal("record", str(folder))
    write_expected(folder, ())


def main(names: Sequence[str]) -> int:
    """Make the recordings named, or all; those that are there stay as they are."""
    for name in names or SIMULATIONS:
        folder = RECORDED / name
        if folder.exists():
            print(f"{name}: there already")
            continue
        make(name, folder)
        size = sum(each.stat().st_size for each in folder.iterdir())
        print(f"{name}: {size} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
