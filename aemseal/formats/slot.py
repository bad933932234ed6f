# SPDX-License-Identifier: GPL-2.0-or-later
"""The files on a medium: the sealed secrets and the acceptance in force.

Format and limits: docs/slot-format.md, `vault` version 1, `acceptance` version 2.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from aemseal.formats.text_lines import LineReader, is_name
from aemseal.formats.tpm_policy import (
    MAX_BRANCHES,
    policy_nv_equal,
    policy_or,
)
from aemseal.words.digest import PCR_COUNT, HashAlgorithm

VAULT_FILE = "vault"
VAULT_LIMIT = 32768
ACCEPTANCE_LIMIT = 32768
"""Eight branches with all 24 PCRs of a SHA-512 bank are 27 KiB."""

STAGED_MARK = hashlib.sha256(b"aemseal staged 1").digest()
"""The branch between the accepted boots and the staged ones. No session gets there:
what a policy command hashes is longer than these 16 bytes."""

PART_SIZE = 128
"""The most bytes a TPM seals at once (TPM 2.0 part 2, MAX_SYM_DATA)."""

PART_DATA = 104
"""Bytes of a secret in one part: what its label leaves."""

MAX_PARTS = 16
MAX_SECRETS = 4
SECRET_KINDS = ("text", "totp", "keyfile")
_NV_HANDLE = re.compile("01[0-9a-f]{6}")
_PCR_SIZES = frozenset(algorithm.size for algorithm in HashAlgorithm)
_NOT_KNOWN = "-"


def part_label(kind: str, number: int, parts: int) -> bytes:
    """Return the line that a part begins with: which of which secret it is.

    It is sealed with the bytes behind it, since the vault file, which says so too, was
    in anybody's hands: a TOTP seed called a text there would be shown.
    """
    label = f"aemseal {kind} {number}/{parts}\n".encode("ascii")
    if len(label) > PART_SIZE - PART_DATA:
        raise ValueError(f"the label of a part: {label!r}")
    return label


def parts_of(kind: str, value: bytes) -> tuple[bytes, ...]:
    """Return what is sealed of a secret, a TPM's fill at a time, each labelled."""
    data = [value[at : at + PART_DATA] for at in range(0, len(value), PART_DATA)]
    return tuple(
        part_label(kind, number, len(data)) + each
        for number, each in enumerate(data, start=1)
    )


def acceptance_file(count: int) -> str:
    """Return the name of the acceptance for this value of the counter."""
    return f"acceptance.{count}"


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A sealed object: TPM2B_PUBLIC and TPM2B_PRIVATE, as marshalled."""

    public: bytes
    private: bytes


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret in parts of at most PART_SIZE bytes each; `pin`: PolicyAuthValue."""

    name: str
    kind: str
    pin: bool
    parts: tuple[SealedPart, ...]

    def __post_init__(self) -> None:
        if not is_name(self.name) or self.kind not in SECRET_KINDS:
            raise ValueError(f"secret {self.name!r} of kind {self.kind!r}")
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise ValueError(f"a secret has 1 to {MAX_PARTS} parts")


@dataclass(frozen=True, slots=True)
class VaultFile:
    """What a medium holds from enrol on.

    `counter` is the NV index handle, `key` a TPMT_PUBLIC, `policy_ref` 32 bytes.
    """

    generation: int
    medium: str
    counter: int
    key: bytes
    policy_ref: bytes
    secrets: tuple[SealedSecret, ...]

    def __post_init__(self) -> None:
        if self.generation < 1 or not is_name(self.medium):
            raise ValueError(f"generation {self.generation} medium {self.medium!r}")
        if not 1 <= len(self.secrets) <= MAX_SECRETS:
            raise ValueError(f"a vault has 1 to {MAX_SECRETS} secrets")

    def to_bytes(self) -> bytes:
        """Write the file."""
        lines = [
            "aemseal-vault 1",
            f"generation {self.generation}",
            f"medium {self.medium}",
            f"counter {self.counter:08x}",
            f"key {self.key.hex()}",
            f"policy-ref {self.policy_ref.hex()}",
        ]
        for secret in self.secrets:
            lines.append(
                f"secret {secret.name} {secret.kind} {int(secret.pin)} "
                f"{len(secret.parts)}"
            )
            lines += [
                f"part {part.public.hex()} {part.private.hex()}"
                for part in secret.parts
            ]
        return ("\n".join(lines) + "\n").encode("ascii")

    @classmethod
    def parse(cls, data: bytes, what: str = VAULT_FILE) -> VaultFile:
        """Read the file; FormatError for anything that is not of this format."""
        reader = LineReader.of(what, data, VAULT_LIMIT)
        if reader.fields("aemseal-vault", 1) != ["1"]:
            raise reader.fail("another version of the format")
        generation = reader.number(reader.fields("generation", 1)[0])
        medium = reader.name(reader.fields("medium", 1)[0])
        counter = reader.fields("counter", 1)[0]
        if _NV_HANDLE.fullmatch(counter) is None:
            raise reader.fail("not the handle of an NV index")
        key = reader.hex(reader.fields("key", 1)[0])
        policy_ref = reader.hex(reader.fields("policy-ref", 1)[0], 32)
        secrets = []
        while not reader.done:
            secrets.append(_read_secret(reader))
        try:
            return cls(
                generation=generation,
                medium=medium,
                counter=int(counter, 16),
                key=key,
                policy_ref=policy_ref,
                secrets=tuple(secrets),
            )
        except ValueError as error:
            raise reader.fail(str(error)) from None


