# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules tboot takes out of its list before it measures the rest.

Sources: tboot/common/loader.c (remove_txt_modules, find_lcp_module, find_module) of
tboot 1.10. An ACM is taken out for whatever
platform it is; of LCP policy data files the last of the oldest kind, unless a module
too short for the search stands behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tpm_sim.acm import is_sinit_acm
from tpm_sim.hashing import Image
from tpm_sim.unpacked import unpacked

_LARGEST = 1 << 20
"""No SINIT module, and no policy data, is larger on disk."""

_SOMETHING_LARGE = bytes(64)
"""Stands for content that is neither of the two, and not too short to be either."""

_LCP_UUID = struct.pack("<IHHH", 0xAB0D1925, 0xEEE7, 0x48EB, 0xA9FC) + bytes.fromhex(
    "0bac5a262d0e"
)
_LCP_SIGNATURE = b"Intel(R) TXT LCP_POLICY_DATA"


def measured_modules(modules: Sequence[Image]) -> list[int]:
    """Return the indexes of the modules that tboot measures, in order."""
    contents = [b"", *map(_content, modules[1:])]
    kept = [index for index, each in enumerate(contents) if not is_sinit_acm(each)]
    for mark in (_LCP_UUID, _LCP_SIGNATURE):
        for index in reversed(kept[1:]):
            if len(contents[index]) < len(mark):
                break
            if contents[index].startswith(mark):
                kept.remove(index)
                return kept
    return kept


def _content(module: Image) -> bytes:
    """Return a small module as it lies in memory; of a large one something else."""
    if module.path.stat().st_size > _LARGEST:
        return _SOMETHING_LARGE
    content = module.path.read_bytes()
    return unpacked(content) if module.decompress else content
