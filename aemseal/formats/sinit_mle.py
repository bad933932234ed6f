# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that SINIT leaves for the MLE (SinitMleData), and what it says of PCR 17.

With a TPM 1.2 in the legacy mapping this table holds everything that SINIT extended
into PCR 17 and 18, so both can be computed where no event log was kept. With a TPM 2.0
SINIT leaves these fields at zero.

Source: Intel TXT Software Development Guide, appendix C.5 (SinitMleData) and 1.10.1
(PCR 17 of the legacy mapping); tboot include/txt/heap.h, sinit_mle_data_t. Held
against the ThinkPads X200 (version 6) and T460p (version 8).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aemseal.formats.reader import ByteReader
from aemseal.words.digest import Digest, HashAlgorithm
from aemseal.words.errors import FormatError, LogError

MINIMAL_VERSION = 6
_FIRST_WITH_PCR_VALUE = 7
_FIRST_WITH_SCRTM_STATUS = 8
_ACM_ID_SIZE = 20
_CAPABILITIES_ARE_MEASURED = 0x2
_U32, _U64 = 2**32, 2**64


@dataclass(frozen=True, slots=True)
class SinitMleData:
    """The measured fields of the table; later versions only add to it.

    `bios_acm_id` is 20 bytes, the hashes are SHA-1, the numbers unsigned: 64 bits
    `mseg_valid`, 32 bits all others. `proc_scrtm_status` is None before version 8.
    """

    version: int
    bios_acm_id: bytes
    edx_senter_flags: int
    mseg_valid: int
    sinit_hash: Digest
    mle_hash: Digest
    stm_hash: Digest
    lcp_policy_hash: Digest
    lcp_policy_control: int
    proc_scrtm_status: int | None = None

    def __post_init__(self) -> None:
        if not MINIMAL_VERSION <= self.version < _U32:
            raise ValueError(f"no SINIT to MLE table has version {self.version}")
        if len(self.bios_acm_id) != _ACM_ID_SIZE:
            raise ValueError(f"a BIOS ACM id of {len(self.bios_acm_id)} bytes")
        hashes = (self.sinit_hash, self.mle_hash, self.stm_hash, self.lcp_policy_hash)
        if any(each.algorithm is not HashAlgorithm.SHA1 for each in hashes):
            raise ValueError("the hashes of a SINIT to MLE table are SHA-1")
        numbers = (self.edx_senter_flags, self.lcp_policy_control)
        scrtm = self.proc_scrtm_status
        if not all(0 <= each < _U32 for each in (*numbers, scrtm or 0)):
            raise ValueError("a field of the SINIT to MLE table is over 32 bits")
        if not 0 <= self.mseg_valid < _U64:
            raise ValueError("mseg_valid is over 64 bits")
        if (scrtm is None) is (self.version >= _FIRST_WITH_SCRTM_STATUS):
            raise ValueError("proc_scrtm_status is in tables of version 8 and later")

    @property
    def tells_measurements(self) -> bool:
        """Whether SINIT filled it in: it does with a TPM 1.2 only."""
        return not (self.sinit_hash.is_blank or self.mle_hash.is_blank)

    def pcr_17_after_hash_start(self) -> Digest:
        """Return PCR 17 after HASH_START (0x402), before anything else, in SHA-1.

        Version 6 keeps SHA1(ACM) in `sinit_hash`, and H(0 || H(that || EDX)) is PCR
        17; from version 7 on `sinit_hash` is PCR 17 itself.
        Raises LogError when SINIT left the table empty.
        """
        self._require_measurements()
        if self.version >= _FIRST_WITH_PCR_VALUE:
            return self.sinit_hash
        edx = struct.pack("<I", self.edx_senter_flags)
        extended = HashAlgorithm.SHA1.hash(self.sinit_hash.value + edx)
        return HashAlgorithm.SHA1.zero().extended(extended)

    def combined_hash_data(self, os_sinit_capabilities: int) -> bytes:
        """Return what COMBINED_HASH (0x403) is the SHA-1 of: 80 bytes, 76 before v8.

        `os_sinit_capabilities` is OsSinitData's field of this launch (32 bits). It
        counts only where bit 1 of `lcp_policy_control` is set; zero stands in else.
        Raises LogError when SINIT left the table empty.
        """
        self._require_measurements()
        if not 0 <= os_sinit_capabilities < _U32:
            raise ValueError("OsSinitData's capabilities are over 32 bits")
        measured = self.lcp_policy_control & _CAPABILITIES_ARE_MEASURED
        scrtm = self.proc_scrtm_status
        return (
            self.bios_acm_id
            + struct.pack("<Q", self.mseg_valid)
            + self.stm_hash.value
            + struct.pack("<I", self.lcp_policy_control)
            + self.lcp_policy_hash.value
            + struct.pack("<I", os_sinit_capabilities if measured else 0)
            + (b"" if scrtm is None else struct.pack("<I", scrtm))
        )

    def _require_measurements(self) -> None:
        if not self.tells_measurements:
            raise LogError(
                "SINIT's table for the launched system names no measurements: the "
                "machine's TPM is a 2.0",
                "give the event log",
            )


def read_sinit_mle_data(reader: ByteReader) -> SinitMleData:
    """Read the table at the reader's place, behind its size, to `proc_scrtm_status`.

    Raises FormatError with the offset when it is cut off or older than version 6.
    """
    start = reader.offset
    version = reader.u32("SinitMleData: version")
    if version < MINIMAL_VERSION:
        raise FormatError(f"SinitMleData of version {version} is not known", start)
    acm_id = reader.take(_ACM_ID_SIZE, "SinitMleData: BIOS ACM id")
    edx = reader.u32("SinitMleData: SENTER flags")
    mseg_valid = reader.u64("SinitMleData: MSEG valid")
    sinit, mle, stm, lcp_policy = (
        Digest(
            HashAlgorithm.SHA1,
            reader.take(HashAlgorithm.SHA1.size, f"SinitMleData: {what} hash"),
        )
        for what in ("SINIT", "MLE", "STM", "LCP policy")
    )
    control = reader.u32("SinitMleData: LCP policy control")
    reader.u32("SinitMleData: RLP wakeup address")
    reader.u32("SinitMleData: reserved")
    for what in ("number of MDRs", "MDRs", "number of DMARs", "DMARs"):
        reader.u32(f"SinitMleData: {what}")
    scrtm = None
    if version >= _FIRST_WITH_SCRTM_STATUS:
        scrtm = reader.u32("SinitMleData: S-CRTM status")
    return SinitMleData(
        version,
        acm_id,
        edx,
        mseg_valid,
        sinit,
        mle,
        stm,
        lcp_policy,
        control,
        scrtm,
    )