def _read_secret(reader: LineReader) -> SealedSecret:
    name, kind, pin, count = reader.fields("secret", 4)
    if pin not in ("0", "1"):
        raise reader.fail("the PIN field is neither 0 nor 1")
    wanted = reader.number(count)
    if wanted > MAX_PARTS:
        raise reader.fail(f"over {MAX_PARTS} parts")
    parts = []
    for _ in range(wanted):
        public, private = reader.fields("part", 2)
        parts.append(SealedPart(reader.hex(public), reader.hex(private)))
    try:
        return SealedSecret(name, kind, pin == "1", tuple(parts))
    except ValueError as error:
        raise reader.fail(str(error)) from None


@dataclass(frozen=True, slots=True)
class AcceptedBranch:
    """One boot that may unseal: its PolicyPCR digest, and a name for the record.

    `values` are the selected PCRs, ascending, as they are when the hook asks; None
    where they are not known. A hint for the screen: no signature covers them.
    """

    policy: bytes
    name: str
    values: tuple[bytes, ...] | None = None

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"branch name {self.name!r}")
        if self.values is None:
            return
        if not 1 <= len(self.values) <= PCR_COUNT:
            raise ValueError(f"{len(self.values)} PCR values, not 1 to {PCR_COUNT}")
        if len(sizes := {len(each) for each in self.values}) > 1 or sizes - _PCR_SIZES:
            raise ValueError("PCR values that are not of one bank")

    @property
    def shape(self) -> tuple[int, int] | None:
        """How many PCR values of how many bytes; None where they are not known."""
        return None if self.values is None else (len(self.values), len(self.values[0]))


MARK = AcceptedBranch(STAGED_MARK, "staged")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A signed policy for one medium, in force while the counter equals `count`.

    `branches` are 1 to 8; a lone one is written (and hashed) twice. MARK, if it is
    there, has branches before and behind it. `signature` is a TPMT_SIGNATURE over the
    approval digest of `policy`.
    """

    generation: int
    medium: str
    count: int
    branches: tuple[AcceptedBranch, ...]
    policy: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if not is_name(self.medium):
            raise ValueError(f"medium {self.medium!r}")
        if not 1 <= len(self.branches) <= MAX_BRANCHES:
            raise ValueError(f"an acceptance has 1 to {MAX_BRANCHES} branches")
        if len({each.shape for each in self.branches} - {None}) > 1:
            raise ValueError("PCR values of more than one selection")
        policies = [each.policy for each in self.branches]
        if STAGED_MARK in (policies[0], policies[-1]) or (
            policies.count(STAGED_MARK) > 1
        ):
            raise ValueError("a mark of what is staged that is not between two boots")

    def to_bytes(self) -> bytes:
        """Write the file."""
        lines = [
            "aemseal-acceptance 2",
            f"generation {self.generation}",
            f"medium {self.medium}",
            f"count {self.count}",
        ]
        for branch in at_least_two(self.branches):
            lines += [
                f"branch {branch.policy.hex()} {branch.name}",
                f"values {_values_text(branch.values)}",
            ]
        lines += [f"policy {self.policy.hex()}", f"signature {self.signature.hex()}"]
        return ("\n".join(lines) + "\n").encode("ascii")

    @classmethod
    def parse(cls, data: bytes, what: str = "acceptance") -> Acceptance:
        """Read the file; FormatError for anything that is not of this format.

        A lone branch comes back as the two that it was written as.
        """
        reader = LineReader.of(what, data, ACCEPTANCE_LIMIT)
        if reader.fields("aemseal-acceptance", 1) != ["2"]:
            raise reader.fail("another version of the format")
        generation = reader.number(reader.fields("generation", 1)[0])
        medium = reader.name(reader.fields("medium", 1)[0])
        count = reader.number(reader.fields("count", 1)[0])
        branches = []
        while reader.next_is("branch"):
            branches.append(_read_branch(reader))
        policy_digest = reader.hex(reader.fields("policy", 1)[0], 32)
        signature = reader.hex(reader.fields("signature", 1)[0])
        reader.finish()
        if not 2 <= len(branches) <= MAX_BRANCHES:
            raise reader.fail(f"{len(branches)} branches instead of 2 to 8")
        try:
            return cls(
                generation, medium, count, tuple(branches), policy_digest, signature
            )
        except ValueError as error:
            raise reader.fail(str(error)) from None


def _read_branch(reader: LineReader) -> AcceptedBranch:
    policy, name = reader.fields("branch", 2)
    digest = reader.hex(policy, 32)
    reader.name(name)
    (text,) = reader.fields("values", 1)
    values = None
    if text != _NOT_KNOWN:
        values = tuple(reader.hex(each) for each in text.split(","))
    try:
        return AcceptedBranch(digest, name, values)
    except ValueError as error:
        raise reader.fail(str(error)) from None


def _values_text(values: tuple[bytes, ...] | None) -> str:
    return _NOT_KNOWN if values is None else ",".join(each.hex() for each in values)


def approved_policy(
    branches: tuple[AcceptedBranch, ...], counter_name: bytes, count: int
) -> bytes:
    """Return the policy an acceptance approves: PolicyPCR, PolicyOR, PolicyNV."""
    digests = [branch.policy for branch in at_least_two(branches)]
    return policy_nv_equal(policy_or(digests), counter_name, count)


def at_least_two(
    branches: tuple[AcceptedBranch, ...],
) -> tuple[AcceptedBranch, ...]:
    """Return the branches as PolicyOR takes them: a lone one twice."""
    return branches * 2 if len(branches) == 1 else branches
