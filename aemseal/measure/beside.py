# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a boot entry that decide what is measured without being measured whole.

- Every SINIT module, launched or not: which one is launched follows from all of them,
  and another one of them may be launched next time (sinit_choice.py).
- Of tboot also the LCP policy data: SINIT measures what its launch control policy
  finds in it, and tboot may find its own policy there.
- Of TrenchBoot also the files whose length decides where GRUB puts things: Xen and
  every file of slaunch_module, each loaded into memory of its own.

What was known of them when a boot was staged or verified is kept with it: facts taken
later may be of files that were replaced since.
"""

from __future__ import annotations

from collections.abc import Iterable

from aemseal.formats.acm import SINIT_ACM
from aemseal.measure.boot_entry import BootEntry, Launcher
from aemseal.measure.claims import Source, SourceKind
from aemseal.measure.launch import Facts
from aemseal.measure.tboot_files import POLICY_DATA, policy_data
from aemseal.words.errors import BootFileError
from aemseal.words.wanted import (
    NOTE_SINIT_DATE,
    NOTE_TBOOT_SKIPS,
    FileFacts,
    View,
    Wanted,
)


def files_beside(entry: BootEntry, facts: Facts) -> tuple[Source, ...]:
    """Return what is to be kept of an entry's files: SINIT modules come last.

    BootFileError for a file without facts, and for a SINIT module that GRUB hands to
    tboot in a kernel's or an initramfs's place with --nounzip: it is not read as one.
    """
    _refuse_hidden(entry, facts)
    whole = [_known(wanted, facts) for wanted in entry.whole_wanted]
    if entry.launcher is Launcher.TBOOT:
        found = policy_data(entry.modules, facts)
        whole += [] if found is None else [found]
    sinit = (_known(wanted, facts) for wanted in entry.sinit_wanted)
    modules = [each for each in sinit if _is_sinit(each, entry, facts)]
    return (*map(_whole_source, whole), *map(sinit_source, modules))


def sinit_source(file: FileFacts) -> Source:
    """Return a SINIT module's facts as a source; its version is its date."""
    return Source(
        SourceKind.FILE,
        path=file.wanted.path,
        version=file.notes.get(NOTE_SINIT_DATE),
        file_digests=file.digests,
        view=file.wanted.view,
        size=file.size,
        notes=dict(file.notes),
    )


def sinit_facts(sources: Iterable[Source]) -> tuple[FileFacts, ...]:
    """Return the SINIT modules among what was kept, as facts again."""
    return tuple(
        FileFacts(Wanted(each.path, View.ACM), each.size, each.file_digests, each.notes)
        for each in sources
        if each.view is View.ACM and each.path is not None and each.size is not None
    )


def whole_files(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the whole files among what was kept: Xen, then slaunch_module's."""
    return tuple(each for each in sources if each.view is View.GRUB)


def kept_policy_data(sources: Iterable[Source]) -> Source | None:
    """Return the LCP policy data among what was kept of a boot by tboot."""
    found = (e for e in sources if e.notes.get(NOTE_TBOOT_SKIPS) in POLICY_DATA)
    return next(found, None)


def _known(wanted: Wanted, facts: Facts) -> FileFacts:
    known = facts.get(wanted)
    if known is None:
        raise BootFileError(f"{wanted.path} was not read ({wanted.view.value})")
    return known


def _whole_source(file: FileFacts) -> Source:
    return Source(
        SourceKind.FILE,
        path=file.wanted.path,
        file_digests=file.digests,
        view=file.wanted.view,
        size=file.size,
        notes={
            name: value
            for name, value in file.notes.items()
            if name == NOTE_TBOOT_SKIPS and value in POLICY_DATA
        },
    )


def _is_sinit(file: FileFacts, entry: BootEntry, facts: Facts) -> bool:
    """Whether the launcher finds a SINIT module there.

    One that is packed and loaded with --nounzip is none for tboot.
    """
    if NOTE_SINIT_DATE not in file.notes:
        return False
    packed = [
        module.wanted
        for module in entry.modules
        if module.path == file.wanted.path and entry.launcher is Launcher.TBOOT
    ]
    seen = [facts[each] for each in packed if each in facts]
    return not seen or any(
        each.notes.get(NOTE_TBOOT_SKIPS) == SINIT_ACM for each in seen
    )


def _refuse_hidden(entry: BootEntry, facts: Facts) -> None:
    if entry.launcher is not Launcher.TBOOT:
        return
    asked = {wanted.path for wanted in entry.sinit_wanted}
    for module in entry.modules[1:]:
        known = facts.get(module.wanted)
        skipped = known.notes.get(NOTE_TBOOT_SKIPS) if known else None
        if module.path not in asked and skipped == SINIT_ACM:
            raise BootFileError(
                f"{module.path} is a SINIT module, loaded with --nounzip as the "
                f"{module.role}: it is not known what tboot makes of it",
                "load it behind the initramfs, and without --nounzip",
            )
