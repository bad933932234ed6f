# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that tboot launches for every quirk that real ones have.

Each is `tboot-da` (TPM 2.0) or `tboot-tpm12` with one thing else; `tboot-tpm12` is a
TPM 2.0 with a SHA-1 bank alone that tboot takes for a TPM 1.2, so it is a composite.
Where a name has a version of tboot in it, that tboot is the package's with the version
and the capabilities of the other patched in.

Sources: [NUC] Intel NUC5i5MYHE, tboot 1.9.5, opencit issue 63; [GM45] a GM45 laptop,
tboot 1.9.12, log posted to tboot-devel on 2020-05-29; [X200] ThinkPad X200, OpenPTS;
[ICX] Ice Lake server with CBnT, log posted to tboot-devel on 2021-12-01: types and
order, the contents are made up; [SDG] Intel TXT Software Development Guide 1.10.
"""

from __future__ import annotations

from dataclasses import replace

from aemseal.words.digest import Digest
from tpm_sim.acm import Acm, Platform
from tpm_sim.eventlog import LogFormat
from tpm_sim.heap import SinitTable
from tpm_sim.models import (
    SHA1,
    SHA256,
    SHA384,
    HashStart,
    PolicyRule,
    SinitEvent,
    TbootModel,
)
from tpm_sim.sinit_figures import (
    BOOT_POL_HASH,
    BPM_HASH,
    CAP_VALUE,
    KM_HASH,
    RANDOM_VALUE,
)
from tpm_sim.tboot_machines import T460P_TABLE, TBOOT_DA, TBOOT_LEGACY, with_sha1_log

_CONTAINER = LogFormat.TXT_CONTAINER

# HASH_START as SINITs log it


def _with_hash_start(name: str, form: HashStart, times: int) -> TbootModel:
    return replace(TBOOT_DA, name=name, hash_start=form, hash_start_times=times)


_HASH_STARTS = (
    _with_hash_start("tboot-da-set", HashStart.SET, 1),
    _with_hash_start("tboot-da-twice", HashStart.EXT, 2),
    # Listed twice, and as the PCR's value [NUC].
    _with_hash_start("tboot-da-set-twice", HashStart.SET, 2),
)

# TPM 1.2: the combined event, by version of SINIT's table

TBOOT_TPM12 = replace(with_sha1_log(TBOOT_LEGACY, _CONTAINER), name="tboot-tpm12")
_VERSION_7 = replace(T460P_TABLE, version=7)
# A SINIT of that time: H(module) by SHA-1, and SENTER's parameter [GM45].
_GM45_HASH_START = bytes.fromhex("cc08beb0d8cb7b04068a5ef0cb1f3174c6306d4300000000")
_GM45_TABLE = SinitTable(
    version=6,
    bios_acm_id=bytes.fromhex("800000002008051500002a4000000000ffffffff"),
)

_TPM12 = (
    TBOOT_TPM12,
    replace(TBOOT_TPM12, name="tboot-tpm12-v7", table=_VERSION_7),
    replace(
        TBOOT_TPM12,
        name="tboot-tpm12-controlled",
        table=replace(T460P_TABLE, lcp_policy_control=2),
    ),
    # The owner's launch control policy holds the MLE's hash [X200].
    replace(
        TBOOT_TPM12,
        name="tboot-tpm12-mle-policy",
        table=_VERSION_7,
        has_mle_in_policy=True,
    ),
    replace(TBOOT_TPM12, name="tboot-tpm12-ext", hash_start=HashStart.EXT),
    # SINIT keeps no log, and tells of itself in its table alone [GM45].
    replace(
        TBOOT_TPM12,
        name="tboot-gm45",
        log_format=LogFormat.TBOOT_TEXT,
        kept_form=None,
        hash_start=HashStart.EXT,
        hash_start_data=_GM45_HASH_START,
        table=_GM45_TABLE,
        module_capabilities=0x0,
        tboot_version="1.9.12",
    ),
)

# Where the log is kept

_PLACES = (
    replace(TBOOT_DA, name="tboot-da-text", log_format=LogFormat.TBOOT_TEXT),
    replace(TBOOT_DA, name="tboot-da-memory", log_format=LogFormat.TBOOT_MEMORY),
    replace(
        TBOOT_TPM12,
        name="tboot-tpm12-text",
        log_format=LogFormat.TBOOT_TEXT,
        kept_form=_CONTAINER,
    ),
    replace(TBOOT_DA, name="tboot-da-per-bank", log_format=LogFormat.PER_BANK),
    replace(
        TBOOT_DA,
        name="tboot-da-per-bank-set-twice",
        log_format=LogFormat.PER_BANK,
        hash_start=HashStart.SET,
        hash_start_times=2,
    ),
    replace(
        TBOOT_DA,
        name="tboot-da-agile",
        # extpol=agile: every event in every bank, tboot's included.
        tboot_banks=(SHA1, SHA256),
    ),
    replace(TBOOT_DA, name="tboot-da-heap", log_format=LogFormat.TXT_HEAP),
    replace(
        TBOOT_DA,
        name="tboot-da-per-bank-heap",
        log_format=LogFormat.TXT_HEAP,
        kept_form=LogFormat.PER_BANK,
    ),
    replace(
        TBOOT_TPM12,
        name="tboot-tpm12-heap",
        log_format=LogFormat.TXT_HEAP,
        kept_form=_CONTAINER,
    ),
)

# Versions of tboot: capabilities, policies, and what is wrong with the log

_VERSIONS = (
    *(
        replace(TBOOT_DA, name=f"tboot-da-{version}", tboot_version=version)
        for version in ("1.9.4", "1.9.6", "1.10.0", "1.10.1", "1.11.6")
    ),
    # The log goes on with zeros; what tboot printed is right.
    replace(
        TBOOT_DA,
        name="tboot-da-1.9.12",
        tboot_version="1.9.12",
        more_logs=(LogFormat.TBOOT_TEXT,),
    ),
    replace(TBOOT_TPM12, name="tboot-tpm12-1.9.12", tboot_version="1.9.12"),
    replace(TBOOT_DA, name="tboot-da-getsec", module_capabilities=0x26C),
    replace(TBOOT_DA, name="tboot-da-no-agile-module", module_capabilities=0x16E),
)

# Banks and events that cannot be foreseen

_CAPPED = {SHA384: Digest(SHA384, bytes([1]) + bytes(47))}
_CAPS = tuple(
    SinitEvent(pcr, CAP_VALUE, digests=_CAPPED, banks=(SHA384,)) for pcr in (17, 18)
)
_RANDOM = SinitEvent(17, RANDOM_VALUE, is_random=True)

# SINIT cannot hash for a bank that the TPM has, and closes it [SDG].
_CLOSED_BANK = replace(
    TBOOT_DA,
    name="tboot-da-capped",
    banks=(SHA1, SHA256, SHA384),
    sinit_banks=(SHA1, SHA256),
    sinit=(*TBOOT_DA.sinit, *_CAPS),
)

_UNFORESEEN = (
    _CLOSED_BANK,
    replace(_CLOSED_BANK, name="tboot-da-capped-listed", lists_caps=True),
    # A module that is not for production makes PCR 17 another each time [SDG].
    replace(TBOOT_DA, name="tboot-da-random", sinit=(*TBOOT_DA.sinit, _RANDOM)),
)

# Policies in the TPM, made by tb_polgen

_ANY_IN_19 = PolicyRule("any", "19")

_POLICIES = (
    replace(
        TBOOT_DA,
        name="tboot-da-policy",
        policy_rules=(PolicyRule("0", "none"), _ANY_IN_19),
    ),
    replace(
        TBOOT_DA,
        name="tboot-da-policy-each",
        policy_rules=(
            *(PolicyRule("0", "18"), PolicyRule("1", "19"), PolicyRule("2", "20")),
            PolicyRule("any", "none"),
        ),
    ),
    replace(
        TBOOT_DA,
        name="tboot-da-policy-hashes",
        policy_rules=(PolicyRule("0", "none", lists_hash=True), _ANY_IN_19),
    ),
    replace(
        TBOOT_DA,
        name="tboot-da-policy-halt",
        policy_type="halt",
        policy_rules=(PolicyRule("0", "none", lists_hash=True), _ANY_IN_19),
    ),
)

# SINIT modules in /boot; all of them are made up

_SKYLAKE = Platform(device=0xB006, signature=0x506E3)
_HASWELL = Platform(device=0xB002, signature=0x306C3)
_SINIT_FILE = Acm(_SKYLAKE, date=0x20180904)

TBOOT_SINIT_FILE = replace(
    TBOOT_DA,
    name="tboot-da-sinit-file",
    platform=_SKYLAKE,
    sinit_files=(
        ("4TH_GEN_SINIT_MADE_UP.bin", Acm(_HASWELL, build=5)),
        ("6TH_GEN_SINIT_MADE_UP.bin", _SINIT_FILE),
    ),
)

_MODULES = (
    TBOOT_SINIT_FILE,
    replace(
        TBOOT_SINIT_FILE,
        name="tboot-da-sinit-firmware-newer",
        firmware_sinit=replace(_SINIT_FILE, date=0x20190101, build=6),
    ),
    replace(
        TBOOT_SINIT_FILE,
        name="tboot-da-sinit-firmware-older",
        firmware_sinit=replace(_SINIT_FILE, date=0x20170101, build=7),
    ),
)

# CBnT: the key and boot policy manifests come right behind HASH_START [ICX]

_CBNT = tuple(
    SinitEvent(17, kind, content)
    for kind, content in (
        (KM_HASH, b"key manifest"),
        (BPM_HASH, b"boot policy manifest"),
        (BOOT_POL_HASH, b"boot policy"),
    )
)

QUIRK_MACHINES = (
    *_HASH_STARTS,
    *_TPM12,
    *_PLACES,
    *_VERSIONS,
    *_UNFORESEEN,
    *_POLICIES,
    *_MODULES,
    replace(
        TBOOT_DA,
        name="tboot-da-cbnt",
        sinit=(*_CBNT, *TBOOT_DA.sinit),
        module_capabilities=0x77E,
    ),
)
