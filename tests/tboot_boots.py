# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots by tboot for tests: what a machine would log, and what its files' facts are.

Every digest here is made with hashlib alone, from the specification: nothing of the
code under test takes part. The MLE's digest is a hash of the image and the command
line, in a form of this file's own: how a tboot image is hashed is tested elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aemseal.measure.boot_entry import BootEntry, BootModule, wanted
from aemseal.measure.replay import VerifiedLog, verify
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.events import Event, EventLog
from aemseal.words.wanted import FileFacts, View, Wanted

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
BANKS = (SHA1, SHA256)
UUID = "0f0e7a6c-1111-2222-3333-444455556666"
CAPABILITIES = "0x627"

E5470_POLICY = "71be5852a14eabefebf0df0e1acc5da291883b6d4c5ab20914ed987c1daf3f91"
COMPOSITE_POLICY = "9f6449ddf2b1dda0ac1df6f42b4f96e50f66bbd41aeb6ee49766432f1e328052"

NV_INFO = bytes.fromhex(
    "0101800003000b620444080020ef9a26fc22d1ae8cecff59e9481ac1ec533dbe228bec6d17930f4cb2"
    "cc5b972400680101800001000b62042c040020b75ce1946f78df8baa426918db09318017e6b38d048c"
    "954e05c2c4f34bd44060004600"
)
SINIT_DA: list[tuple[int, int, bytes | None]] = [
    (0x402, 17, bytes.fromhex(
        "755414dff4e11fba3d4adb0bb6bc8f04c0bd3b620ce567c329c8b20f7f5b1d9d00000000")),
    (0x401, 255, b"\1\0\0\0"),
    (0x40A, 17, bytes.fromhex(
        "000000002710152006b000000002000000000000000000000000000000000000")),
    (0x40B, 17, bytes(4)),
    (0x40C, 17, b"\2\0\0\0"),
    (0x412, 17, b"\0"),
    (0x40E, 17, b"\0"),
    (0x40F, 17, b"\2\6\0\0"),
    (0x404, 17, None),
    (0x414, 17, NV_INFO),
    (0x410, 18, None),
    (0x40B, 18, bytes(4)),
    (0x40F, 18, b"\2\6\0\0"),
    (0x40C, 18, b"\2\0\0\0"),
    (0x413, 18, b"\0"),
    (0x414, 18, NV_INFO),
]  # fmt: skip
"""What SINIT logged on a Dell E5470 (tboot-devel, 2021-08-26): type, PCR, data."""

SINIT_LEGACY = [(kind, 17, data) for kind, pcr, data in SINIT_DA if pcr == 17]
SINIT_LEGACY = [
    (kind, 18 if kind == 0x404 else pcr, data)
    for kind, pcr, data in SINIT_LEGACY
    if kind != 0x40F
]
"""The same machine's, as a legacy map would have them: a composite."""

E5470_KEY = {
    SHA1: "e75b9b930232d8061f2a637e6a59501a418bd3da",
    SHA256: "3b5f9781c4347f5d3af1daf7019654dc05d1af857a598c18f3bc77e7b042b37f",
}
"""0x410 of the E5470, which has no data."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def fold(*digests: bytes) -> bytes:
    """A PCR's value after these extends, from zeros."""
    value = bytes(32)
    for digest in digests:
        value = sha256(value + digest)
    return value


def module_digest(cmdline: bytes, image: bytes) -> bytes:
    """H(H(cmdline) || H(image)), by the specification."""
    return sha256(sha256(cmdline) + sha256(image))


def mle_digest(image: bytes, cmdline: bytes, name: str = "sha256") -> bytes:
    """This file's own form of an MLE's digest."""
    return hashlib.new(name, b"mle" + sha256(image) + cmdline).digest()


@dataclass(frozen=True)
class File:
    """A file of a boot directory: what GRUB hands over of it, and its command line."""

    path: str
    image: bytes
    cmdline: bytes = b""
    notes: dict[str, str] = field(default_factory=dict)
    nounzip: bool = False


@dataclass(frozen=True)
class Boot:
    """A boot directory: tboot, its modules, and the LUKS headers by UUID."""

    tboot: File
    modules: tuple[File, ...]
    headers: tuple[tuple[str, bytes], ...] = ((UUID, b"LUKS header"),)
    title: str = "Qubes with tboot"

    def with_module(self, number: int, **changes: object) -> Boot:
        modules = list(self.modules)
        modules[number] = replace(modules[number], **changes)  # type: ignore[arg-type]  # the cases name File's own fields
        return replace(self, modules=tuple(modules))

    def with_tboot(self, **changes: object) -> Boot:
        return replace(self, tboot=replace(self.tboot, **changes))  # type: ignore[arg-type]  # as above

    @property
    def entry(self) -> BootEntry:
        return BootEntry(
            self.title,
            BootModule(self.tboot.path, self.tboot.cmdline),
            tuple(
                BootModule(each.path, each.cmdline, decompress=not each.nounzip)
                for each in self.modules
            ),
            tuple(sorted(uuid for uuid, _ in self.headers)),
        )

    @property
    def measured_modules(self) -> tuple[File, ...]:
        """What tboot measures: all but SINIT modules and LCP data, Xen always."""
        first, *others = self.modules
        return first, *(each for each in others if "tboot_skips" not in each.notes)


