# SPDX-License-Identifier: GPL-2.0-or-later
"""What `explain` recognises in a boot that is no known one.

It is held against the boot menu as it is now: every entry, every command line, and
every file that an entry loads or that has its name from the role in question. Each path
is read once, MOST_FILES of them besides the measured entries' own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from aemseal.flows.boot_menu import look_where_possible, measured_entries, read_menu
from aemseal.flows.running_system import read_policies
from aemseal.formats.grub_config import GrubEntry
from aemseal.measure.boot_entry import BootEntry, wanted
from aemseal.measure.claims import Measurement
from aemseal.measure.explain import Explanation, Verdict, recognised
from aemseal.measure.known_files import (
    Recognised,
    Words,
    can_be_recognised,
    has_name_of,
    is_launched_by,
    loads_of,
    may_be,
    recognise_entry,
    recognise_file,
    recognise_words,
    views_of,
    words_of,
)
from aemseal.measure.launch import Launch, RunningSystem
from aemseal.measure.replay import VerifiedLog
from aemseal.measure.stack import identify
from aemseal.words.digest import Digest
from aemseal.words.errors import AemsealError
from aemseal.words.wanted import FileFacts, View, Wanted
from aemseal.world.host import Host

MOST_FILES = 48
"""Files that are looked at besides the measured entries' own, the likeliest first."""

_BOOT = "/boot/"


def recognise(
    host: Host,
    verified: VerifiedLog,
    explanation: Explanation,
    accepted_titles: Sequence[str] = (),
) -> Explanation:
    """Name the known state that a changed boot, or its first difference, is of.

    `accepted_titles` are the entries of the accepted boots: they are no other entry,
    whatever they boot now. The explanation is unchanged where nothing is recognised, or
    what was asked of the machine was refused.
    """
    expected, measured = explanation.expected, explanation.measured
    if explanation.verdict is not Verdict.CHANGED or explanation.known_as is not None:
        return explanation
    if expected is None or measured is None or not can_be_recognised(expected):
        return explanation
    try:
        look = _Look.at(host, verified, expected)
        found = look.find(measured, accepted_titles)
    except AemsealError:
        return explanation
    return explanation if found is None else recognised(explanation, found)


@dataclass(frozen=True)
class _Look:
    """The boot menu and its files, looked at for one measurement.

    `entries` are those of the launcher that made the log.
    """

    launches: tuple[Launch, ...]
    expected: Measurement
    entries: list[BootEntry]
    words: tuple[Words, ...]
    facts: dict[Wanted, FileFacts]
    views: tuple[Wanted, ...]

    @classmethod
    def at(cls, host: Host, verified: VerifiedLog, expected: Measurement) -> _Look:
        """Read every path once, for all that is wanted of it."""
        policies = read_policies(host, verified)
        launches = identify(verified, RunningSystem(policies=policies))
        menu = read_menu(host)
        every_entry = measured_entries(host, menu, None)
        words = words_of(expected, every_entry, menu.entries)
        views = tuple(
            each
            for path in _paths(host, expected, every_entry, menu.entries)
            for each in views_of(launches[0], expected, path, words)
        )
        # another launcher's files may be none for this one's views, as a plain Xen
        entries = [each for each in every_entry if is_launched_by(launches[0], each)]
        of_entries = [each for entry in entries for each in wanted(entry)]
        asked = [each for each in of_entries if each.view is not View.LUKS]
        asked = list(dict.fromkeys([*asked, *views]))
        facts = look_where_possible(host, asked, (verified.algorithm,))
        return cls(launches, expected, entries, words, facts, views)

    def find(
        self, measured: Digest, accepted_titles: Sequence[str]
    ) -> Recognised | None:
        """Try other entries, then command lines, then other files."""
        entry = recognise_entry(self.launches, self.entries, self.facts)
        other = None if entry and entry.entry in accepted_titles else entry
        files = [self.facts[each] for each in self.views if each in self.facts]
        asked = (self.launches, self.expected, measured, self.words)
        return other or recognise_words(*asked) or recognise_file(*asked, files)


def _paths(
    host: Host,
    expected: Measurement,
    entries: Sequence[BootEntry],
    menu: Sequence[GrubEntry],
) -> list[str]:
    """Return the files in /boot that may be in the role, the likeliest first.

    What an entry loads, measured or not, then what lies beside the accepted file.
    """
    accepted = expected.source.path
    if accepted is None or not expected.source.file_digests:
        return []
    loaded = [each.path for entry in entries for each in (entry.kernel, *entry.modules)]
    loaded += [path for entry in entries for path in entry.slaunch_modules]
    loaded += [
        host.resolve(load.path)
        for item in menu
        for load in loads_of(item)
        if load.path.startswith("/")
    ]
    folder = posixpath.dirname(accepted)
    beside = [f"{folder}/{name}" for name in _names(host, folder)]
    beside = [path for path in beside if has_name_of(expected, path)]
    likely = sorted(loaded, key=lambda path: not has_name_of(expected, path))
    found = dict.fromkeys([accepted, *likely, *beside])
    in_boot = [path for path in found if path.startswith(_BOOT)]
    fit = [path for path in in_boot if path == accepted or may_be(expected, path)]
    return fit[:MOST_FILES]


def _names(host: Host, folder: str) -> list[str]:
    try:
        names = host.names(folder)
    except AemsealError:
        return []
    return [each for each in names if each.isprintable() and "/" not in each]
