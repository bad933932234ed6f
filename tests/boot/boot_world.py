# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose boots are real: GRUB, tboot, Xen, dom0 and dracut's initramfs.

Its files lie in a folder, from which every boot's disk is made. What the launch would
measure is computed by tpm-sim from those very files, and extended behind QEMU's back.
The tool's moves run on the same TPM's memory while the PC is off: `pretend_boot` puts
the TPM where the boot left it.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tpm_sim.boot_directory import (
    BOOT_UUID,
    LUKS_UUID,
    BootDirectory,
    make_boot_directory,
)
from tpm_sim.boot_disk import make_boot_disk
from tpm_sim.cache import PROJECT, Cache
from tpm_sim.dracut import build_command
from tpm_sim.launcher import DynamicLaunch
from tpm_sim.luks_root import make_luks_root
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA
from tpm_sim.qemu import Pc
from tpm_sim.qemu_tpm import Measured, QemuTpm
from tpm_sim.swtpm import LOCALITY_OS

from aemseal.words.digest import Digest, Digests, HashAlgorithm

SECRET = "the heron stands in the ford at dusk"
VERDICT = "THE-ROOT-WAS-ENTERED"
PROMPT = "Please enter passphrase"
"""How the passphrase prompt begins."""

XEN_WORDS = (
    "console=com1 com1=115200,8n1 smap=0 smep=0 dom0_mem=704M,max:704M "
    "dom0_max_vcpus=1 no-real-mode edd=off spec-ctrl=no"
)
LINUX_WORDS = (
    f"console=hvc0 edd=off quiet root=/dev/mapper/luks-{LUKS_UUID} rw "
    f"rd.luks.uuid=luks-{LUKS_UUID} rd.shell=0 rd.emergency=poweroff "
    "mitigations=off rd.luks.options=x-systemd.device-timeout=600"
)
"""The last word: a busy host without KVM takes over 90 s to find the disk.
systemd 252 has no word for the time of all devices, DefaultDeviceTimeoutSec.
spec-ctrl and mitigations: what they have the processor do is emulated, and slow."""
_TBOOT = "logging=serial,memory serial=115200,8n1,0x3f8"
_PADDED = 8 << 20
"""tboot 1.10.5 halts where a module fits below its own 8 MiB (move_modules)."""


@dataclass(frozen=True)
class Ran:
    """What a command of the tool gave."""

    code: int
    out: str
    told: str


class _Listening:
    """Takes a launch down instead of measuring it into a TPM."""

    def __init__(self) -> None:
        self.data = b""
        self.extends: tuple[tuple[int, Digests], ...] = ()

    def hash_sequence(self, data: bytes) -> None:
        self.data = data

    def extend(self, extends: tuple[tuple[int, Digests], ...], locality: int) -> None:
        self.extends = (*self.extends, *extends)

    def read_nv(self, index: int) -> bytes | None:
        return None