def a_boot() -> Boot:
    return Boot(
        File(
            "/boot/tboot.gz",
            b"tboot",
            b"placeholder logging=memory",
            {"tboot_version": "1.10.5", "mle_capabilities": CAPABILITIES},
        ),
        (
            File("/boot/xen.gz", b"Xen", b"placeholder", {"xen_version": "4.17.5"}),
            File("/boot/vmlinuz", b"kernel", f"ro rd.luks.uuid=luks-{UUID}".encode()),
            File("/boot/initramfs.img", b"initramfs", nounzip=True),
        ),
    )


def facts_of(
    boot: Boot, banks: Sequence[HashAlgorithm] = BANKS
) -> dict[Wanted, FileFacts]:
    """What the world would tell of every file that the entry wants."""
    files = {each.path: each for each in (boot.tboot, *boot.modules)}
    headers = {f"/dev/disk/by-uuid/{uuid}": header for uuid, header in boot.headers}
    facts = {}
    for each in wanted(boot.entry):
        if each.view is View.LUKS:
            size = len(headers[each.path])
            digests = {b: b.hash(headers[each.path]) for b in banks}
            notes: dict[str, str] = {}
        else:
            file, notes = files[each.path], files[each.path].notes
            size = len(file.image)
            digests = {
                b: Digest(b, mle_digest(file.image, each.cmdline, b.label))
                if each.view is View.MLE
                else Digest(b, hashlib.new(b.label, file.image).digest())
                for b in banks
            }
        facts[each] = FileFacts(each, size, digests, notes)
    return facts


@dataclass(frozen=True)
class Machine:
    """A map, its SINIT's events, and the policy that its tboot extends."""

    map: str
    sinit: tuple[tuple[int, int, bytes | None], ...]
    policy: str

    def extends(self, boot: Boot) -> list[tuple[int, int, bytes, bytes]]:
        """What is extended: type, PCR, sha256 digest, data; in order."""
        extends = []
        for kind, pcr, data in self.sinit:
            if kind == 0x404:
                digest = mle_digest(boot.tboot.image, boot.tboot.cmdline)
            elif data is None:
                digest = bytes.fromhex(E5470_KEY[SHA256])
            else:
                digest = sha256(data)
            extends.append((kind, pcr, digest, data or b""))
        policy = bytes.fromhex(self.policy)
        legacy = self.map == "legacy"
        for pcr in (17,) if legacy else (17, 18):
            extends.append((0x501, pcr, policy, b""))
        for number, each in enumerate(boot.measured_modules):
            pcr = (19 if number else 18) if legacy else 17
            digest = module_digest(each.cmdline, each.image)
            extends.append((0x501, pcr, digest, b""))
        return extends

    def values(self, boot: Boot) -> dict[int, bytes]:
        """PCR 13 before the cap and 17 to 19 after a boot, those that are extended."""
        values: dict[int, bytes] = {}
        for _, pcr, digest, _ in self.extends(boot):
            if pcr < 24:
                values[pcr] = sha256(values.get(pcr, bytes(32)) + digest)
        headers = [sha256(header) for _, header in sorted(boot.headers)]
        return {**values, 13: fold(*headers)} if headers else values

    def log(self, boot: Boot) -> EventLog:
        """The log: SINIT's events in both banks, tboot's in sha256 alone."""
        return log_of(self.extends(boot))

    def launched(self, boot: Boot) -> VerifiedLog:
        """The log of a boot, verified against a TPM that made it."""
        return verified(self.log(boot))


DA = Machine("da", tuple(SINIT_DA), E5470_POLICY)
LEGACY = Machine("legacy", tuple(SINIT_LEGACY), COMPOSITE_POLICY)
MACHINES = {"da": DA, "legacy": LEGACY}


def log_of(extends: Sequence[tuple[int, int, bytes, bytes]]) -> EventLog:
    """A log of (type, PCR, sha256 digest, data); the sha1 bank lacks 0x501."""
    events = []
    for number, (kind, pcr, digest, data) in enumerate(extends):
        digests = {SHA256: Digest(SHA256, digest)}
        if kind != 0x501:
            digests[SHA1] = Digest(SHA1, hashlib.sha1(data).digest())
        events.append(Event(number, pcr, kind, digests, data))
    return EventLog("tcg-agile", BANKS, tuple(events))


def live_after(log: EventLog) -> PcrBank:
    """The sha256 bank of a TPM into which a log's events were extended."""
    values = {pcr: bytes(32) for pcr in range(24)}
    for event in log.events:
        if event.pcr < 24:
            digest = event.digests[SHA256].value
            values[event.pcr] = sha256(values[event.pcr] + digest)
    return PcrBank(SHA256, {pcr: Digest(SHA256, v) for pcr, v in values.items()})


def verified(log: EventLog, live: PcrBank | None = None) -> VerifiedLog:
    """The log as evidence, PCR 17 being selected."""
    selection = PcrSelection(SHA256, (17,))
    return verify(log, live or live_after(log), selection)


def luks_record(boot: Boot) -> list[tuple[str, Digest]]:
    """What the hook recorded of a boot."""
    return [(uuid, SHA256.hash(header)) for uuid, header in sorted(boot.headers)]
