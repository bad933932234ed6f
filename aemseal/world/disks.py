# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running system says of its disks: what is mounted, and what lies below it.

Nothing is opened but text files of the kernel's: /proc/self/mountinfo (proc(5)),
/proc/swaps, and /sys/dev/block (Linux Documentation/ABI/testing/sysfs-block,
sysfs-block-dm; dm/uuid is what cryptsetup and LVM gave).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aemseal.words.errors import EvidenceError
from aemseal.world.rooted import Rooted

MOUNTS = "/proc/self/mountinfo"
SWAPS = "/proc/swaps"

_TEXT_LIMIT = 1 << 20
_DEEPEST = 16
"""Devices below one another; LVM's thin pool on LUKS on RAID has six."""

_NUMBER = re.compile(r"[0-9]+:[0-9]+")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_LUKS = re.compile(r"CRYPT-LUKS[12]-([0-9a-f]{32})-.*", re.DOTALL)
_IN_RAM = ("zram", "ram")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its device's number ("253:1") as the kernel has it.

    `source` is what was mounted ("/dev/mapper/qubes_dom0-root"). A btrfs has a number
    that is no device's, "0:35".
    """

    point: str
    number: str
    source: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """Whether all of a device lies on encrypted ones, and on which of LUKS (UUIDs)."""

    is_whole: bool
    luks_uuids: tuple[str, ...] = ()


class Disks:
    """The disks of the machine whose files are below a root."""

    def __init__(self, files: Rooted) -> None:
        self._files = files

    def mount_of(self, path: str) -> Mount | None:
        """Return the file system that a path lies on; None where that is not told."""
        found = None
        for mount in self._mounts():
            inside = mount.point.rstrip("/") + "/"
            # of two on the same point the later one covers the earlier
            if f"{path}/".startswith(inside) and (
                found is None or len(mount.point) >= len(found.point)
            ):
                found = mount
        return found

    def swaps(self) -> tuple[str, ...]:
        """Return the swap devices and files that are in use, without those in RAM.

        EvidenceError where the kernel does not tell.
        """
        if not self._files.exists(SWAPS):
            raise EvidenceError(f"{SWAPS} does not exist")
        rows = [line.split() for line in self._text(SWAPS).splitlines()[1:]]
        paths = [_unescaped(row[0]) for row in rows if row]
        return tuple(
            each for each in paths if not each.removeprefix("/dev/").startswith(_IN_RAM)
        )

    def device_of(self, mount: Mount) -> str | None:
        """Return the number of a mount's device; None where there is none."""
        if not mount.number.startswith("0:"):
            return mount.number
        return self.number_of(mount.source)

    def number_of(self, path: str) -> str | None:
        """Return the number of a device file, None where it is not one."""
        try:
            name = self._files.real(path).rpartition("/")[2]
        except OSError:
            return None
        return self._number(f"/sys/class/block/{name}")

    def is_removable(self, number: str) -> bool | None:
        """Whether a device can be taken out, None where the kernel does not tell.

        That is a disk of a removable medium, and one at USB or in an MMC slot.
        """
        place = f"/sys/dev/block/{number}"
        if not self._files.is_folder(place):
            return None
        try:
            if re.search(r"/(?:usb|mmc)[0-9]", self._files.real(place)):
                return True
        except OSError:
            return None
        told = [self._line(f"{place}{at}/removable") for at in ("", "/..")]
        return None if told == ["", ""] else "1" in told

    def encryption(self, number: str) -> Encryption:
        """Say what a device lies on; EvidenceError where that has no end."""
        return self._encryption(f"/sys/dev/block/{number}", _DEEPEST)

    def is_known(self, number: str) -> bool:
        """Whether the kernel tells of a device at all."""
        return self._files.is_folder(f"/sys/dev/block/{number}")

    def _encryption(self, place: str, deepest: int) -> Encryption:
        uuid = self._line(f"{place}/dm/uuid")
        luks = _LUKS.fullmatch(uuid)
        if luks is not None:
            return Encryption(is_whole=True, luks_uuids=(_with_dashes(luks[1]),))
        if uuid.startswith("CRYPT-"):
            return Encryption(is_whole=True)
        below = self._files.names(f"{place}/slaves")
        if deepest == 0:
            raise EvidenceError("too many devices lie on one another to follow")
        found = [
            self._encryption(f"{place}/slaves/{name}", deepest - 1) for name in below
        ]
        uuids = dict.fromkeys(uuid for each in found for uuid in each.luks_uuids)
        is_whole = bool(found) and all(each.is_whole for each in found)
        return Encryption(is_whole, tuple(uuids))

    def _number(self, place: str) -> str | None:
        number = self._line(f"{place}/dev")
        return number if _NUMBER.fullmatch(number) else None

    def _mounts(self) -> list[Mount]:
        """Read mountinfo; a line of another form is passed over."""
        mounts = []
        for line in self._text(MOUNTS).splitlines():
            before, _, after = line.partition(" - ")
            fields, kind = before.split(" "), after.split(" ")
            if len(fields) >= 5 and len(kind) >= 2 and _NUMBER.fullmatch(fields[2]):
                point, source = _unescaped(fields[4]), _unescaped(kind[1])
                mounts.append(Mount(point, fields[2], source))
        return mounts

    def _line(self, path: str) -> str:
        """Return a file's one line, empty where it cannot be read."""
        try:
            return self._text(path).removesuffix("\n")
        except EvidenceError:
            return ""

    def _text(self, path: str) -> str:
        data = self._files.read(path, _TEXT_LIMIT, EvidenceError) or b""
        return data.decode("utf-8", "surrogateescape")


def _unescaped(field: str) -> str:
    r"""Undo the kernel's escapes: a space is "\040"."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)


def _with_dashes(uuid: str) -> str:
    return "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
