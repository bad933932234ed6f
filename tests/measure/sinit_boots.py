# SPDX-License-Identifier: GPL-2.0-or-later
"""SINIT's part of a boot for tests: what it logs for a module, and a module's facts.

Digests are made with hashlib from the specification, nothing under test takes part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from sinit_modules import SKYLAKE_CPU, Made, modulus

from aemseal.formats.acm_info import SinitModule
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.events import Event
from aemseal.words.wanted import FileFacts, View, Wanted

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
Logged = tuple[Event, Digest]

SKYLAKE_79 = Made(date=0x20151005, code=b"version 79")
SKYLAKE_80 = Made(
    date=0x20190708,
    code=b"version 80",
    processors=(SKYLAKE_CPU, (0x506E0, 0xFFF3FF0, 0, 0)),
)
"""A newer release for the same machines and more."""

OTHER_KEY = replace(SKYLAKE_80, key=modulus("another key"))
ALDER_LAKE = Made(chipsets=((1, 0x8086, 0xB00C, 1),), code=b"another platform")


def facts(path: str, made: Made) -> FileFacts:
    """What the world tells of a module in View.ACM."""
    module = SinitModule.parse(made.file)
    key = {} if module.key is None else {"sinit_key": module.key}
    platform = (
        {} if module.platform is None else {"sinit_platform": str(module.platform)}
    )
    return FileFacts(
        Wanted(path, View.ACM),
        len(made.measured),
        {each: each.hash(made.measured) for each in (SHA1, SHA256)},
        {
            **key,
            **platform,
            "sinit_date": f"{made.date:08x}",
            "sinit_capabilities": f"{made.capabilities:#x}",
            "sinit_header_version": "3.0" if made.is_3_0 else "0.0",
            "sinit_security_version": "2",
        },
    )


def no_sinit(path: str = "/boot/microcode.bin") -> FileFacts:
    """What the world tells of another file in View.ACM."""
    return FileFacts(Wanted(path, View.ACM), 4, {SHA256: SHA256.hash(b"file")})


def hashed(bank: HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(bank.label, data).digest()


def event(
    number: int, kind: int, pcr: int, digest: bytes, data: bytes, bank: HashAlgorithm
) -> Logged:
    value = Digest(bank, digest)
    return Event(number, pcr, kind, {bank: value}, data), value


MLE = b"the measured launch environment"


def logged(
    made: Made,
    word: int = 0x602,
    bank: HashAlgorithm = SHA256,
    edx: int = 0,
    module_hash: HashAlgorithm = SHA256,
) -> tuple[Logged, ...]:
    """What SINIT logs on TPM 2.0: the order is an E5470's, some events left out."""
    start = hashed(module_hash, made.measured) + edx.to_bytes(4, "little")
    key = hashlib.sha256(made.key or modulus("key")).digest()
    asked = word.to_bytes(4, "little")
    rows: Sequence[tuple[int, int, bytes | None]] = [
        (0x402, 17, start),
        (0x40A, 17, b"BIOS"),
        (0x40C, 17, b"\2\0\0\0"),
        (0x40F, 17, asked),
        (0x404, 17, None),
        (0x414, 17, b"NV"),
        (0x410, 18, None),
        (0x40F, 18, asked),
        (0x413, 18, b"\0"),
    ]
    of_no_data = {0x404: MLE, 0x410: key}
    return tuple(
        event(
            *(number, kind, pcr),
            hashed(bank, of_no_data[kind] if data is None else data),
            b"" if data is None else data,
            bank,
        )
        for number, (kind, pcr, data) in enumerate(rows)
    )
