# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies and signatures by hashlib and openssl: a second reading of the format.

Nothing here comes from the package. Sources: docs/slot-format.md; TPM 2.0 Library 1.59,
part 3 section 23 (policies), part 2 sections 11.2 and 12.2 (signatures, public areas).
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hook_bus import PCRS

_BANK_IDS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C}
_CC_POLICY_NV, _CC_POLICY_AUTHORIZE = 0x149, 0x16A
_CC_POLICY_OR, _CC_POLICY_PCR = 0x171, 0x17F
_CC_POLICY_AUTH_VALUE = 0x16B


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def policy_pcr(bank: str, values: Mapping[int, bytes]) -> bytes:
    """Section 23.7: one selection of PCRS."""
    bitmap = sum(1 << pcr for pcr in PCRS).to_bytes(3, "little")
    selection = struct.pack(">IHB", 1, _BANK_IDS[bank], 3) + bitmap
    digest = sha256(*(values[pcr] for pcr in PCRS))
    return sha256(bytes(32), struct.pack(">I", _CC_POLICY_PCR), selection, digest)


def policy_or(digests: Sequence[bytes]) -> bytes:
    """Section 23.6."""
    return sha256(bytes(32), struct.pack(">I", _CC_POLICY_OR), *digests)


def policy_nv(policy: bytes, name: bytes, count: int) -> bytes:
    """Section 23.9: `policy`, then the counter of this Name equals `count`."""
    operand = sha256(count.to_bytes(8, "big"), bytes(2), bytes(2))
    return sha256(policy, struct.pack(">I", _CC_POLICY_NV), operand, name)


def policy_authorize(key_name: bytes, reference: bytes) -> bytes:
    """Section 23.16."""
    command = struct.pack(">I", _CC_POLICY_AUTHORIZE)
    return sha256(sha256(bytes(32), command, key_name), reference)


def policy_auth_value(policy: bytes) -> bytes:
    """Section 23.17: `policy`, then the object's authValue."""
    return sha256(policy, struct.pack(">I", _CC_POLICY_AUTH_VALUE))


def policy_ref(generation: int, medium: str) -> bytes:
    return sha256(f"aemseal policy-ref 1 {generation} {medium}".encode())


class Key:
    """K: an openssl key on P-256, and its public area."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.file = folder / "k.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")(
            self.file
        )
        der = run("openssl", "ec", "-pubout", "-outform", "DER", "-in")(self.file)
        x, y = der[-64:-32], der[-32:]
        self.public = bytes.fromhex("0023 000b 00040040 0000 0010 0018000b 0003 0010")
        self.public += b"\x00\x20" + x + b"\x00\x20" + y
        self.name = b"\x00\x0b" + sha256(self.public)

    def sign(self, policy: bytes, reference: bytes) -> bytes:
        """A TPMT_SIGNATURE over SHA-256(policy || reference)."""
        command = run("openssl", "dgst", "-sha256", "-sign", self.file)
        r, s = _der_integers(command(input=policy + reference))
        return bytes.fromhex("0018 000b 0020") + r + b"\x00\x20" + s


def _der_integers(der: bytes) -> tuple[bytes, bytes]:
    r_size = der[3]
    r, s = der[4 : 4 + r_size], der[6 + r_size :]
    return r.lstrip(b"\0").rjust(32, b"\0"), s.lstrip(b"\0").rjust(32, b"\0")


def run(*command: str | Path, tcti: str = "") -> Callable[..., bytes]:
    """Return a function that runs the command with more arguments and input."""

    def call(*more: str | Path, input: bytes = b"") -> bytes:  # noqa: A002, as in subprocess
        return subprocess.run(
            [str(word) for word in (*command, *more)],
            input=input,
            capture_output=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TPM2TOOLS_TCTI": tcti},
        ).stdout

    return call
