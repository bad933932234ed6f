# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's configuration in the initramfs, and the record it leaves in /run.

Format: docs/slot-format.md, record version 3; 1 and 2 are read as well.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from aemseal.formats.slot import MAX_SECRETS, SECRET_KINDS
from aemseal.formats.text_lines import LineReader
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.words.errors import SelectionError, UsageError

RECORD_LIMIT = 8192
CAP_DATA = b"aemseal cap"
"""What TPM2_PCR_Event hashes into PCR 13 when the hook is done."""

LUKS_PCR = 13
UNSEALED = "unsealed"
WRONG_PIN, NO_PIN, LOCKOUT = "wrong-pin", "no-pin", "lockout"
TWO_DISKS = "two-disks"
OUTCOMES = frozenset(
    {
        UNSEALED,
        *("not-accepted", "no-launch", "no-tpm", "tpm-changed", LOCKOUT),
        *("no-medium", "stale", "bad-medium", "not-enrolled", "cap-failed"),
        *("no-luks", "failed", WRONG_PIN, NO_PIN, TWO_DISKS),
    }
)
"""How the hook may end (docs/slot-format.md, the table of outcomes)."""

APPROVED = frozenset({UNSEALED, WRONG_PIN, NO_PIN})
"""Outcomes that only a boot has which the TPM held to be an accepted one."""

BEFORE_UPDATE = "before-update"
"""The one role of a boot that a record names: another one is staged."""

_LATER_OUTCOMES = {
    1: frozenset({WRONG_PIN, NO_PIN, TWO_DISKS}),
    2: frozenset({TWO_DISKS}),
}
"""Of each version, what it could not say yet."""

_MOST_LUKS_LINES = 16
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def hook_conf(selection: PcrSelection) -> bytes:
    """Write hook.conf: the bank and the PCRs, which the medium cannot change."""
    pcrs = ",".join(map(str, selection.pcrs))
    text = f"aemseal-hook 1\nbank {selection.algorithm}\npcrs {pcrs}\n"
    return text.encode("ascii")


def pin_of(srk_tr: bytes) -> bytes:
    """Return what the record calls `pin`: SHA-256 of the serialized storage key."""
    return hashlib.sha256(srk_tr).digest()


@dataclass(frozen=True, slots=True)
class OpenedSecret:
    """A secret that was unsealed: its name in the vault, and its kind."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class HookRecord:
    """What the hook says it did in this boot.

    `luks` are the extends of PCR 13 in order, as (UUID, digest), 16 at most; `cap`
    is absent when the cap failed; `outcome` is one of OUTCOMES. `count` and `branch`
    say which acceptance was used: there where the outcome is of APPROVED, and where a
    PIN met LOCKOUT; `opened` are the secrets that were unsealed then, none of them
    named in a record of version 1. `before_update` says that another boot was staged
    when this one was accepted; no record before version 3 does. `selection` and `pin`
    (which storage key to trust) are what the measured initramfs holds, whatever lies
    on the disk by now.
    """

    selection: PcrSelection
    pin: bytes
    luks: tuple[tuple[str, Digest], ...]
    cap: Digest | None
    outcome: str
    count: int | None = None
    branch: str | None = None
    opened: tuple[OpenedSecret, ...] = ()
    before_update: bool = False

    @classmethod
    def parse(cls, data: bytes, what: str = "record") -> HookRecord:
        """Read the record; FormatError for anything that is not of this format."""
        reader = LineReader.of(what, data, RECORD_LIMIT)
        (text,) = reader.fields("aemseal-record", 1)
        if text not in ("1", "2", "3"):
            raise reader.fail("another version of the format")
        version = int(text)
        selection = _selection(reader)
        pin = reader.hex(reader.fields("pin", 1)[0], 32)
        luks = _luks(reader, selection.algorithm)
        cap = None
        if reader.next_is("cap"):
            digest = reader.fields("cap", 1)[0]
            cap = _digest(reader, selection.algorithm, digest)
        outcome = reader.fields("outcome", 1)[0]
        if outcome not in OUTCOMES - _LATER_OUTCOMES.get(version, frozenset()):
            raise reader.fail("not an outcome of the hook")
        count = branch = None
        opened: tuple[OpenedSecret, ...] = ()
        before_update = False
        met_lockout = outcome == LOCKOUT and version > 1 and reader.next_is("count")
        if outcome in APPROVED or met_lockout:
            count = reader.number(reader.fields("count", 1)[0])
            branch = reader.name(reader.fields("branch", 1)[0])
            before_update = version > 2 and _before_update(reader)
            opened = _opened(reader, outcome) if version > 1 else ()
        reader.finish()
        used = (count, branch, opened, before_update)
        return cls(selection, pin, luks, cap, outcome, *used)

    @property
    def algorithm(self) -> HashAlgorithm:
        """The bank of the digests."""
        return self.selection.algorithm

    @property
    def measured(self) -> Digest:
        """PCR 13 when the hook asked for the secret: the headers, before the cap."""
        value = self.algorithm.zero()
        for _, digest in self.luks:
            value = value.extended(digest)
        return value

    @property
    def left(self) -> Digest:
        """PCR 13 as the hook left it: what the TPM must hold now."""
        return self.measured if self.cap is None else self.measured.extended(self.cap)


def _luks(
    reader: LineReader, algorithm: HashAlgorithm
) -> tuple[tuple[str, Digest], ...]:
    """Read the `luks` lines."""
    found: list[tuple[str, Digest]] = []
    while reader.next_is("luks"):
        uuid, digest = reader.fields("luks", 2)
        if _UUID.fullmatch(uuid) is None:
            raise reader.fail("not a UUID in lower case")
        if len(found) == _MOST_LUKS_LINES:
            raise reader.fail(f"over {_MOST_LUKS_LINES} LUKS headers")
        found.append((uuid, _digest(reader, algorithm, digest)))
    return tuple(found)


def _before_update(reader: LineReader) -> bool:
    """Read the `role` line, where there is one."""
    if not reader.next_is("role"):
        return False
    if reader.fields("role", 1) != [BEFORE_UPDATE]:
        raise reader.fail("not a role of a boot")
    return True


def _opened(reader: LineReader, outcome: str) -> tuple[OpenedSecret, ...]:
    """Read the `secret` lines: one at least where that is the outcome, else none."""
    found: list[OpenedSecret] = []
    while outcome != NO_PIN and reader.next_is("secret"):
        name, kind = reader.fields("secret", 2)
        if kind not in SECRET_KINDS or len(found) == MAX_SECRETS:
            raise reader.fail("not a secret of the vault")
        found.append(OpenedSecret(reader.name(name), kind))
    if outcome == UNSEALED and not found:
        raise reader.fail("no secret is named")
    return tuple(found)


def _digest(reader: LineReader, algorithm: HashAlgorithm, text: str) -> Digest:
    return Digest(algorithm, reader.hex(text, algorithm.size))


def _selection(reader: LineReader) -> PcrSelection:
    """Read the bank and the PCRs, ascending as hook.conf has them."""
    try:
        algorithm = HashAlgorithm.named(reader.fields("bank", 1)[0])
    except UsageError as error:
        raise reader.fail(error.message) from None
    listed = reader.fields("pcrs", 1)[0].split(",")
    pcrs = tuple(reader.number(each) for each in listed)
    try:
        return PcrSelection(algorithm, pcrs)
    except (ValueError, SelectionError):
        raise reader.fail("not a selection of PCRs, ascending") from None
