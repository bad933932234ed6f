# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots by TrenchBoot for tests: what a machine would log, and its files' facts.

Every digest here is made with hashlib alone, from the specification: nothing of the
code under test takes part. What lies in memory (the multiboot information, Xen's image
under UEFI, the OS to MLE data) is in a form of this file's own that holds whatever the
real one is made of: sizes, command lines, the files whose length decides addresses.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sinit_boots import facts as sinit_module_facts
from sinit_modules import Made, modulus

from aemseal.measure.boot_entry import (
    BootEntry,
    BootModule,
    Launcher,
    Loader,
    Role,
    wanted,
)
from aemseal.measure.launch import RunningSystem
from aemseal.measure.replay import VerifiedLog, verify
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.events import Event, EventLog
from aemseal.words.wanted import FileFacts, View, Wanted

SHA256 = HashAlgorithm.SHA256
SLAUNCH = 0x502
PSP_VERSION = 0x1234
SKYLAKE = Made(date=0x20190708, code=b"a SINIT module")
FIRMWARES = Made(date=0x20220301, code=b"the firmware's own")
_ROLES = (Role.KERNEL, Role.INITRAMFS)
_MLE_PREFIX = {
    View.SLAUNCH_MLE_V04: b"",
    View.SLAUNCH_MLE_ALIGNED: b"aligned ",
    View.SLAUNCH_MLE_REWRITTEN: b"rewritten ",
}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass(frozen=True)
class File:
    """A module: its bytes as they are hashed, and its command line or string."""

    path: str
    image: bytes
    cmdline: bytes = b""


@dataclass(frozen=True)
class Xen:
    """Xen: what is measured of it, the rest of its file, its command line, its id."""

    image: bytes = b"Xen"
    tail: bytes = b"symbols"
    cmdline: bytes = b"placeholder console=none"
    build_id: str = "ab" * 20

    @property
    def entry_point(self) -> bytes:
        return sha256(b"entry" + self.image)[:4]


@dataclass(frozen=True)
class Skl:
    """skl.bin: what SKINIT measures, the rest, and the room left for the table."""

    measured: bytes = b"secure kernel loader"
    tail: bytes = b"unmeasured"
    slrt_size: int = 6956


@dataclass(frozen=True)
class Boot:
    """What an entry loads; `skl` or `sinit` by what the machine launches with."""

    modules: tuple[File, ...]
    xen: Xen = Xen()
    skl: Skl | None = None
    sinit: tuple[tuple[str, Made], ...] = ()
    is_efi: bool = False
    configs: tuple[tuple[str, bytes], ...] = (("/boot/efi/xen.cfg", b"[aem]\n"),)
    title: str = "AEM Qubes, with Xen hypervisor"

    def with_module(self, number: int, **changes: Any) -> Boot:
        modules = list(self.modules)
        modules[number] = replace(modules[number], **changes)
        return replace(self, modules=tuple(modules))

    def with_xen(self, **changes: Any) -> Boot:
        return replace(self, xen=replace(self.xen, **changes))

    @property
    def entry(self) -> BootEntry:
        modules = tuple(
            BootModule(each.path, each.cmdline, not self.is_efi, role)
            for each, role in zip(
                self.modules, (*_ROLES, *[Role.MODULE] * 20), strict=False
            )
        )
        efi: dict[str, Any] = {}
        if self.is_efi:
            efi = {
                "loader": Loader.CHAINLOADER,
                "named_cmdline": b"aem " + self.xen.cmdline,
                "configs": tuple(path for path, _ in self.configs),
            }
        return BootEntry(
            self.title,
            BootModule(XEN, self.xen.cmdline, role=Role.XEN),
            modules,
            launcher=Launcher.SLAUNCH,
            slaunch_modules=tuple(self.slaunch_files),
            **efi,
        )

    @property
    def slaunch_files(self) -> dict[str, bytes]:
        """The whole files of slaunch_module, by path."""
        files = {path: made.file for path, made in self.sinit}
        if self.skl is not None:
            files[SKL] = self.skl.measured + self.skl.tail
        return files

    @property
    def layout(self) -> bytes:
        """What decides addresses."""
        sizes = [len(each.image) for each in self.modules]
        return repr((sizes, [len(e) for e in self.slaunch_files.values()])).encode()


XEN, SKL = "/boot/xen", "/boot/skl.bin"
SINIT = "/boot/SKL_SINIT.BIN"


