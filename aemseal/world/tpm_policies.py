# SPDX-License-Identifier: GPL-2.0-or-later
"""The policies of the TPM's hierarchies: a second way to their authorisation.

Whoever had the TPM while an authorisation was empty may have set such a policy, and a
value set later does not take it away: with one of the lockout hierarchy they reset the
count of wrong PINs for ever. So it goes before our value comes.
"""

from __future__ import annotations

import struct

from aemseal.world.tpm import Hierarchy, Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import TSS2_Exception

_CC_SET_PRIMARY_POLICY = 0x012E
_HANDLES = {Hierarchy.OWNER: 0x40000001, Hierarchy.LOCKOUT: 0x4000000A}
_NO_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_NO_POLICY = struct.pack(">HH", 0, 0x0010)
_NO_SUCH_POLICY = (0x184, 0x185)
"""TPM_RC_VALUE and TPM_RC_HIERARCHY of the handle: the TPM gives it no policy."""


def clear_policy(tpm: Tpm, hierarchy: Hierarchy) -> None:
    """Take a hierarchy's policy away; its authorisation must be empty.

    TPM2_SetPrimaryPolicy (part 3 section 24.3) with TPM_ALG_NULL, marshalled here:
    tpm2-pytss lets the lockout hierarchy not through. TpmRefusedError when the
    authorisation is not empty.
    """
    area = struct.pack(">I", _HANDLES[hierarchy]) + _NO_PASSWORD + _NO_POLICY
    header = struct.pack(">HII", 0x8002, 10 + len(area), _CC_SET_PRIMARY_POLICY)
    line = tpm.esapi.get_tcti()

    def exchange() -> None:
        line.transmit(header + area)
        code = int.from_bytes(bytes(line.receive())[6:10], "big")
        if code and code not in _NO_SUCH_POLICY:
            raise TSS2_Exception(code)

    tpm.run("SetPrimaryPolicy", exchange)
