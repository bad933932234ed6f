# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose boots are real, and launched as TrenchBoot launches: without tboot.

GRUB, Xen, dom0 and dracut's initramfs run; what SINIT, GRUB and Xen of TrenchBoot's
would measure is computed from the same files (tpm_sim/trenchboot_launch.py). Xen is the
distribution's with the header of a measured launch in it, where only padding was.

It is Intel's machine with multiboot2, since QEMU boots by BIOS here. PCR 18 holds the
multiboot information, and so the addresses and lengths of Xen and modules: that is
carried over, never computed. Hence enrolment has two halves (docs/adr/0007), and only
an update that keeps every length can be staged.
"""

from __future__ import annotations

from boot_world import LINUX_WORDS, SECRET, XEN_WORDS, BootWorld
from tpm_sim.boot_directory import BootDirectory
from tpm_sim.machine import Machine
from tpm_sim.trenchboot_directory import make_trenchboot_directory
from tpm_sim.trenchboot_machines import TRENCHBOOT_TXT

_REBOOT_FIRST = 4
_NO_MEDIUM = 15
_REAL_MODE = 0x2000
"""Within bzImage's code for a BIOS, which Xen never runs: it unpacks the payload."""


class TrenchbootWorld(BootWorld):
    """One machine with TrenchBoot's Anti Evil Maid; a context manager."""

    def install(self) -> BootDirectory:
        """Choose the machine, and put there what it boots."""
        self.machine = Machine(TRENCHBOOT_TXT, self.root, self.cache)
        return make_trenchboot_directory(
            self.root,
            TRENCHBOOT_TXT,
            self.cache,
            xen_args=XEN_WORDS,
            kernel_args=LINUX_WORDS,
        )

    def enrol(self, *words: str) -> None:
        """Seal the text in two halves, to the boot that ran the hook: accepted."""
        self.pretend_boot()
        first = self.aemseal("enrol", "text", *words, stdin=SECRET)
        assert first.code == _REBOOT_FIRST, first.told
        assert "the initramfs grew" in first.told, first.told
        assert self.boot_here().code == _NO_MEDIUM
        self.did("enrol", "text", *words, stdin=SECRET)

    def stage_kernel(self) -> None:
        """Put another kernel of the same length there, and stage the boot with it."""
        kernel = bytearray(self.files.kernel.read_bytes())
        kernel[_REAL_MODE] ^= 1
        self.files.kernel.write_bytes(kernel)
        told = self.did("reseal", "--accept", "kernel")
        assert told.startswith("staged: "), told
