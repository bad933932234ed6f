# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's files about disks, below a folder, as a laptop with Qubes OS has them.

Its disk (8:0) has /boot and a LUKS device; on that lies LVM with root and swap. A stick
(8:16, removable) has a file system.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tpm_sim.boot_directory import LUKS_UUID

_LUKS_DM = f"CRYPT-LUKS2-{LUKS_UUID.replace('-', '')}-luks-{LUKS_UUID}"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is below `root`, and ways to change it."""

    root: Path

    def write(self, path: str, content: str) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        return place

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    def device(
        self, name: str, number: str, on: tuple[str, ...] = (), dm: str = ""
    ) -> None:
        """A device below /sys/devices, which lies on others."""
        place = f"/sys/devices/{name}"
        self.write(f"{place}/dev", f"{number}\n")
        for other in on:
            self.link(
                f"{place}/slaves/{other.rpartition(chr(47))[2]}",
                f"/sys/devices/{other}",
            )
        if dm:
            self.write(f"{place}/dm/uuid", f"{dm}\n")
        base = name.rpartition("/")[2]
        self.link(f"/sys/dev/block/{number}", f"/sys/devices/{name}")
        self.link(f"/sys/class/block/{base}", f"/sys/devices/{name}")

    def mounts(self, *lines: tuple[str, str, str]) -> None:
        """mountinfo: of each the number, the point and the source."""
        self.write(
            "/proc/self/mountinfo",
            "".join(
                f"{at} 1 {number} / {point} rw,relatime shared:1 - ext4 {source} rw\n"
                for at, (number, point, source) in enumerate(lines, start=22)
            ),
        )

    def swaps(self, *paths: str) -> None:
        rows = [f"{each} partition 4194300 0 -2\n" for each in paths]
        self.write(
            "/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n" + "".join(rows)
        )


ROOT = ("253:1", "/", "/dev/mapper/qubes_dom0-root")
BOOT = ("8:1", "/boot", "/dev/sda1")
STICK_BOOT = ("8:17", "/boot", "/dev/sdb1")


def qubes_laptop(root: Path) -> Layout:
    """Lay out a laptop whose /boot is on a stick."""
    layout = Layout(root)
    layout.device("pci/sda", "8:0")
    layout.write("/sys/devices/pci/sda/removable", "0\n")
    layout.device("pci/sda/sda1", "8:1")
    layout.device("pci/sda/sda2", "8:2")
    layout.device("pci/usb1/sdb", "8:16")
    layout.write("/sys/devices/pci/usb1/sdb/removable", "1\n")
    layout.device("pci/usb1/sdb/sdb1", "8:17")
    layout.device("dm-0", "253:0", on=("pci/sda/sda2",), dm=_LUKS_DM)
    layout.device("dm-3", "253:3", on=("dm-0",), dm="LVM-pool-tdata")
    layout.device("dm-1", "253:1", on=("dm-3",), dm="LVM-root")
    layout.device("dm-2", "253:2", on=("dm-0",), dm="LVM-swap")
    for at, name in ((1, "root"), (2, "swap")):
        layout.write(f"/dev/dm-{at}", "")
        layout.link(f"/dev/mapper/qubes_dom0-{name}", f"/dev/dm-{at}")
    layout.mounts(ROOT, STICK_BOOT)
    layout.swaps("/dev/dm-2", "/dev/zram0")
    return layout
