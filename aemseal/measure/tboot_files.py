# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that tboot measures: its own image, then modules with their command lines.

tboot measures every module that GRUB loaded but SINIT modules and its LCP policy
data. Into which PCR each of them goes is the policy's: tboot_places.py.
Source: tboot policy.c (hash_module), loader.c (remove_txt_modules, find_lcp_module).
"""

from __future__ import annotations

from collections.abc import Sequence

from aemseal.formats.acm import (
    LCP_POLICY_DATA,
    LCP_POLICY_DATA_V1,
    LCP_SIGNATURE,
    LCP_UUID,
    SINIT_ACM,
)
from aemseal.measure.boot_entry import BootEntry, BootModule, Role
from aemseal.measure.launch import Facts, MeasuredFile, file_source
from aemseal.words.digest import Digest, Digests, HashAlgorithm
from aemseal.words.wanted import (
    NOTE_TBOOT_SKIPS,
    NOTE_TBOOT_VERSION,
    NOTE_XEN_VERSION,
    FileFacts,
)

MODULE_ROLES = (Role.XEN, Role.KERNEL, Role.INITRAMFS)
"""Of the first modules, by their place; any later one is a MODULE."""

POLICY_DATA = frozenset({LCP_POLICY_DATA, LCP_POLICY_DATA_V1})
"""What NOTE_TBOOT_SKIPS says of LCP policy data."""

_POLICY_DATA_MARKS = (
    (LCP_POLICY_DATA_V1, LCP_UUID),
    (LCP_POLICY_DATA, LCP_SIGNATURE),
)
"""In tboot's order of looking, with the bytes it compares."""


def module_role(number: int) -> Role:
    """Return the role of the measured module with this number, from 0.

    Positions, as Xen takes them: itself, dom0's kernel, its initramfs, any other.
    """
    return MODULE_ROLES[number] if number < len(MODULE_ROLES) else Role.MODULE


def module_hash(cmdline: bytes, image: Digest) -> Digest:
    """Return what tboot >= 1.9.4 extends for a module: H(H(cmdline) || H(image)).

    `cmdline` is all that GRUB hands over, without NUL. Source: policy.c hash_module.
    """
    return image.algorithm.hash(cmdline).extended(image)


def module_hashes(cmdline: bytes, image: Digests) -> dict[HashAlgorithm, Digest]:
    """Return `module_hash` in every bank that the image's digest is given for."""
    return {
        algorithm: module_hash(cmdline, digest) for algorithm, digest in image.items()
    }


def measured_files(
    entry: BootEntry, facts: Facts, algorithm: HashAlgorithm
) -> tuple[MeasuredFile, ...]:
    """Return what a boot entry makes tboot measure: the MLE, then each module.

    A file without facts has no digest here; it is taken for one that tboot measures.
    """
    kernel = facts.get(entry.mle_wanted)
    mle = MeasuredFile(
        Role.MLE,
        kernel.digests.get(algorithm) if kernel else None,
        file_source(entry.kernel, entry.mle_wanted, kernel, NOTE_TBOOT_VERSION),
    )
    return mle, *(
        _measured_module(module_role(number), module, facts, algorithm)
        for number, module in enumerate(_left_by_tboot(entry.modules, facts))
    )


def _measured_module(
    role: Role, module: BootModule, facts: Facts, algorithm: HashAlgorithm
) -> MeasuredFile:
    known = facts.get(module.wanted)
    digests = module_hashes(module.cmdline, known.digests if known else {})
    source = file_source(module, module.wanted, known, NOTE_XEN_VERSION)
    return MeasuredFile(role, digests.get(algorithm), source)


def _left_by_tboot(modules: Sequence[BootModule], facts: Facts) -> list[BootModule]:
    """Return what is measured: without SINIT modules and one LCP policy data file.

    The first module always is. Source: loader.c, remove_txt_modules.
    """
    left = _without_sinit(modules, facts)
    found = _find_policy_data([facts.get(module.wanted) for module in left])
    if found is not None:
        del left[found]
    return left


def policy_data(modules: Sequence[BootModule], facts: Facts) -> FileFacts | None:
    """Return the file that tboot takes for its LCP policy data, None where none is.

    SINIT is told where it lies, and tboot looks into it for its own policy; neither
    it nor its bytes are a module any more.
    """
    left = [facts.get(module.wanted) for module in _without_sinit(modules, facts)]
    found = _find_policy_data(left)
    return None if found is None else left[found]


def _without_sinit(modules: Sequence[BootModule], facts: Facts) -> list[BootModule]:
    return [
        module
        for number, module in enumerate(modules)
        if number == 0 or not _looks_like(SINIT_ACM, facts.get(module.wanted))
    ]


def _find_policy_data(modules: Sequence[FileFacts | None]) -> int | None:
    """Return the number of the module that tboot takes for its LCP policy data.

    It looks from the last module to the second, for data of version 0 and 1 first,
    and gives up at a module that is shorter than the mark it looks for. Source:
    loader.c, find_lcp_module and find_module.
    """
    for kind, mark in _POLICY_DATA_MARKS:
        for number in range(len(modules) - 1, 0, -1):
            module = modules[number]
            if module is not None and module.size < len(mark):
                break
            if _looks_like(kind, module):
                return number
    return None


def _looks_like(kind: str, facts: FileFacts | None) -> bool:
    return facts is not None and facts.notes.get(NOTE_TBOOT_SKIPS) == kind
