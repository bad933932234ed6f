# SPDX-License-Identifier: GPL-2.0-or-later
"""Event logs of launches, made event by event, and TPMs after them."""

from __future__ import annotations

import dataclasses
import hashlib

from aemseal.measure.replay import replay
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.events import Event, EventLog

SHA1, SHA256, SHA384 = HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA384
SM3 = HashAlgorithm.SM3_256
BANKS = (SHA1, SHA256)
DATA = b"acm and edx"
START = 0x402


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def fold(*digests: bytes, start: bytes = bytes(32)) -> bytes:
    """PCR arithmetic of the tests' own, in the sha256 bank."""
    for digest in digests:
        start = sha256(start + digest)
    return start


def event(
    number: int,
    pcr: int,
    kind: int,
    data: bytes = b"",
    *,
    banks: tuple[HashAlgorithm, ...] = BANKS,
    form: str = "ext",
    measured: bytes | None = None,
) -> Event:
    """An event whose digests are H(measured), or H(0 || H(measured)) for "set"."""
    digests = {}
    for algorithm in banks:
        digest = algorithm.hash(data if measured is None else measured)
        value = algorithm.zero().extended(digest)
        digests[algorithm] = value if form == "set" else digest
    return Event(number, pcr, kind, digests, data)


def log_of(*events: Event, banks: tuple[HashAlgorithm, ...] = BANKS) -> EventLog:
    numbered = (dataclasses.replace(e, number=n) for n, e in enumerate(events))
    return EventLog("tcg-agile", banks, tuple(numbered))


def live_of(
    log: EventLog, algorithm: HashAlgorithm = SHA256, **changed: bytes
) -> PcrBank:
    """A TPM after the launch that wrote this log, but for the PCRs `changed`."""
    values = dict(PcrBank.at_startup(algorithm).after_dynamic_launch().values)
    values |= replay(log).banks[algorithm].values
    values |= {int(k[3:]): Digest(algorithm, v) for k, v in changed.items()}
    return PcrBank(algorithm, values)


def select(text: str) -> PcrSelection:
    return PcrSelection.parse(text)


def tboot_log() -> EventLog:
    """SINIT in both banks, tboot (from event 4 on) in sha256 alone, PCR 19 unused."""
    return log_of(
        event(0, 0, 3, b"spec id", banks=(SHA1,)),
        event(0, 17, START, DATA),
        event(0, 255, 0x401, b"\1\0\0\0"),
        event(0, 18, 0x410, b"key"),
        event(0, 17, 0x501, b"policy", banks=(SHA256,)),
        event(0, 18, 0x501, b"policy", banks=(SHA256,)),
        event(0, 17, 0x501, b"xen", banks=(SHA256,)),
    )
