# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that GRUB reads on a machine, and what it hands over of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aemseal.words.digest import Digest, HashAlgorithm
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.grub import (
    LoadedEntry,
    LoadedFile,
    entry_of,
    find_config,
    run_grub,
    write_saved,
)
from tpm_sim.hashing import Image, hash_images
from tpm_sim.unpacked import unpacked

ESP = "boot/efi"
"""Where the EFI system partition is mounted, below the root."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A machine's disk: its file systems are below `root`."""

    root: Path
    cache: Cache

    def boot_entry(self) -> LoadedEntry | None:
        """Let GRUB run grub.cfg; return what it starts, see `entry_of`.

        What it saves is written into grubenv. SimulationError when it boots nothing.
        """
        config = find_config(self.root)
        run = run_grub(self.cache.grub_emu, config)
        write_saved(config, run.saved)
        return entry_of(run)

    def resolve(self, path: str) -> Path:
        """Return the file that GRUB finds; /boot may be a file system of its own."""
        whole, below_boot = self.root / path[1:], self.root / "boot" / path[1:]
        candidates = [below_boot, whole, self.root / ESP / path[1:]]
        if path.startswith("/boot/"):
            candidates = [whole, below_boot]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise SimulationError(f"GRUB cannot find {path}: this machine does not boot")

    def image(self, file: LoadedFile) -> Image:
        """Return a loaded file as what `hash_images` takes."""
        return Image(self.resolve(file.path), file.decompress)

    def content(self, file: LoadedFile) -> bytes:
        """Return a file's bytes as GRUB hands them over.

        SimulationError when GRUB itself does not hash the same bytes.
        """
        image = self.image(file)
        content = image.path.read_bytes()
        content = unpacked(content) if image.decompress else content
        [digest] = self.hashed([image], HashAlgorithm.SHA256)
        if digest != HashAlgorithm.SHA256.hash(content):
            raise SimulationError(f"GRUB unpacks {file.path} in a way of its own")
        return content

    def hashed(self, images: Sequence[Image], algorithm: HashAlgorithm) -> list[Digest]:
        """Hash files as GRUB hands them over, by GRUB."""
        return hash_images(self.cache, images, algorithm)
