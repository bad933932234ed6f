# SPDX-License-Identifier: GPL-2.0-or-later
"""Hash algorithms, digests, PCR selections and PCR banks.

Sources: TCG Algorithm Registry (identifiers), TCG PC Client Platform TPM Profile
4.6 (PCR reset values), TPM 2.0 Library part 1 section 17 (extend).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from aemseal.words.errors import BankError, SelectionError, UsageError

PCR_COUNT = 24
DYNAMIC_PCRS = range(17, 23)
"""PCRs that only a dynamic launch resets to zero; FF.. until then."""

NEVER_SEALED = frozenset({16, 20, 21, 22, 23})
"""Anyone may reset 16 and 23; 20 to 22 are open to the launched system itself."""

ALWAYS_SEALED = frozenset({13, 17})
"""13 carries the LUKS headers and the cap, 17 the dynamic launch."""


class HashAlgorithm(Enum):
    """A PCR bank's algorithm, named as tpm2-tools names it (TCG identifier, bytes)."""

    SHA1 = ("sha1", 0x0004, 20)
    SHA256 = ("sha256", 0x000B, 32)
    SHA384 = ("sha384", 0x000C, 48)
    SHA512 = ("sha512", 0x000D, 64)
    SM3_256 = ("sm3_256", 0x0012, 32)

    def __init__(self, label: str, tcg_id: int, size: int) -> None:
        self.label = label
        self.tcg_id = tcg_id
        self.size = size

    def __str__(self) -> str:
        return self.label

    def new(self) -> hashlib._Hash:
        """Return a running hash object; BankError where this Python has no SM3."""
        name = "sm3" if self is HashAlgorithm.SM3_256 else self.label
        try:
            return hashlib.new(name)
        except ValueError:
            raise BankError(f"this Python cannot compute {self.label}") from None

    def hash(self, data: bytes) -> Digest:
        """Return H(data)."""
        running = self.new()
        running.update(data)
        return Digest(self, running.digest())

    def zero(self) -> Digest:
        """Return the all-zero digest: a PCR right after a dynamic launch."""
        return Digest(self, bytes(self.size))

    def ones(self) -> Digest:
        """Return the all-FF digest: PCR 17 to 22 when no dynamic launch took place."""
        return Digest(self, b"\xff" * self.size)

    @classmethod
    def named(cls, label: str) -> HashAlgorithm:
        """Return the algorithm with this name; UsageError when there is none."""
        for algorithm in cls:
            if algorithm.label == label:
                return algorithm
        known = ", ".join(algorithm.label for algorithm in cls)
        raise UsageError(f"unknown hash algorithm {label!r}", f"known are: {known}")

    @classmethod
    def with_id(cls, tcg_id: int) -> HashAlgorithm | None:
        """Return the algorithm with this TCG identifier, None when we have none."""
        return next((each for each in cls if each.tcg_id == tcg_id), None)


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash value and what made it; printed as "sha256:ab..."."""

    algorithm: HashAlgorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != self.algorithm.size:
            raise ValueError(
                f"{self.algorithm} takes {self.algorithm.size} bytes, "
                f"not {len(self.value)}"
            )

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def hex(self) -> str:
        """The value as lower-case hex."""
        return self.value.hex()

    @classmethod
    def from_hex(cls, algorithm: HashAlgorithm, text: str) -> Digest:
        """Parse hex digits; ValueError when they are not, or of the wrong length."""
        return cls(algorithm, bytes.fromhex(text))

    def extended(self, digest: Digest) -> Digest:
        """Return H(self || digest): a PCR's next value."""
        if digest.algorithm is not self.algorithm:
            raise ValueError(f"cannot extend {self.algorithm} with {digest.algorithm}")
        return self.algorithm.hash(self.value + digest.value)

    @property
    def is_blank(self) -> bool:
        """All 00 or all FF: a value that measures nothing."""
        return self.value in (bytes(len(self.value)), b"\xff" * len(self.value))

    @property
    def is_one(self) -> bool:
        """01 00..: what is extended into a bank whose hash a launcher cannot compute.

        It says nothing of what was launched. Source: SINIT (OneDigest, Intel TXT
        Software Development Guide), TrenchBoot's Xen tpm.c.
        """
        return self.value == b"\x01" + bytes(len(self.value) - 1)


