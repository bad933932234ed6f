# SPDX-License-Identifier: GPL-2.0-or-later
"""tboot's verified-launch policy: its built-in ones, and one in the TPM's NV memory.

Sources: tboot common/policy.c (default policies, set_policy, verify_all_modules,
find_policy_entry) and include/tb_policy.h, 1.8 to 1.11; packed, little endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aemseal.words.digest import Digest, HashAlgorithm
from tpm_sim.errors import SimulationError
from tpm_sim.tboot_image import Version

NO_PCR = 255
NV_INDEX = 0x01C10131
"""Where tboot looks for a policy in a TPM 2.0 that its owner provisioned."""

_HEAD = struct.Struct("<BBBIIB")
_ENTRY = struct.Struct("<BBBIB")
_VERSION = 2
_SHA1, _SHA256 = 0x04, 0x0B
_ANY_MODULE = 129
_NV_RAW = 131
_NV_MODULE = (_NV_RAW, 22, 0, 0x40000010, 0)
_EXTEND = 1
_HALT = 2
_HASHED_IMAGE = 1


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """One entry: the module it is for, its PCR, and the hashes it takes (any if none).

    `module` is its number from 0, or 129 for any other.
    """

    module: int
    pcr: int
    hashes: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class LaunchPolicy:
    """A policy: its bytes, as far as they are hashed, and what they say."""

    content: bytes
    halts: bool
    entries: tuple[PolicyEntry, ...]

    @classmethod
    def of(cls, content: bytes) -> LaunchPolicy:
        """Read a policy; what follows it is left. SimulationError for what is none."""
        try:
            version, kind, algorithm, _, _, count = _HEAD.unpack_from(content)
            at = _HEAD.size
            entries = []
            for _ in range(count):
                module, pcr, hash_type, _, hashes = _ENTRY.unpack_from(content, at)
                at += _ENTRY.size
                size = 20 if algorithm in (0, _SHA1) else 32
                found = [
                    content[at + number * size : at + (number + 1) * size]
                    for number in range(hashes)
                ]
                at += hashes * size
                takes = tuple(found) if hash_type == _HASHED_IMAGE else None
                entries.append(PolicyEntry(module, pcr, takes))
        except struct.error:
            raise SimulationError("tboot's policy is cut short") from None
        if version != _VERSION:
            raise SimulationError("this is no policy of tboot's")
        return cls(content[:at], kind == _HALT, tuple(entries))

    def digest(self, bank: HashAlgorithm, own: HashAlgorithm) -> Digest:
        """Return what is extended into a bank; `own` is the algorithm tboot uses."""
        control = self.content[3:7]
        inner = own.hash(self.content).value
        if not struct.unpack("<I", control)[0] & _EXTEND:
            inner = bytes(own.size)
        return bank.hash(control + inner)

    def entry(self, module: int) -> PolicyEntry | None:
        """Return the first entry that is for this module, or for any."""
        for entry in self.entries:
            if entry.module in (module, _ANY_MODULE):
                return entry
        return None


def default_policy(
    version: Version, *, is_tpm12: bool, others_pcr: int
) -> LaunchPolicy:
    """Return what is built into a tboot; `others_pcr` is that of all modules but Xen.

    The hash algorithm in it: SHA-1 before 1.9.12, SHA-256 in 1.9.12, and since 1.10
    SHA-1 again with a TPM 1.2, for which there is one policy only: PCR 19.
    """
    algorithm = _SHA256 if version >= (1, 9, 12) else _SHA1
    if is_tpm12 and version >= (1, 10):
        algorithm, others_pcr = _SHA1, 19
    entries = ((0, NO_PCR, 0, 0, 0), (_ANY_MODULE, others_pcr, 0, 0, 0), _NV_MODULE)
    head = _HEAD.pack(_VERSION, 0, algorithm, _EXTEND, 0, len(entries))
    return LaunchPolicy.of(head + b"".join(_ENTRY.pack(*each) for each in entries))