@dataclass
class BootWorld:
    """One machine; a context manager. `media` are as the configuration has them."""

    folder: Path
    cache: Cache
    media: tuple[Mapping[str, object], ...] = (
        {
            "label": "stick",
            "path": "/boot/aemseal",
            "carried": True,
            "device": f"UUID={BOOT_UUID}",
        },
    )
    files: BootDirectory = field(init=False)

    def __enter__(self) -> Self:
        self.root = self.folder / "root"
        self.files = self.install()
        menu = self.files.grub_cfg.read_text(encoding="utf-8")
        menu = menu.replace("set timeout=5", "set timeout=0")
        self.files.grub_cfg.write_text(menu, encoding="utf-8")
        self.disk = self.files.luks_header
        make_luks_root(self.disk, LUKS_UUID, self.cache, VERDICT)
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.tpm.discard()

    def install(self) -> BootDirectory:
        """Choose the machine, and put there what it boots."""
        self.machine = Machine(TBOOT_DA, self.root, self.cache)
        return make_boot_directory(
            self.root,
            self.cache,
            xen=self._padded(self.cache.xen_old),
            tboot_args=_TBOOT,
            xen_args=XEN_WORDS,
            kernel_args=LINUX_WORDS,
        )

    def configure(self, **more: object) -> None:
        """Write /etc/aemseal.yaml (JSON is YAML)."""
        settled = {
            "initramfs_command": build_command(self.root),
            "media": list(self.media),
            **more,
        }
        path = self.root / "etc/aemseal.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settled), encoding="utf-8")

    def _padded(self, xen: Path) -> Path:
        image = gzip.decompress(xen.read_bytes()).ljust(_PADDED, b"\0")
        path = self.folder / f"padded-{xen.name}"
        path.write_bytes(gzip.compress(image, 1, mtime=0))
        return path

    def install_xen(self, xen: Path) -> None:
        """Overwrite Xen in /boot, as a respin does."""
        self.files.xen.write_bytes(self._padded(xen).read_bytes())

    def change_menu(self, old: str, new: str) -> None:
        """Change what the measured entry of grub.cfg says, and nothing else of it."""
        menu = self.files.grub_cfg.read_text(encoding="utf-8")
        assert old in menu
        self.files.grub_cfg.write_text(menu.replace(old, new, 1), encoding="utf-8")

    # --- the tool, while the PC is off ---

    def pretend_boot(self, record: str | None = None) -> None:
        """Have the TPM and /run be as this boot left them, for the tool to look at."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        self.machine.boot()
        if record is None:
            return
        for line in record.splitlines():
            words = line.split()
            if words[0] in ("luks", "cap"):
                digest = Digest(HashAlgorithm.SHA256, bytes.fromhex(words[-1]))
                self._extend_13(digest)
        path = self.root / "run/aemseal/record"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record, encoding="ascii")

    def _extend_13(self, digest: Digest) -> None:
        other = Digest(HashAlgorithm.SHA1, digest.value[:20])
        digests = {HashAlgorithm.SHA256: digest, HashAlgorithm.SHA1: other}
        banks = {each: digests[each] for each in self.machine.tpm.banks}
        self.machine.tpm.extend([(13, banks)], LOCALITY_OS)

    def aemseal(self, *words: str, stdin: str = "") -> Ran:
        """Give a command of the tool on this machine."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "aemseal.face.cli",
                *words,
                "--root",
                str(self.root),
            ],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "TPM2TOOLS_TCTI": self.machine.tcti,
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def did(self, *words: str, stdin: str = "") -> str:
        """Give a command that has to succeed; return what it printed."""
        ran = self.aemseal(*words, stdin=stdin)
        assert ran.code == 0, ran.told
        return ran.out

    def enrol(self, *words: str) -> None:
        """Seal the text from a boot that ran no hook: the next boot is staged."""
        self.pretend_boot()
        self.did("enrol", "text", *words, stdin=SECRET)

    def boot_here(self, pin: str = "") -> Ran:
        """Boot without QEMU: the launch, then the shipped hook, run on this machine.

        For the way to where a case begins. `pin` is typed whenever one is asked for.
        """
        self.pretend_boot()
        asker = self.folder / "asker"
        asker.write_text(f"#!/bin/sh\necho '{pin}'\n", encoding="ascii")
        asker.chmod(0o700)
        done = subprocess.run(
            [
                *("sh", str(PROJECT / "boot-hooks/aemseal-unseal")),
                *("-e", str(self.root / "var/lib/aemseal/hook")),
                *("-r", str(self.root / "run/aemseal")),
                *("-m", str(self.root / "boot/aemseal")),
                *("-c", str(self.root / "proc/cmdline")),
                *("-d", str(self.root / "dev/disk/by-uuid")),
                *("-p", str(asker)),
            ],
            env={**os.environ, "TPM2TOOLS_TCTI": self.machine.tcti},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def confirm_here(self, pin: str = "") -> None:
        """Boot without QEMU, and have the boot that was staged be the accepted one."""
        hook = self.boot_here(pin)
        assert hook.code == 0, hook.told
        self.did("confirm")

    def accept_menu(self, old: str, new: str) -> None:
        """Change dom0's words in grub.cfg, and have that be the accepted boot."""
        self.boot_here()
        self.change_menu(old, new)
        self.did("reseal", "--accept", "kernel")
        self.confirm_here()

    # --- as it was ---

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Whatever becomes of the machine in here, it is put back as it was before."""
        if self.machine.tpm.is_on:
            self.machine.power_off()
        with tempfile.TemporaryDirectory(dir=self.folder) as kept:
            state, disk = Path(kept, "tpm"), Path(kept, "root")
            state.mkdir()
            self.machine.tpm.copy_state(state)
            shutil.copytree(self.root, disk, symlinks=True)
            try:
                yield
            finally:
                if self.machine.tpm.is_on:
                    self.machine.power_off()
                self.machine.tpm.put_state(state)
                shutil.rmtree(self.root)
                disk.rename(self.root)

    # --- real boots ---

    def measured(self) -> Measured:
        """What a launch of the files as they are now sends to the TPM."""
        listening = _Listening()
        chip: Any = listening  # it is spoken to as the TPM is
        DynamicLaunch(self.machine.model, chip, self.root, self.cache).run()
        return Measured(listening.data, listening.extends)

    @contextmanager
    def pc(
        self,
        *,
        launched: bool = True,
        keeps: bool = False,
        more_disks: Sequence[Path] = (),
        without_medium: bool = False,
        again: bool = False,
    ) -> Iterator[Pc]:
        """Switch the PC on with a disk made of the files as they are now.

        `launched` off: no dynamic launch takes place. `without_medium`: /boot is there,
        and the folder with the sealed files is not. `again`: with the disk as the boot
        before left it.
        """
        if self.machine.tpm.is_on:
            self.machine.power_off()
        disk = self.folder / "disk"
        launch = self.measured() if launched else None
        if not again:
            self._make_disk(disk, without_medium=without_medium)
        with (
            QemuTpm(self.machine.tpm, launch) as tpm,
            Pc(tpm, (disk, self.disk, *more_disks), self.folder, keeps=keeps) as pc,
        ):
            yield pc

    def _make_disk(self, disk: Path, *, without_medium: bool) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            boot = Path(scratch, "boot")
            left_out = shutil.ignore_patterns("aemseal") if without_medium else None
            shutil.copytree(self.root / "boot", boot, symlinks=True, ignore=left_out)
            make_boot_disk(disk, boot, BOOT_UUID, self.cache)


class PlainWorld(BootWorld):
    """A machine without systemd in its initramfs: dracut's own init."""

    def configure(self, **more: object) -> None:
        """Write the configuration, with that initramfs."""
        plain = build_command(self.root, "plain")
        super().configure(initramfs_command=plain, **more)


def record_of(console: str) -> str:
    """Return the hook's record, as the entered root prints it."""
    inside = console.split("RECORD-BEGIN\n")[1].split("RECORD-END")[0]
    return "".join(f"{line.strip()}\n" for line in inside.splitlines() if line.strip())