@dataclass(frozen=True)
class Machine:
    """A generation of TrenchBoot on a processor.

    `mle` is how its GRUB makes the MLE, `types` are v0.2's of the information, the
    kernel and the initramfs. `named` says that Xen's command line begins with its name
    under UEFI.
    """

    name: str
    is_intel: bool
    mle: View = View.SLAUNCH_MLE_V04
    types: tuple[int, ...] = ()
    has_table: bool = True
    is_efi: bool = False
    named: bool = False
    firmware: Made | None = None
    more: tuple[tuple[int, int, bytes, bytes], ...] = field(default=())
    """Records in front of Xen's: type, PCR, digest, text."""

    @property
    def boot(self) -> Boot:
        """A boot of this machine."""
        return Boot(
            (
                File("/boot/vmlinuz", b"kernel", b"placeholder ro"),
                File("/boot/initramfs.img", b"initramfs"),
            ),
            skl=None if self.is_intel else Skl(),
            sinit=((SINIT, SKYLAKE),) if self.is_intel else (),
            is_efi=self.is_efi,
        )

    def system(self, boot: Boot) -> RunningSystem:
        """What the running system tells of a boot."""
        return RunningSystem(
            boot.xen.cmdline, boot.modules[0].cmdline, boot.xen.build_id
        )

    def launched_sinit(self, boot: Boot) -> Made:
        """The last of the entry's, or the firmware's own if that is not older."""
        chosen = boot.sinit[-1][1] if boot.sinit else None
        own = self.firmware
        if own is not None and (chosen is None or own.date >= chosen.date):
            return own
        assert chosen is not None
        return chosen

    def image(self, boot: Boot) -> bytes:
        """Xen's bytes that are measured."""
        if self.is_efi:
            last = len(boot.configs[-1][1])
            about = (boot.xen, boot.layout, last, boot.xen.tail)
            return repr(about).encode() + b"".join(e.cmdline for e in boot.modules)
        return _MLE_PREFIX[self.mle] + boot.xen.image

    def extends(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        """What is extended: type, PCR, sha256 digest, data; in order."""
        return [*self._launch(boot), *self.more, *self._xen(boot)]

    def _launch(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        image = sha256(self.image(boot))
        if not self.is_intel:
            assert boot.skl is not None
            return [
                (SLAUNCH, 17, sha256(boot.skl.measured), b"SKINIT"),
                (SLAUNCH, 17, sha256(boot.xen.entry_point), b"DLME entry offset"),
                (SLAUNCH, 17, image, b"DLME"),
            ]
        made = self.launched_sinit(boot)
        start = sha256(made.measured) + bytes(4)
        key = sha256(made.key or modulus("key"))
        asked = struct.pack("<I", 0x222 | made.capabilities & 4)
        return [
            (0x402, 17, sha256(start), start),
            (0x40A, 17, sha256(b"BIOS"), b"BIOS"),
            (0x40F, 17, sha256(asked), asked),
            (0x404, 17, image, b""),
            (0x410, 18, sha256(key), b""),
            (0x40F, 18, sha256(asked), asked),
            (0x414, 18, sha256(b"NV"), b"NV"),
        ]

    def _xen(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        records = []
        if not self.is_efi:
            cmdlines = [boot.xen.cmdline, *(each.cmdline for each in boot.modules)]
            about = (cmdlines, boot.layout, boot.xen.image, boot.xen.tail)
            kind = self.types[0] if self.types else SLAUNCH
            records.append((kind, 18, sha256(repr(about).encode()), b""))
        records += self._platform(boot)
        if self.is_efi:
            name = b"aem " if self.named else b""
            cmdline = sha256(name + boot.xen.cmdline)
            records.append((SLAUNCH, 18, cmdline, b"Xen's command line"))
        for number, each in enumerate(boot.modules):
            if self.is_efi:
                text = sha256(each.cmdline)
                records.append((SLAUNCH, 18, text, b"MB module string"))
            kind = self.types[number + 1] if self.types else SLAUNCH
            text = b"MB module" if self.is_efi else b"Measured MB2 module"
            records.append((kind, 17, sha256(each.image), b"" if self.types else text))
        return records

    def _platform(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        if self.types or not self.has_table:
            return []
        if not self.is_intel:
            assert boot.skl is not None
            return [(SLAUNCH, 18, sha256(amd_table(boot.skl.slrt_size)), b"")]
        data = sha256(b"os-mle" + boot.layout + (boot.xen.tail if self.is_efi else b""))
        return [
            (SLAUNCH, 18, sha256(b"intel"), b""),
            (SLAUNCH, 18, data, b"Measured TXT OS-MLE data"),
        ]

    def values(self, boot: Boot) -> dict[int, bytes]:
        """PCR 17 and 18 after a boot."""
        values = {17: bytes(32), 18: bytes(32)}
        for _, pcr, digest, _ in self.extends(boot):
            values[pcr] = sha256(values[pcr] + digest)
        return values

    def launched(self, boot: Boot) -> VerifiedLog:
        """The log of a boot, verified against a TPM that made it."""
        return verified(self.extends(boot))


def amd_table(slrt_size: int) -> bytes:
    """AMD's table as Xen hashes it: its addresses are zero."""
    fields = (5, 56, 0, 10, 56, slrt_size, 0, 0, PSP_VERSION, 0, 0, 0)
    return struct.pack("<IIQIIQQQHHHH", *fields)


def verified(extends: Sequence[tuple[int, int, bytes, bytes]]) -> VerifiedLog:
    """A log of (type, PCR, digest, data) as evidence."""
    values: dict[int, bytes] = {}
    events = []
    for number, (kind, pcr, digest, data) in enumerate(extends):
        values[pcr] = sha256(values.get(pcr, bytes(32)) + digest)
        events.append(Event(number, pcr, kind, {SHA256: Digest(SHA256, digest)}, data))
    log = EventLog("tcg-agile", (SHA256,), tuple(events))
    live = PcrBank(SHA256, {p: Digest(SHA256, v) for p, v in values.items()})
    return verify(log, live, PcrSelection(SHA256, tuple(sorted(values))))


def facts_of(boot: Boot) -> dict[Wanted, FileFacts]:
    """What the world would tell of every file that the entry wants."""
    return {each: _facts(boot, each) for each in wanted(boot.entry)}


def _facts(boot: Boot, asked: Wanted) -> FileFacts:
    path, view = asked.path, asked.view
    sinit = dict(boot.sinit)
    if view is View.ACM and path in sinit:
        return sinit_module_facts(path, sinit[path])
    if path == XEN and view is not View.GRUB:
        if view is View.SLAUNCH_ENTRY:
            data = boot.xen.entry_point
        else:
            data = _MLE_PREFIX[view] + boot.xen.image
        version = {"xen_version": "4.17.5", "xen_build_id": boot.xen.build_id}
        return _told(asked, data, version)
    if view is View.SKL and path == SKL and boot.skl is not None:
        size = {"skl_slrt_size": str(boot.skl.slrt_size)}
        return _told(asked, boot.skl.measured, size)
    files = {each.path: each.image for each in boot.modules}
    files |= {XEN: boot.xen.image + boot.xen.tail, **dict(boot.configs)}
    return _told(asked, {**files, **boot.slaunch_files}[path])


def _told(asked: Wanted, data: bytes, notes: dict[str, str] | None = None) -> FileFacts:
    return FileFacts(asked, len(data), {SHA256: SHA256.hash(data)}, notes or {})


SKINIT = Machine("skinit-v0.5", is_intel=False)
TXT = Machine("txt-v0.5", is_intel=True)
SKINIT_UEFI = replace(SKINIT, name="skinit-uefi-4.21", is_efi=True)
TXT_UEFI = replace(TXT, name="txt-uefi-4.21", is_efi=True)
MACHINES = (
    replace(
        TXT,
        name="txt-v0.2",
        mle=View.SLAUNCH_MLE_REWRITTEN,
        types=(0x600, 0x601, 0x602),
    ),
    replace(TXT, name="txt-v0.3", mle=View.SLAUNCH_MLE_REWRITTEN),
    replace(TXT, name="txt-v0.4"),
    replace(SKINIT, name="skinit-v0.4", mle=View.SLAUNCH_MLE_ALIGNED, has_table=False),
    replace(SKINIT, name="skinit-v0.4.1", has_table=False),
    SKINIT,
    TXT,
    SKINIT_UEFI,
    TXT_UEFI,
    replace(SKINIT_UEFI, name="skinit-uefi-4.17", named=True),
    replace(TXT_UEFI, name="txt-uefi-4.17", named=True),
)
