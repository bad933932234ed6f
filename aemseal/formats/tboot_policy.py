# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's verified-launch policy: which module is measured into which PCR.

A TPM's NV index holds it, or a custom element of the launch control policy; where
there is none tboot takes a default one of its own. Packed, little endian: u8 version
(2), u8 type, u8 hash algorithm, u32 control, u32 reserved, u8 number of entries; each
entry: u8 module, u8 PCR, u8 hash type, u32 NV index, u8 number of hashes, the hashes.
Source: tboot include/tb_policy.h (tb_policy_t, verify_policy, calc_policy_size,
find_policy_entry), include/hash.h (get_hash_size), policy.c (set_policy,
verify_g_policy), 1.7 to 1.11.12.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from aemseal.formats.reader import ByteReader
from aemseal.words.digest import PCR_COUNT, Digest, HashAlgorithm
from aemseal.words.errors import FormatError

MODULE_ANY = 129
MODULE_NV = 130
MODULE_NV_RAW = 131
PCR_NONE = 255

MOST_POLICY_BYTES = 2124
"""tboot's buffer (MAX_TB_POLICY_SIZE with 64-byte hashes); a longer policy is cut."""

ELEMENT_UUID = bytes.fromhex("410693c3cbe3404fd79127f8b9e25c86")
"""Of the launch control policy's custom element in which a policy may lie.

Source: tboot include/lcp3.h, LCP_CUSTOM_ELEMENT_TBOOT_UUID."""

MOST_ELEMENTS = 8

LARGEST_MODULE = 127
"""Entries name modules up to this one."""

_VERSION = 2
_NV_MODULES = frozenset({MODULE_NV, MODULE_NV_RAW})
_MODULES = frozenset({*range(LARGEST_MODULE + 1), MODULE_ANY, *_NV_MODULES})
_PCRS = frozenset({*range(PCR_COUNT), PCR_NONE})

_ALGORITHM_AT = 2
_OLD_SHA1 = 0
"""SHA-1's number before 1.8.0; tb_polgen wrote it for TPM 1.2."""

_MEASURES_ITSELF = 1
"""Control bit TB_POLCTL_EXTEND_PCR17."""


class PolicyType(Enum):
    """What tboot does about a module that the policy does not let pass (policy.c).

    A module that its entry's list lacks is measured all the same, and only HALT stops
    the boot; one without an entry is not measured, and only CONTINUE goes on.
    """

    CONTINUE = 0
    CONTINUE_UNVERIFIED = 1
    HALT = 2


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What is done with one module, or with any.

    `module` counts from 0, or is MODULE_ANY, MODULE_NV or MODULE_NV_RAW; `pcr` is
    None for no PCR; `hashes` are the module hashes allowed, None for any.
    """

    module: int
    pcr: int | None
    hashes: tuple[bytes, ...] | None
    nv_index: int

    @property
    def is_nv(self) -> bool:
        """Whether it is of an NV index and not of a module."""
        return self.module in _NV_MODULES


@dataclass(frozen=True, slots=True)
class TbootPolicy:
    """A policy as tboot takes it.

    `list_algorithm` is of the entries' hashes; `data` are the bytes that count, as
    they are stored (calc_policy_size), without what else the NV index holds.
    """

    type: PolicyType
    list_algorithm: HashAlgorithm
    control: int
    entries: tuple[PolicyEntry, ...]
    data: bytes

    @property
    def measures_itself(self) -> bool:
        """Whether its digest depends on its bytes at all (control bit 0)."""
        return bool(self.control & _MEASURES_ITSELF)

    @property
    def measured_bytes(self) -> bytes:
        """What tboot >= 1.8.0 hashes: an algorithm of 0 has become SHA-1's 4.

        Older ones hash `data`.
        """
        if self.data[_ALGORITHM_AT] != _OLD_SHA1:
            return self.data
        head, tail = self.data[:_ALGORITHM_AT], self.data[_ALGORITHM_AT + 1 :]
        return head + bytes([HashAlgorithm.SHA1.tcg_id]) + tail

    def digest(
        self, bank: HashAlgorithm, own: HashAlgorithm, *, since_1_8: bool = True
    ) -> Digest:
        """Return what is extended in a bank: H_bank(u32 control || H_own(bytes)).

        `own` is tboot's own algorithm (cur_alg). A policy that does not measure itself
        has as many zeros as that hash is long in its place.
        """
        data = self.measured_bytes if since_1_8 else self.data
        inner = own.hash(data) if self.measures_itself else own.zero()
        return bank.hash(struct.pack("<I", self.control) + inner.value)

    def entry_for(self, module: int) -> PolicyEntry | None:
        """Return the first entry for this module or for any: tboot takes that one."""
        for entry in self.entries:
            if entry.module in (module, MODULE_ANY):
                return entry
        return None


def parse_policy(data: bytes) -> TbootPolicy:
    """Read a policy; bytes behind it are an NV index's unused rest.

    FormatError, naming the offset, for what tboot's verify_policy refuses, for a hash
    algorithm that is not known, and for more than MOST_POLICY_BYTES.
    """
    reader = ByteReader(data[:MOST_POLICY_BYTES])
    _require(reader, reader.u8("the version"), {_VERSION}, "version")
    types = {each.value for each in PolicyType}
    kind = _require(reader, reader.u8("the policy type"), types, "policy type")
    algorithm = _list_algorithm(reader)
    control = reader.u32("the policy control")
    reader.u32("the reserved field")
    count = reader.u8("the number of entries")
    entries = tuple(_entry(reader, algorithm) for _ in range(count))
    used = data[: reader.offset]
    return TbootPolicy(PolicyType(kind), algorithm, control, entries, used)


def wrapped_policies(data: bytes) -> tuple[bytes, ...]:
    """Return what lies in tboot's elements of LCP policy data, or of one element file.

    The bytes behind each UUID, no more than a policy has, and of MOST_ELEMENTS at
    most. The lists around them are not read: who believes a policy asks its digest.
    """
    found: list[bytes] = []
    at = data.find(ELEMENT_UUID)
    while at >= 0 and len(found) < MOST_ELEMENTS:
        start = at + len(ELEMENT_UUID)
        found.append(data[start : start + MOST_POLICY_BYTES])
        at = data.find(ELEMENT_UUID, start)
    return tuple(found)


def _list_algorithm(reader: ByteReader) -> HashAlgorithm:
    known = {each.tcg_id: each for each in HashAlgorithm}
    known[_OLD_SHA1] = HashAlgorithm.SHA1
    number = reader.u8("the hash algorithm")
    return known[_require(reader, number, set(known), "hash algorithm")]


def _entry(reader: ByteReader, algorithm: HashAlgorithm) -> PolicyEntry:
    module = _require(reader, reader.u8("a module number"), _MODULES, "module number")
    pcr = _require(reader, reader.u8("a PCR"), _PCRS, "PCR")
    lists = _require(reader, reader.u8("a hash type"), {0, 1}, "hash type")
    nv_index = reader.u32("an NV index")
    count = reader.u8("a number of hashes")
    hashes = tuple(reader.take(algorithm.size, "a hash") for _ in range(count))
    return PolicyEntry(
        module, None if pcr == PCR_NONE else pcr, hashes if lists else None, nv_index
    )


def _require(
    reader: ByteReader, value: int, known: set[int] | frozenset[int], what: str
) -> int:
    """Return the byte just read, if it is one that tboot takes."""
    if value not in known:
        offset = reader.offset - 1
        raise FormatError(f"tboot takes no policy with {what} {value}", offset)
    return value
