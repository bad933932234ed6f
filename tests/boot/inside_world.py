# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that moves inside itself: the tool runs in the booted system's own root.

Everywhere else in these tests the moves run beside the machine, on its files and its
TPM's memory. Here they are given in the root that was entered: with the kernel's
/dev/tpmrm0, the /boot partition mounted read-write, and the state on the encrypted
root. Disks and TPM are kept from boot to boot; the host only looks.

Two small disks come with each boot. One has Python and libraries (inside_programs). The
other, "handed-in", has what the boot is to do, what an update brings, and the launch's
event log: a fake, computed by tpm-sim as the launch itself is, since no processor
launched anything that could have left one.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from boot_world import VERDICT, BootWorld
from inside_programs import LOADER, PROGRAMS_LABEL, make_programs_disk
from tpm_sim.boot_directory import BOOT_UUID, BootDirectory
from tpm_sim.boot_disk import PARTITION_AT, make_boot_disk, make_file_system
from tpm_sim.luks_root import read_luks_root, rewrite_luks_root
from tpm_sim.qemu import Pc
from tpm_sim.qemu_tpm import QemuTpm

HANDED_IN = "/mnt"
CLEAN = "DISKS-ARE-CLEAN"
"""The last word: what was written is on the disks, and nothing is open there."""

_HANDED_LABEL = "handed-in"
_HANDED_UUID = "2a9f0c11-6a53-4b0e-9c57-0f2f5a3b7c44"
_HANDED_SIZE = 32 << 20
_STATE = "var/lib/aemseal"
_MORE_WORDS = "noresume systemd.import_credentials=no"
"""What doctor asks for."""

_MORE = f"""\
export PATH=/bin:/opt/bin
chown -R 0:0 /etc /var  # whoever runs the tests has made them
mount -t ext4 -o ro /dev/disk/by-label/{PROGRAMS_LABEL} /opt
mount -t ext4 -o ro /dev/disk/by-label/{_HANDED_LABEL} {HANDED_IN}
mount -t ext4 /dev/disk/by-uuid/{BOOT_UUID} /boot
sh {HANDED_IN}/moves
cd /
umount /boot && mount -o remount,ro / && echo "{CLEAN}"
"""
_APPLETS = ("chown", "cp", "mount", "umount")

_GIVE = """\
# give COMMAND...: run it as a person would, and tell how it ended.
give() {
    echo "[root@dom0 ~]# $*"
    "$@"
    echo "ENDED($*)=$?"
}
"""


def ended(words: Sequence[str], code: int) -> str:
    """Return a pattern for how a command that was given has ended."""
    return rf"^ENDED\({re.escape(' '.join(words))}\)={code}$"


class InsideWorld(BootWorld):
    """One machine; a context manager. `settle` makes its disks."""

    def install(self) -> BootDirectory:
        """Put there what is booted, with the words that doctor asks for."""
        made = super().install()
        menu = made.grub_cfg.read_text(encoding="utf-8")
        menu = menu.replace(" quiet root=", f" quiet {_MORE_WORDS} root=")
        made.grub_cfg.write_text(menu, encoding="utf-8")
        return made

    def settle(self) -> None:
        """Seal a text, have its boot accepted, and put all of it on disks."""
        self.enrol()
        self.confirm_here()
        self.machine.power_off()
        self.boot_disk = self.folder / "boot-disk"
        make_boot_disk(self.boot_disk, self.root / "boot", BOOT_UUID, self.cache)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            files = Path(scratch, "files")
            self._lay_out(files)
            rewrite_luks_root(self.disk, self.cache, VERDICT, _MORE, files)
        self.programs = self.folder / "programs"
        make_programs_disk(self.programs)

    def _lay_out(self, files: Path) -> None:
        """Put into a folder what the encrypted root has beside its init."""
        for name in ("boot", "opt", HANDED_IN.strip("/"), "etc", "bin"):
            (files / name).mkdir(parents=True)
        for name in _APPLETS:
            (files / "bin" / name).symlink_to("busybox")
        loader = files / LOADER.strip("/")
        loader.parent.mkdir()
        loader.symlink_to(f"/opt/lib/{loader.name}")
        settled = {
            "media": list(self.media),
            "event_log": f"{HANDED_IN}/simulated-event-log",
        }
        config = files / "etc/aemseal.yaml"
        config.write_text(json.dumps(settled), encoding="utf-8")
        shutil.copytree(self.root / _STATE, files / _STATE)

    @contextmanager
    def boot(
        self, moves: Sequence[Sequence[str]], update: Path | None = None
    ) -> Iterator[Pc]:
        """Switch it on, with commands for its root to give, and an update's new Xen.

        What it writes stays, and is looked at once it is off (`look_at_disks`).
        """
        if self.machine.tpm.is_on:
            self.machine.power_off()
        launch = self.measured()
        handed_in = self.folder / "handed-in"
        self._hand_in(handed_in, moves, update)
        disks = (self.boot_disk, self.disk, self.programs, handed_in)
        with (
            QemuTpm(self.machine.tpm, launch) as tpm,
            Pc(tpm, disks, self.folder, keeps=True) as pc,
        ):
            yield pc

    def _hand_in(
        self, image: Path, moves: Sequence[Sequence[str]], update: Path | None
    ) -> None:
        lines = [f"give {shlex.join(words)}" for words in moves]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            tree = Path(scratch)
            script = "\n".join([_GIVE, *lines, ""])
            (tree / "moves").write_text(script, encoding="ascii")
            log = self.machine.log_path.read_bytes()
            (tree / "simulated-event-log").write_bytes(log)
            if update is not None:
                (tree / "xen.gz").write_bytes(self._padded(update).read_bytes())
            make_file_system(
                image, tree, _HANDED_UUID, _HANDED_SIZE, label=_HANDED_LABEL
            )

    def look_at_disks(self) -> None:
        """Have the files on the host be those that the machine has on its disks."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            boot, state, plain = (Path(scratch, name) for name in ("b", "s", "p"))
            plain.write_bytes(read_luks_root(self.disk))
            _read_out(f"{self.boot_disk}?offset={PARTITION_AT}", "/", boot)
            _read_out(str(plain), f"/{_STATE}", state)
            for theirs, ours in (
                (boot, self.root / "boot"),
                (state / Path(_STATE).name, self.root / _STATE),
            ):
                shutil.rmtree(ours)
                shutil.copytree(theirs, ours)


def _read_out(image: str, path: str, folder: Path) -> None:
    """Copy a folder out of an ext4 image that was left clean."""
    folder.mkdir()
    subprocess.run(
        ["debugfs", "-R", f"rdump {path} {folder}", image],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
