# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that a PC boots from: GRUB in its first sectors, and a /boot behind them.

Made without root, loop device or grub-install: grub-mkimage's core lies where
grub-bios-setup would embed it (sector 1 on, which is what boot.img and core.img name
by default), mke2fs fills the partition from a folder.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError

PARTITION_AT = 1 << 20
PARTITION_SIZE = 96 << 20
_SECTOR = 512
_TIMEOUT = 120.0
_MODULES = (
    *("biosdisk", "part_msdos", "ext2", "normal", "configfile", "serial", "terminal"),
    *("terminfo", "multiboot", "multiboot2", "linux", "gzio", "echo", "test", "sleep"),
    *("search", "search_fs_uuid", "search_label", "loadenv", "ls", "true"),
)
_EARLY = """\
serial --unit=0 --speed=115200
terminal_output serial
function slaunch { true; }
function slaunch_module { true; }
configfile (hd0,msdos1)/grub/grub.cfg
"""
"""No distribution's GRUB has TrenchBoot's commands, and QEMU's processor launches
nothing: as functions they do nothing, and the entry boots as it would without."""


def make_boot_disk(image: Path, boot: Path, uuid: str, cache: Cache) -> None:
    """Write a disk image whose one partition holds the folder `boot`, bootable.

    `uuid` is the file system's. GRUB speaks on the first serial port.
    """
    files = cache.folder / "grub-pc/usr/lib/grub/i386-pc"
    core = _core_image(files, cache)
    if len(core) > PARTITION_AT - _SECTOR:
        raise SimulationError("GRUB's core image does not fit before the partition")
    with image.open("wb") as disk:
        disk.truncate(PARTITION_AT + PARTITION_SIZE)
    make_file_system(image, boot, uuid, PARTITION_SIZE, PARTITION_AT)
    with image.open("r+b") as disk:
        disk.write(_boot_sector((files / "boot.img").read_bytes()))
        disk.write(core)


def make_file_system(
    image: Path, tree: Path, uuid: str, size: int, offset: int = 0, label: str = ""
) -> None:
    """Put an ext4 file system with a folder's files into an image, from `offset` on."""
    _run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum,^orphan_file"),
        *("-U", uuid, "-L", label, "-d", str(tree), "-E", f"offset={offset}"),
        *(str(image), f"{size >> 10}k"),
    )


def _core_image(files: Path, cache: Cache) -> bytes:
    with tempfile.TemporaryDirectory(prefix="grub-") as scratch:
        early, core = Path(scratch, "early.cfg"), Path(scratch, "core.img")
        early.write_text(_EARLY, encoding="ascii")
        _run(
            str(cache.folder / "grub-common/usr/bin/grub-mkimage"),
            *("-d", str(files), "-O", "i386-pc", "-o", str(core)),
            *("-p", "(hd0,msdos1)/grub", "-c", str(early), *_MODULES),
        )
        return core.read_bytes()


def _boot_sector(boot_img: bytes) -> bytes:
    """Return boot.img with a partition table of one active Linux partition.

    What boot.img has there is code for floppies: left in, it is three partitions more.
    """
    sector = bytearray(boot_img[:_SECTOR])
    first, count = PARTITION_AT // _SECTOR, PARTITION_SIZE // _SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff" * 3, first, count)
    sector[446:510] = entry.ljust(64, b"\0")
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def _run(*words: str) -> None:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise SimulationError(f"{words[0]}: {done.stderr.strip()}")
