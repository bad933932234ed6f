# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says of the TPM in sysfs: its version, and a TPM 1.2's PCRs.

aemseal seals with a TPM 2.0 alone; the PCRs of a TPM 1.2 are read so that its boots
can be looked at. Source: Linux Documentation/ABI/stable/sysfs-class-tpm
(tpm_version_major, pcr-<hash>/<index>, pcrs), drivers/char/tpm/tpm-sysfs.c.
"""

from __future__ import annotations

import re

from aemseal.words.digest import PCR_COUNT, Digest, HashAlgorithm, PcrBank
from aemseal.words.errors import BankError, EvidenceError
from aemseal.world.rooted import Rooted

TPM_FOLDER = "/sys/class/tpm/tpm0"
VERSION_FILE = f"{TPM_FOLDER}/tpm_version_major"
BANK_FOLDER = f"{TPM_FOLDER}/pcr-sha1"
"""A file for each PCR, since Linux 5.12."""

LISTS = (f"{TPM_FOLDER}/pcrs", f"{TPM_FOLDER}/device/pcrs")
"""All PCRs in one file, of a TPM 1.2 alone; the second is where it was before 4.0."""

_LIMIT = 4096
_HEX = re.compile(rb"[0-9A-Fa-f]{40}\n?")
_LINE = re.compile(rb"PCR-(\d\d):((?: [0-9A-Fa-f]{2}){20}) ?")


def is_tpm12(files: Rooted) -> bool:
    """Whether the kernel has a TPM 1.2.

    By its version file; a kernel without that (before 5.6) lists PCRs for 1.2 alone.
    EvidenceError when the version cannot be read.
    """
    version = files.read(VERSION_FILE, _LIMIT, EvidenceError)
    if version is not None:
        return version.strip() == b"1"
    return any(files.exists(each) for each in LISTS)


def tpm12_pcrs(files: Rooted, algorithm: HashAlgorithm) -> PcrBank:
    """Read all 24 PCRs of a TPM 1.2.

    BankError for any bank but sha1; EvidenceError, naming the file, when one is
    missing, empty, cut short or no list of PCRs.
    """
    if algorithm is not HashAlgorithm.SHA1:
        raise BankError(
            f"the TPM is a TPM 1.2 and has no {algorithm} bank",
            "look at its only one: --pcrs sha1:17,18,19",
        )
    if files.is_folder(BANK_FOLDER):
        values = {pcr: _one(files, f"{BANK_FOLDER}/{pcr}") for pcr in range(PCR_COUNT)}
    else:
        values = _listed(files)
    return PcrBank(algorithm, values)


def _one(files: Rooted, path: str) -> Digest:
    text = files.read(path, _LIMIT, EvidenceError)
    if text is None:
        raise EvidenceError(f"{path} is missing: a TPM 1.2 has {PCR_COUNT} PCRs")
    if _HEX.fullmatch(text) is None:
        raise EvidenceError(f"{path} holds no PCR value: {len(text)} bytes")
    return Digest.from_hex(HashAlgorithm.SHA1, text.decode("ascii").strip())


def _listed(files: Rooted) -> dict[int, Digest]:
    for path in LISTS:
        text = files.read(path, _LIMIT, EvidenceError)
        if text is not None:
            return _parsed(path, text)
    raise EvidenceError(f"the kernel lists no PCRs at {' or '.join(LISTS)}")


def _parsed(path: str, text: bytes) -> dict[int, Digest]:
    """Read the lines "PCR-17: 0A 1B ..", one for each PCR, in order."""
    values: dict[int, Digest] = {}
    for number, line in enumerate(text.splitlines()):
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) != number:
            raise EvidenceError(f"{path} line {number + 1} is not that of PCR {number}")
        value = bytes.fromhex(match[2].decode("ascii"))
        values[number] = Digest(HashAlgorithm.SHA1, value)
    if len(values) != PCR_COUNT:
        raise EvidenceError(f"{path} lists {len(values)} PCRs, not {PCR_COUNT}")
    return values
