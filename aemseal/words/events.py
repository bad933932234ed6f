# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of a measurement log, as data; what they mean is decided after replay.

Sources: TCG PC Client Platform Firmware Profile 10.4.1 (0x00 to 0x8000000F), Intel
TXT Software Development Guide appendix G (0x401 to 0x4FF; the same 23 rows are in
Windows' wbcl.h, SIPAEV_TXT_*), tboot include/txt/config_regs.h and policy.c (0x501),
TrenchBoot's Linux include/linux/slaunch.h and Xen arch/x86/slaunch.c (0x502 to 0x504).
A type that is in no row is named "0x...".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aemseal.words.digest import PCR_COUNT, Digest, HashAlgorithm

EV_NO_ACTION = 0x3
TXT_PCR_MAPPING = 0x401
TXT_HASH_START = 0x402
TXT_COMBINED_HASH = 0x403
TXT_MLE_HASH = 0x404
TXT_OSSINITDATA_CAP_HASH = 0x40F
TXT_SINIT_PUBKEY_HASH = 0x410
TXT_RANDOM_VALUE = 0x4FE
TXT_CAP_VALUE = 0x4FF
TBOOT_MEASUREMENT = 0x501
SLAUNCH_START = 0x503
SLAUNCH_END = 0x504

_NEVER_EXTENDED = frozenset({EV_NO_ACTION, SLAUNCH_START, SLAUNCH_END})
"""Listed for the reader only; Linux logs the two markers with a zero digest."""

_TCG_NAMES = {
    0x00: "EV_PREBOOT_CERT",
    0x01: "EV_POST_CODE",
    0x03: "EV_NO_ACTION",
    0x04: "EV_SEPARATOR",
    0x05: "EV_ACTION",
    0x06: "EV_EVENT_TAG",
    0x07: "EV_S_CRTM_CONTENTS",
    0x08: "EV_S_CRTM_VERSION",
    0x09: "EV_CPU_MICROCODE",
    0x0A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0B: "EV_TABLE_OF_DEVICES",
    0x0C: "EV_COMPACT_HASH",
    0x0D: "EV_IPL",
    0x0E: "EV_IPL_PARTITION_DATA",
    0x0F: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x13: "EV_POST_CODE2",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}

_TXT_NAMES = {
    0x401: "PCR_MAPPING",
    0x402: "HASH_START",
    0x403: "COMBINED_HASH",
    0x404: "MLE_HASH",
    0x40A: "BIOSAC_REG_DATA",
    0x40B: "CPU_SCRTM_STAT",
    0x40C: "LCP_CONTROL_HASH",
    0x40D: "ELEMENTS_HASH",
    0x40E: "STM_HASH",
    0x40F: "OSSINITDATA_CAP_HASH",
    0x410: "SINIT_PUBKEY_HASH",
    0x411: "LCP_HASH",
    0x412: "LCP_DETAILS_HASH",
    0x413: "LCP_AUTHORITIES_HASH",
    0x414: "NV_INFO_HASH",
    0x415: "COLD_BOOT_BIOS_HASH",
    0x416: "KM_HASH",
    0x417: "BPM_HASH",
    0x418: "KM_INFO_HASH",
    0x419: "BPM_INFO_HASH",
    0x41A: "BOOT_POL_HASH",
    0x4FE: "RANDOM_VALUE",
    0x4FF: "CAP_VALUE",
    0x501: "TBOOT",
    0x502: "SLAUNCH",
    0x503: "SLAUNCH_START",
    0x504: "SLAUNCH_END",
}

_NAMES = {**_TCG_NAMES, **_TXT_NAMES}


@dataclass(frozen=True, slots=True)
class Event:
    """One record of a log.

    `number` counts from 0, the Spec ID record included. `pcr` may be above 23 (the
    TXT mapping record says 255). `digests` are what the TPM was asked to extend.
    `untrusted_type` and `untrusted_data` are covered by no replay: data is only
    evidence when a digest was recomputed from it.
    """

    number: int
    pcr: int
    untrusted_type: int
    digests: Mapping[HashAlgorithm, Digest]
    untrusted_data: bytes = b""

    def __post_init__(self) -> None:
        for algorithm, digest in self.digests.items():
            if digest.algorithm is not algorithm:
                raise ValueError(f"event {self.number}: {digest} under {algorithm}")

    @property
    def type_hex(self) -> str:
        """The type as the command line prints it: "0x402"."""
        return f"{self.untrusted_type:#x}"

    @property
    def name(self) -> str:
        """The type's name, without a promise: "HASH_START", or "0x999"."""
        return _NAMES.get(self.untrusted_type, self.type_hex)

    @property
    def caps_banks(self) -> bool:
        """Whether SINIT closed banks with it: those it is in, and no other.

        Source: Intel TXT Software Development Guide appendix G (CAP_VALUE).
        """
        return self.untrusted_type == TXT_CAP_VALUE and all(
            digest.is_one for digest in self.digests.values()
        )

    @property
    def is_extended(self) -> bool:
        """Whether a TPM was asked to extend it (no EV_NO_ACTION, no PCR above 23)."""
        return self.untrusted_type not in _NEVER_EXTENDED and self.pcr < PCR_COUNT


@dataclass(frozen=True, slots=True)
class EventLog:
    """A parsed log, not yet held against any TPM.

    `format` is the word the JSON uses: "tcg-agile", "tcg-sha1", "tpm2-per-bank",
    "txt-container", "txt-heap" or "tboot-text".
    `algorithms` are the banks that the log names, in its order.
    """

    format: str
    algorithms: tuple[HashAlgorithm, ...]
    events: tuple[Event, ...] = field(repr=False)
    startup_locality: int = 0
    """What PCR 0 started from (StartupLocality): its last byte, 0, 3 or 4."""
    unknown_algorithms: tuple[int, ...] = ()
    """TCG identifiers of banks the log names too, whose digests were passed over."""
    rebuilt: bool = False
    """Whether events of it were made from tables that the launch left, not logged."""

    def __post_init__(self) -> None:
        if [event.number for event in self.events] != list(range(len(self.events))):
            raise ValueError("events are numbered from 0, without gaps")
