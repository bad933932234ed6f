# SPDX-License-Identifier: GPL-2.0-or-later
"""One simulated machine with one secret, sealed by aemseal and as Anti Evil Maid does.

Both are sealed to the same boot of the same swtpm. Nothing here needs root: the disk
is a file with a LUKS header.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tpm_sim.swtpm import LOCALITY_LAUNCHED, LOCALITY_OS, Swtpm

from aemseal.flows.owner import OWNER_FILE
from aemseal.flows.provision import (
    HOOK_FOLDER,
    own_the_tpm,
    seal,
    write_hook_files,
)
from aemseal.flows.sealing import ToSeal
from aemseal.flows.secret import Secret
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.world.config import Medium
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm

SECRET = b"The same sentence as always, in green letters."
SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection.of(SHA256, {13, 17, 18})
UUID = "5f1d2c3b-0d8e-4a77-9b1c-2e3f4a5b6c7d"
MEDIUM = Medium("stick", "/media/stick/aemseal", carried=True)

AEM_KEY = "0x81000101"
"""Beside aemseal's storage key, which is where Anti Evil Maid has its own."""

IDENTITY = bytes(range(20))


class EnrolledMachine:
    """Its folders, its disk and its TPM; `boot` before each unsealing."""

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self.folder, self.tpm = folder, tpm
        self.root = folder / "root"
        self.medium = self.root / MEDIUM.path.lstrip("/")
        self.etc = self.root / HOOK_FOLDER.lstrip("/")
        self.blobs = folder / "tpms"
        self.disk = folder / "by-uuid" / UUID
        self.cmdline = folder / "cmdline"
        self.run = folder / "run"
        for each in (self.medium, self.blobs / IDENTITY.hex(), self.disk.parent):
            each.mkdir(parents=True)
        self.cmdline.write_text(f"rd.luks.uuid=luks-{UUID} quiet\n", encoding="ascii")
        self._format_disk()
        self._header = self._measured_header()
        tpm.power_on()
        self._enrol()
        self.boot()
        self.tpm.extend([(13, self._header)], LOCALITY_OS)
        self._seal_like_aem()

    @property
    def pcrs(self) -> str:
        """The selection, as tpm2-tools name it."""
        return str(SELECTION)

    def boot(self) -> None:
        """Power-cycle and launch: what is left is the hook's to measure."""
        self.tpm.power_cut()
        self.tpm.power_on()
        self.tpm.hash_sequence(b"SINIT")
        self.tpm.extend([(17, _digests(b"policy"))], LOCALITY_LAUNCHED)
        self.tpm.extend([(18, _digests(b"Xen"))], LOCALITY_LAUNCHED)

    def _format_disk(self) -> None:
        self.disk.write_bytes(bytes(1 << 20))
        words = "--type luks2 --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000"
        sizes = "--luks2-metadata-size 16k --luks2-keyslots-size 256k --offset 1024"
        _run(
            *("cryptsetup", "luksFormat", *words.split(), *sizes.split()),
            *("--uuid", UUID, "--key-file", "-", str(self.disk)),
            data=b"passphrase",
        )

    def _measured_header(self) -> dict[HashAlgorithm, Digest]:
        header = self.folder / "header"
        _run(
            *("cryptsetup", "luksHeaderBackup", str(self.disk)),
            *("--header-backup-file", str(header)),
        )
        return _digests(header.read_bytes())

    def _enrol(self) -> None:
        zero = SHA256.zero()
        launched = zero.extended(SHA256.hash(b"SINIT"))
        accepted = policy_pcr(
            SELECTION,
            {
                13: zero.extended(self._header[SHA256]),
                17: launched.extended(SHA256.hash(b"policy")),
                18: zero.extended(SHA256.hash(b"Xen")),
            },
        )
        baseline = Baseline(title="Xen", stack="tboot", map="legacy", measurements=())
        boot = SealedBoot("Xen", "2026-01-01T00:00:00Z", accepted, baseline)
        with Tpm(self.tpm.tcti) as tpm:
            vault = Vault(Files(self.root), tpm)
            key = own_the_tpm(vault, None)
            write_hook_files(vault, key, SELECTION)
            state = VaultState(
                generation=1,
                selection=SELECTION,
                storage=key,
                counter=0,
                count=0,
                media=(MEDIUM,),
                secrets=(),
                baseline=baseline,
                accepted=(boot,),
            )
            seal(vault, state, (ToSeal(Secret("text", "text", SECRET)),))

    def _seal_like_aem(self) -> None:
        """Its storage key, TPM identity and token index; key, token and secret."""
        owner = (self.root / OWNER_FILE.lstrip("/")).read_text(encoding="ascii")
        work, blobs = self.folder, self.blobs / IDENTITY.hex()
        as_owner = ("-P", owner)
        key = ("tpm2_createprimary", "-Q", "-C", "o", *as_owner, "-c", f"{work}/srk")
        self._tool(*key)
        self._tool(
            *("tpm2_evictcontrol", "-Q", "-C", "o", *as_owner),
            *("-c", f"{work}/srk", AEM_KEY),
        )
        self._policy("reading", "tpm2_policycommandcode", "TPM2_CC_NV_Read")
        reading = ("-L", f"{work}/reading")
        named = "policyread|writedefine|writeall|ownerwrite|ownerread"
        index = ("tpm2_nvdefine", "-Q", *reading, *as_owner)
        self._tool(*index, "-s", "20", "-a", named, "0x7562")
        by_owner = ("tpm2_nvwrite", "-Q", "-C", "o", *as_owner, "-i", "-")
        self._tool(*by_owner, "0x7562", data=IDENTITY)
        slots = "policyread|authread|authwrite"
        self._tool(*index, "-s", "256", "-a", slots, "-p", "slots", "0x454d")
        token = os.urandom(20)
        self._tool(
            *("tpm2_nvwrite", "-Q", "-P", "slots", "-i", "-", "0x454d"),
            data=hashlib.sha256(token).digest(),
        )
        self._policy("now", "tpm2_policypcr", "-l", self.pcrs)
        sealing_key = os.urandom(16)
        self._tool(
            *("tpm2_create", "-Q", "-C", AEM_KEY, "-L", f"{work}/now", "-i", "-"),
            *("-u", f"{blobs}/key.pub", "-r", f"{blobs}/key.priv"),
            data=sealing_key,
        )
        for name, value in (("fre", token), ("txt", SECRET)):
            clear = work / "clear"
            clear.write_bytes(value)
            _run(
                *("openssl", "enc", "-aes-256-ctr", "-pbkdf2", "-e", "-kfile", "-"),
                *("-in", str(clear), "-out", f"{blobs}/secret.{name}.sealed2"),
                data=sealing_key.hex().encode(),
            )

    def _policy(self, name: str, *step: str) -> None:
        session = f"{self.folder}/session"
        self._tool("tpm2_startauthsession", "-S", session)
        self._tool(*step, "-Q", "-S", session, "-L", f"{self.folder}/{name}")
        self._tool("tpm2_flushcontext", session)

    def _tool(self, *words: str, data: bytes = b"") -> None:
        tcti = {"TPM2TOOLS_TCTI": self.tpm.tcti}
        _run(*words, data=data, environment=tcti)
        _run("tpm2_flushcontext", "-t", environment=tcti)


def _digests(data: bytes) -> dict[HashAlgorithm, Digest]:
    return {SHA256: SHA256.hash(data)}


def _run(
    *words: str, data: bytes = b"", environment: dict[str, str] | None = None
) -> None:
    subprocess.run(
        words,
        input=data,
        capture_output=True,
        check=True,
        timeout=60,
        env=os.environ | (environment or {}),
    )
