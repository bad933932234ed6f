# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers and figures of SINIT's events that several machines share.

Sources: Intel TXT Software Development Guide appendix G (types); [E5470] Dell Latitude
E5470, TPM 2.0, tboot 1.10.2, log posted to tboot-devel on 2021-08-26.
"""

from __future__ import annotations

BIOSAC_REG_DATA = 0x40A
CPU_SCRTM_STAT = 0x40B
LCP_CONTROL_HASH = 0x40C
STM_HASH = 0x40E
LCP_DETAILS_HASH = 0x412
LCP_AUTHORITIES_HASH = 0x413
NV_INFO_HASH = 0x414
KM_HASH = 0x416
BPM_HASH = 0x417
BOOT_POL_HASH = 0x41A
RANDOM_VALUE = 0x4FE
CAP_VALUE = 0x4FF
NO_PCR = 255

# TPM NV indexes of TXT: AUX and PS are defined, PO is not [E5470].
NV_INFO = bytes.fromhex(
    "0101800003000b620444080020ef9a26fc22d1ae8cecff59e9481ac1ec533dbe228bec6d17930f4c"
    "b2cc5b972400680101800001000b62042c040020b75ce1946f78df8baa426918db09318017e6b38d"
    "048c954e05c2c4f34bd44060004600"
)