Digests = Mapping[HashAlgorithm, Digest]
"""One measurement's digests, a bank each."""


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """A bank and the PCRs of it, ascending, at least one, each 0 to 23."""

    algorithm: HashAlgorithm
    pcrs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.pcrs:
            raise SelectionError("the PCR selection is empty")
        if list(self.pcrs) != sorted(set(self.pcrs)):
            raise ValueError("PCRs of a selection are ascending and unique")
        for pcr in self.pcrs:
            if not 0 <= pcr < PCR_COUNT:
                raise SelectionError(f"there is no PCR {pcr}", "PCRs are 0 to 23")

    def __str__(self) -> str:
        return f"{self.algorithm}:{','.join(map(str, self.pcrs))}"

    def __contains__(self, pcr: object) -> bool:
        return pcr in self.pcrs

    @classmethod
    def of(cls, algorithm: HashAlgorithm, pcrs: set[int]) -> PcrSelection:
        """Make a selection of a set of PCRs."""
        return cls(algorithm, tuple(sorted(pcrs)))

    @classmethod
    def parse(cls, text: str) -> PcrSelection:
        """Parse "sha256:13,17,18" or Anti Evil Maid's "--pcr 13 --pcr 17" (sha256).

        Raises UsageError for anything else, SelectionError for a PCR above 23.
        """
        if aem := re.fullmatch(r"\s*((?:--pcr[ =]\d{1,9}\s*)+)", text, re.ASCII):
            pcrs = {int(number) for number in re.findall(r"\d+", aem[1])}
            return cls.of(HashAlgorithm.SHA256, pcrs)
        plain = re.fullmatch(
            r"\s*([a-z0-9_]+):(\d{1,9}(?:\s*,\s*\d{1,9})*)\s*", text, re.ASCII
        )
        if plain is None:
            raise UsageError(
                f"cannot read the PCR selection {text!r}",
                'write "sha256:13,17,18" or "--pcr 13 --pcr 17"',
            )
        pcrs = {int(number) for number in plain[2].split(",")}
        return cls.of(HashAlgorithm.named(plain[1]), pcrs)

    def require_sealable(self) -> None:
        """Raise SelectionError unless 13 and 17 are in and no open PCR is."""
        for pcr in sorted(ALWAYS_SEALED - set(self.pcrs)):
            raise SelectionError(
                f"PCR {pcr} is not in the selection {self}",
                "13 (LUKS headers and cap) and 17 (the launch) are always sealed to",
            )
        for pcr in sorted(NEVER_SEALED & set(self.pcrs)):
            raise SelectionError(
                f"PCR {pcr} is in the selection {self}",
                "PCR 16 and 20 to 23 can be set by anyone: leave them out",
            )

    def require_no_other(self, asked: PcrSelection) -> None:
        """Raise SelectionError unless what is asked for is this, the sealed one."""
        if asked != self:
            raise SelectionError(
                f"the secret is sealed to {self}, not to {asked}",
                "leave --pcrs out; another selection needs a new enrolment",
            )


@dataclass(frozen=True, slots=True)
class PcrBank:
    """Values of one bank's PCRs; a PCR that is absent is not known."""

    algorithm: HashAlgorithm
    values: Mapping[int, Digest]

    def __post_init__(self) -> None:
        for pcr, digest in self.values.items():
            if not 0 <= pcr < PCR_COUNT or digest.algorithm is not self.algorithm:
                raise ValueError(f"PCR {pcr} = {digest} is not of {self.algorithm}")

    @classmethod
    def at_startup(cls, algorithm: HashAlgorithm) -> PcrBank:
        """Return the bank at power-on: 17 to 22 are FF.., all others 00..."""
        ones, zero = algorithm.ones(), algorithm.zero()
        return cls(
            algorithm,
            {pcr: ones if pcr in DYNAMIC_PCRS else zero for pcr in range(PCR_COUNT)},
        )

    def after_dynamic_launch(self) -> PcrBank:
        """Return this bank with 17 to 22 reset to 00.., as HASH_START does."""
        zero = self.algorithm.zero()
        return PcrBank(
            self.algorithm, {**self.values, **dict.fromkeys(DYNAMIC_PCRS, zero)}
        )

    def extend(self, pcr: int, digest: Digest) -> PcrBank:
        """Return this bank after TPM2_PCR_Extend; an unknown PCR is KeyError."""
        value = self.values[pcr].extended(digest)
        return PcrBank(self.algorithm, {**self.values, pcr: value})

    def value(self, pcr: int) -> Digest:
        """Return one PCR's value; BankError when this bank does not hold it."""
        if pcr not in self.values:
            raise BankError(f"PCR {pcr} has no value in the {self.algorithm} bank")
        return self.values[pcr]
