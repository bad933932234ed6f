# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that tboot launches: what is measured, and into which PCR.

Two machines, and each again with a SHA-1 bank in the two older log formats:

- `tboot-da`: a laptop with TPM 2.0 as it is in the field: details/authorities map. All
  modules go into PCR 17, PCR 19 stays 00.., tboot's own events are in the sha256 bank.
- `tboot-legacy`: a composite. The legacy map (Xen in PCR 18, dom0 kernel and initramfs
  in PCR 19) is TPM 1.2's on real machines; here it is on a TPM 2.0, with a crypto-agile
  log and tboot's events in sha256 only.

Sources of figures: [E5470] Dell Latitude E5470, TPM 2.0, tboot 1.10.2, log posted to
tboot-devel on 2021-08-26; [T460p] Lenovo ThinkPad T460p, TPM 1.2, tboot 1.10.3, log
posted to tboot-devel on 2022-01-31. Both laptops run the same SINIT module (6th and
7th generation, version 79). What depends on tboot's version is read from its file:
tboot_image.py, tboot_policy.py.
"""

from __future__ import annotations

from dataclasses import replace

from aemseal.words.digest import Digest
from aemseal.words.events import (
    TXT_COMBINED_HASH,
    TXT_MLE_HASH,
    TXT_OSSINITDATA_CAP_HASH,
    TXT_PCR_MAPPING,
    TXT_SINIT_PUBKEY_HASH,
)
from tpm_sim.eventlog import LogFormat
from tpm_sim.heap import SinitTable
from tpm_sim.models import SHA1, SHA256, HashStart, Map, SinitEvent, TbootModel
from tpm_sim.sinit_figures import (
    BIOSAC_REG_DATA,
    CPU_SCRTM_STAT,
    LCP_AUTHORITIES_HASH,
    LCP_CONTROL_HASH,
    LCP_DETAILS_HASH,
    NO_PCR,
    NV_INFO,
    NV_INFO_HASH,
    STM_HASH,
)

# H_A(ACM) || EDX: SHA-256 of the SINIT module without key, signature and scratch, and
# the parameter of SENTER [E5470, T460p: equal].
_HASH_START_DATA = bytes.fromhex(
    "755414dff4e11fba3d4adb0bb6bc8f04c0bd3b620ce567c329c8b20f7f5b1d9d00000000"
)

# BIOS ACM identity, CPU S-CRTM status, LCP control [E5470].
_BIOS_ACM = bytes.fromhex("000000002710152006b00000000200000000000000000000").ljust(
    32, b"\0"
)
_SCRTM = bytes.fromhex("00000000")
_LCP_CONTROL = bytes.fromhex("02000000")
_ABSENT = b"\0"

# The key that signed the SINIT module; logged without data [E5470].
_SINIT_KEY = {
    SHA1: Digest.from_hex(SHA1, "e75b9b930232d8061f2a637e6a59501a418bd3da"),
    SHA256: Digest.from_hex(
        SHA256, "3b5f9781c4347f5d3af1daf7019654dc05d1af857a598c18f3bc77e7b042b37f"
    ),
}

# Order and presence as SINIT 79 logs them [E5470].
DETAILS_AUTHORITIES_EVENTS = (
    SinitEvent(NO_PCR, TXT_PCR_MAPPING, bytes.fromhex("01000000")),
    SinitEvent(17, BIOSAC_REG_DATA, _BIOS_ACM),
    SinitEvent(17, CPU_SCRTM_STAT, _SCRTM),
    SinitEvent(17, LCP_CONTROL_HASH, _LCP_CONTROL),
    SinitEvent(17, LCP_DETAILS_HASH, _ABSENT),
    SinitEvent(17, STM_HASH, _ABSENT),
    SinitEvent(17, TXT_OSSINITDATA_CAP_HASH),
    SinitEvent(17, TXT_MLE_HASH),
    SinitEvent(17, NV_INFO_HASH, NV_INFO),
    SinitEvent(18, TXT_SINIT_PUBKEY_HASH, digests=_SINIT_KEY),
    SinitEvent(18, CPU_SCRTM_STAT, _SCRTM),
    SinitEvent(18, TXT_OSSINITDATA_CAP_HASH),
    SinitEvent(18, LCP_CONTROL_HASH, _LCP_CONTROL),
    SinitEvent(18, LCP_AUTHORITIES_HASH, _ABSENT),
    SinitEvent(18, NV_INFO_HASH, NV_INFO),
)

# What SINIT tells of itself with a TPM 1.2: version 8, no policy [T460p].
T460P_TABLE = SinitTable(
    version=8,
    bios_acm_id=bytes.fromhex("ffffffff3006162006b000000001ffffffffffff"),
)

LEGACY_EVENTS = (
    SinitEvent(NO_PCR, TXT_PCR_MAPPING, bytes.fromhex("00000000")),
    SinitEvent(17, TXT_COMBINED_HASH),
    SinitEvent(18, TXT_MLE_HASH),
)

TBOOT_DA = TbootModel(
    name="tboot-da",
    map=Map.DETAILS_AUTHORITIES,
    log_format=LogFormat.TCG_AGILE,
    banks=(SHA1, SHA256),
    tboot_banks=(SHA256,),
    hash_start_data=_HASH_START_DATA,
    hash_start=HashStart.EXT,
    sinit=DETAILS_AUTHORITIES_EVENTS,
    policy_pcrs=(17, 18),
    xen_pcr=17,
    modules_pcr=17,
)

TBOOT_LEGACY = TbootModel(
    name="tboot-legacy",
    map=Map.LEGACY,
    log_format=LogFormat.TCG_AGILE,
    banks=(SHA1, SHA256),
    tboot_banks=(SHA256,),
    hash_start_data=_HASH_START_DATA,
    hash_start=HashStart.EXT,
    sinit=LEGACY_EVENTS,
    table=T460P_TABLE,
    policy_pcrs=(17,),
    xen_pcr=18,
    modules_pcr=19,
)


def with_sha1_log(model: TbootModel, log_format: LogFormat) -> TbootModel:
    """Return the machine with a SHA-1 bank only, tboot's events included."""
    return replace(
        model,
        name=f"{model.name}-{log_format.value}",
        log_format=log_format,
        banks=(SHA1,),
        tboot_banks=(SHA1,),
        # The container's 0x402 digest is the PCR's value [T460p].
        hash_start=(
            HashStart.SET if log_format is LogFormat.TXT_CONTAINER else HashStart.EXT
        ),
        # The details/authorities map with SHA-1 is a TPM 2.0 with extpol=sha1.
        is_tpm12=model.map is Map.LEGACY,
    )


TBOOT_MACHINES = (
    TBOOT_DA,
    TBOOT_LEGACY,
    *(
        with_sha1_log(model, log_format)
        for model in (TBOOT_DA, TBOOT_LEGACY)
        for log_format in (LogFormat.TCG_SHA1, LogFormat.TXT_CONTAINER)
    ),
)
