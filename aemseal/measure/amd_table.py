# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that Xen hashes on AMD: known from the secure kernel loader, but one field.

The loader's header says how much room it leaves for the table, and that is in it. The
security processor's version is in no file: it is found by trying, since it has 16 bits,
and is the same in the next boot of the same machine.
Source: formats/slrt.py (amd_info).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from aemseal.formats.slrt import amd_info
from aemseal.measure.claims import Calibrated, Measurement, Source, SourceKind
from aemseal.measure.launch import LoggedExtend, from_source
from aemseal.words.digest import Digest
from aemseal.words.wanted import NOTE_SKL_SLRT_SIZE

NOTE_PSP_VERSION = "psp_version"
"""In a table's source: the security processor's version, decimal."""


def table_source(loader: Source, digest: Digest) -> Source | None:
    """Return what a logged table is made from: the loader, and a version that fits.

    None when no version gives the digest with this loader.
    """
    size = _slrt_size(loader)
    version = None if size is None else _psp_version(size, digest)
    if version is None:
        return None
    return Source(
        SourceKind.FILE,
        path=loader.path,
        notes={**loader.notes, NOTE_PSP_VERSION: str(version)},
    )


def next_table(
    extend: LoggedExtend, explained: Sequence[Measurement], loader: Source
) -> Measurement | None:
    """Return the table of the next boot, which has this loader.

    `explained` are the running boot's explained tables. None when the logged one was
    not explained, or the next loader does not say how much room it leaves.
    """
    sources = [
        each.source for each in explained if NOTE_PSP_VERSION in each.source.notes
    ]
    size = _slrt_size(loader)
    if not sources or size is None:
        return None
    version = sources[0].notes[NOTE_PSP_VERSION]
    digest = extend.digest.algorithm.hash(amd_info(size, int(version)))
    notes = {**loader.notes, NOTE_PSP_VERSION: version}
    source = replace(sources[0], path=loader.path, notes=notes)
    return from_source(replace(extend, digest=digest), source, Calibrated.NOW)


def _slrt_size(loader: Source) -> int | None:
    size = loader.notes.get(NOTE_SKL_SLRT_SIZE, "")
    return int(size) if size.isdecimal() else None


@lru_cache(maxsize=16)
def _psp_version(slrt_size: int, digest: Digest) -> int | None:
    algorithm = digest.algorithm
    for version in range(1 << 16):
        if algorithm.hash(amd_info(slrt_size, version)) == digest:
            return version
    return None
