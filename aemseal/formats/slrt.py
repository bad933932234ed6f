# SPDX-License-Identifier: GPL-2.0-or-later
"""The Secure Launch Resource Table: what Xen hashes of it on AMD.

GRUB fills the table in, and Xen hashes the platform's entry alone, with addresses set
to zero. Of AMD's entry everything is then known beforehand; of Intel's it depends on
what the firmware left in the processor's registers.

Sources: TrenchBoot's GRUB v0.5, include/grub/slr_table.h (struct
grub_slr_entry_amd_info) and loader/slaunch/skl.c (grub_skl_prepare_bootloader_data);
Xen arch/x86/slaunch.c (slaunch_measure_slrt).
"""

from __future__ import annotations

import struct

_AMD_INFO = struct.Struct("<IIQIIQQQHHHH")
"""The fields, all little-endian, 56 bytes without gaps:

| offset | bytes | field            | holds                                          |
|--------|-------|------------------|------------------------------------------------|
| 0      | 4     | hdr.tag          | 5, AMD's information                           |
| 4      | 4     | hdr.size         | 56                                             |
| 8      | 8     | next             | 0: an address, not hashed                      |
| 16     | 4     | type             | 10, SETUP_SECURE_LAUNCH                        |
| 20     | 4     | len              | 56                                             |
| 24     | 8     | slrt_size        | what follows the loader in its 64 KiB          |
| 32     | 8     | slrt_base        | 0: an address, not hashed                      |
| 40     | 8     | boot_params_base | 0: an address, not hashed                      |
| 48     | 2     | psp_version      | 0 without a security processor that takes part |
| 50     | 6     | reserved         | 0                                              |
"""

_TAG_AMD = 5
_SETUP_SECURE_LAUNCH = 10


def amd_info(slrt_size: int, psp_version: int = 0) -> bytes:
    """Return AMD's entry of the table as Xen hashes it into PCR 18.

    `slrt_size` is SecureKernelLoader.slrt_size. `psp_version` is not 0 only where
    GRUB uses the security processor's own launch. ValueError when either does not fit.
    """
    if not 0 <= slrt_size < 1 << 64 or not 0 <= psp_version < 1 << 16:
        raise ValueError(f"an SLRT of {slrt_size} bytes, PSP version {psp_version}")
    size = _AMD_INFO.size
    header = (_TAG_AMD, size, 0, _SETUP_SECURE_LAUNCH, size)
    return _AMD_INFO.pack(*header, slrt_size, 0, 0, psp_version, 0, 0, 0)
