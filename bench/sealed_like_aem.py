# SPDX-License-Identifier: GPL-2.0-or-later
"""A secret sealed as Anti Evil Maid 4.2 seals: storage key, identity, token, files.

To the PCRs as they are, in TPM and folder beside aemseal's own. Source: what its
sbin/anti-evil-maid-lib-tpm2 does (QubesOS/qubes-antievilmaid), with tpm2-tools.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

AEM_KEY = "0x81000101"
"""Beside aemseal's storage key, which is where Anti Evil Maid has its own."""

_IDENTITY = bytes(range(20))


@dataclass(frozen=True, slots=True)
class LikeAem:
    """Seals by the TPM at `tcti`; `work` is for files on the way, `blobs` for results.

    `owner` authorises the owner hierarchy, `pcrs` is a selection as tpm2-tools say it.
    """

    tcti: str
    work: Path
    blobs: Path
    owner: str
    pcrs: str

    def seal(self, secret: bytes) -> None:
        """Make its storage key, TPM identity and token index; key, token and secret.

        CalledProcessError where a tool fails.
        """
        blobs = self.blobs / _IDENTITY.hex()
        blobs.mkdir(parents=True)
        self._make_key()
        token = os.urandom(20)
        self._define_indices(token)
        self._policy("now", "tpm2_policypcr", "-l", self.pcrs)
        sealing_key = os.urandom(16)
        self._tool(
            *("tpm2_create", "-Q", "-C", AEM_KEY, "-L", f"{self.work}/now", "-i", "-"),
            *("-u", f"{blobs}/key.pub", "-r", f"{blobs}/key.priv"),
            data=sealing_key,
        )
        for name, value in (("fre", token), ("txt", secret)):
            clear = self.work / "clear"
            clear.write_bytes(value)
            run(
                *("openssl", "enc", "-aes-256-ctr", "-pbkdf2", "-e", "-kfile", "-"),
                *("-in", str(clear), "-out", f"{blobs}/secret.{name}.sealed2"),
                data=sealing_key.hex().encode(),
            )

    def _make_key(self) -> None:
        by_owner = ("-C", "o", "-P", self.owner)
        self._tool("tpm2_createprimary", "-Q", *by_owner, "-c", f"{self.work}/srk")
        self._tool(
            *("tpm2_evictcontrol", "-Q", *by_owner, "-c", f"{self.work}/srk", AEM_KEY)
        )

    def _define_indices(self, token: bytes) -> None:
        """Define the TPM's identity, and the slots of which the first has the token."""
        self._policy("reading", "tpm2_policycommandcode", "TPM2_CC_NV_Read")
        reading = ("-L", f"{self.work}/reading")
        named = "policyread|writedefine|writeall|ownerwrite|ownerread"
        index = ("tpm2_nvdefine", "-Q", *reading, "-P", self.owner)
        self._tool(*index, "-s", "20", "-a", named, "0x7562")
        by_owner = ("tpm2_nvwrite", "-Q", "-C", "o", "-P", self.owner, "-i", "-")
        self._tool(*by_owner, "0x7562", data=_IDENTITY)
        slots = "policyread|authread|authwrite"
        self._tool(*index, "-s", "256", "-a", slots, "-p", "slots", "0x454d")
        self._tool(
            *("tpm2_nvwrite", "-Q", "-P", "slots", "-i", "-", "0x454d"),
            data=hashlib.sha256(token).digest(),
        )

    def _policy(self, name: str, *step: str) -> None:
        session = f"{self.work}/session"
        self._tool("tpm2_startauthsession", "-S", session)
        self._tool(*step, "-Q", "-S", session, "-L", f"{self.work}/{name}")
        self._tool("tpm2_flushcontext", session)

    def _tool(self, *words: str, data: bytes = b"") -> None:
        tcti = {"TPM2TOOLS_TCTI": self.tcti}
        run(*words, data=data, environment=tcti)
        run("tpm2_flushcontext", "-t", environment=tcti)


def run(
    *words: str, data: bytes = b"", environment: dict[str, str] | None = None
) -> None:
    """Run a tool on bytes; CalledProcessError when it fails."""
    subprocess.run(
        words,
        input=data,
        capture_output=True,
        check=True,
        timeout=60,
        env=os.environ | (environment or {}),
    )
