# SPDX-License-Identifier: GPL-2.0-or-later
"""Where `make setup` unpacked the packages that simulated boots are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tpm_sim.errors import SimulationError

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache's folder; setup/boot-files.sh says what lies in it."""

    folder: Path

    @classmethod
    def default(cls) -> Cache:
        """Return the cache at AEMSEAL_CACHE, else at .cache in the project."""
        return cls(Path(os.environ.get("AEMSEAL_CACHE") or PROJECT / ".cache"))

    @property
    def is_filled(self) -> bool:
        """Whether everything that a launch needs is there."""
        needed = ("tboot", "grub-emu", "xen-old", "linux")
        return all((self.folder / name / "VERSION").is_file() for name in needed)

    @property
    def has_two_xens(self) -> bool:
        """Whether the archives offered two versions of Xen."""
        return (self.folder / "xen-new" / "VERSION").is_file()

    @property
    def tboot(self) -> Path:
        """Return tboot.gz as the distribution ships it."""
        return self._one("tboot", "boot/tboot.gz")

    @property
    def lcp2_mlehash(self) -> Path:
        """Return tboot's own tool for MLE hashes."""
        return self._one("tboot", "usr/sbin/lcp2_mlehash")

    @property
    def tb_polgen(self) -> Path:
        """Return tboot's own tool for module hashes."""
        return self._one("tboot", "usr/sbin/tb_polgen")

    @property
    def grub_emu(self) -> Path:
        """Return GRUB as a program; it has all modules that a grub.cfg needs."""
        return self._one("grub-emu", "usr/bin/grub-emu")

    @property
    def grub_config(self) -> Path:
        """Return the folder with grub-mkconfig, its library and the stock grub.d."""
        return self._one("grub-config", "VERSION").parent

    @property
    def xen_old(self) -> Path:
        """Return the older version of Xen, or the only one."""
        return self._one("xen-old", "boot/xen-*.gz")

    @property
    def xen_new(self) -> Path:
        """Return the newer version of Xen; SimulationError when there is one only."""
        return self._one("xen-new", "boot/xen-*.gz")

    @property
    def xen_old_efi(self) -> Path:
        """Return the older version of Xen as a UEFI program."""
        return self._one("xen-old", "boot/xen-*.efi")

    @property
    def xen_new_efi(self) -> Path:
        """Return the newer version of Xen as a UEFI program."""
        return self._one("xen-new", "boot/xen-*.efi")

    @property
    def linux(self) -> Path:
        """Return the newest kernel."""
        return self._one("linux", "boot/vmlinuz-*")

    @property
    def linux_new(self) -> Path:
        """Return another kernel; only there where there is one Xen only."""
        return self._one("linux-new", "boot/vmlinuz-*")

    def version(self, name: str) -> str:
        """Return the version of the package in a folder such as "xen-old"."""
        return self._one(name, "VERSION").read_text(encoding="ascii").strip()

    def _one(self, name: str, pattern: str) -> Path:
        found = sorted((self.folder / name).glob(pattern))
        if not found:
            raise SimulationError(
                f"no {pattern} in {self.folder / name}: run make setup first"
            )
        return found[0]
