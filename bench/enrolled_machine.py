# SPDX-License-Identifier: GPL-2.0-or-later
"""One simulated machine with one secret, sealed by aemseal and as Anti Evil Maid does.

Both are sealed to the same boot of the same swtpm. Nothing here needs root: the disk
is a file with a LUKS header.
"""

from __future__ import annotations

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
from bench.sealed_like_aem import LikeAem, run

SECRET = b"The same sentence as always, in green letters."
SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection.of(SHA256, {13, 17, 18})
UUID = "5f1d2c3b-0d8e-4a77-9b1c-2e3f4a5b6c7d"
MEDIUM = Medium("stick", "/media/stick/aemseal", carried=True)


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
        for each in (self.medium, self.disk.parent):
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
        run(
            *("cryptsetup", "luksFormat", *words.split(), *sizes.split()),
            *("--uuid", UUID, "--key-file", "-", str(self.disk)),
            data=b"passphrase",
        )

    def _measured_header(self) -> dict[HashAlgorithm, Digest]:
        header = self.folder / "header"
        run(
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
        owner = (self.root / OWNER_FILE.lstrip("/")).read_text(encoding="ascii")
        like = LikeAem(self.tpm.tcti, self.folder, self.blobs, owner, self.pcrs)
        like.seal(SECRET)


def _digests(data: bytes) -> dict[HashAlgorithm, Digest]:
    return {SHA256: SHA256.hash(data)}
