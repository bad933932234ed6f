# SPDX-License-Identifier: GPL-2.0-or-later
"""What a measurement that differs is of: which entry, which file, which command line.

Files and command lines that are known (of the boot menu as it is now, of the accepted
boot) are put in the place of what was accepted, one at a time, by the launcher's own
rule. What gives the measured digest is what was measured. Where it is a file, only its
bytes are: that a file lies in /boot now does not say who put it there, or when.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import GrubEntry, GrubLoad
from aemseal.formats.slaunch_mle import VIEWS
from aemseal.measure.boot_entry import BootEntry, Launcher, Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.measure.launch import Facts, Launch
from aemseal.measure.tboot import TbootLaunch
from aemseal.words.digest import Digest
from aemseal.words.errors import GrubError
from aemseal.words.wanted import (
    NOTE_TBOOT_VERSION,
    NOTE_XEN_VERSION,
    FileFacts,
    View,
    Wanted,
)

FILE_NAMES = {
    Role.MLE: "tboot",
    Role.SKL: "skl",
    Role.XEN: "xen",
    Role.KERNEL: "vmlinuz",
    Role.INITRAMFS: "initr",
    Role.MODULE: "",
}
"""How the files of a role begin their names: other versions lie beside the accepted one
(xen-4.17.5.gz, vmlinuz-6.6.54-1.qubes.fc37.x86_64, initramfs-..., Debian's initrd.img).
A module may have any name, so none is looked for."""

_BY_ITSELF = frozenset({View.MLE, View.SKL, *VIEWS.values()})
"""Views of what is launched. Only a file that may be launched is looked at in one."""

MOST_WORDS = 32
"""Command lines that are tried: more entries than that have few of their own."""

_ACCEPTED = "the accepted command line"
_ACCEPTED_BYTES = "the accepted bytes"


@dataclass(frozen=True, slots=True)
class Words:
    """A command line that is known, and whose it is, as a sentence names it."""

    cmdline: bytes
    whose: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """A known state; `entry` is the menu entry that the whole boot is, if it is one."""

    name: str
    entry: str | None = None


def can_be_recognised(expected: Measurement | None) -> bool:
    """Whether files or command lines make such a measurement by themselves."""
    if expected is None:
        return False
    if expected.role is Role.CMDLINE:
        return True
    source = expected.source
    return (
        expected.role in FILE_NAMES
        and source.kind is SourceKind.FILE
        and source.path is not None
        and source.view is not None
        and source.view is not View.SLAUNCH_ENTRY
    )


def words_of(
    expected: Measurement,
    entries: Iterable[BootEntry],
    menu: Iterable[GrubEntry] = (),
) -> tuple[Words, ...]:
    """Return every command line that may go with the role, the accepted one first.

    They are those of the role's files, in the measured `entries` and, by the files'
    names, in the whole `menu`: each once, MOST_WORDS at most.
    """
    found = {expected.source.cmdline or b"": _ACCEPTED}
    for entry in entries:
        for cmdline in _cmdlines(expected.role, entry):
            found.setdefault(cmdline, _of_entry(entry.title))
    start = FILE_NAMES.get(expected.role)
    for item in menu:
        for load in loads_of(item):
            if start and load.path.rpartition("/")[2].startswith(start):
                words = [
                    each.encode("utf-8", "surrogateescape") for each in load.arguments
                ]
                found.setdefault(join(words), _of_entry(item.path))
    return tuple(Words(*each) for each in found.items())[:MOST_WORDS]


def loads_of(entry: GrubEntry) -> tuple[GrubLoad, ...]:
    """Return what a menu entry loads; nothing where that cannot be known."""
    try:
        return entry.loads
    except GrubError:
        return ()


def _of_entry(title: str) -> str:
    return f"the command line of the entry {title!r}"


def _cmdlines(role: Role, entry: BootEntry) -> Iterator[bytes]:
    files = (entry.kernel, *entry.modules)
    if role is Role.CMDLINE and entry.named_cmdline is not None:
        yield entry.named_cmdline
    yield from (each.cmdline for each in files if role in (each.role, Role.CMDLINE))


def may_be(expected: Measurement, path: str) -> bool:
    """Whether a file may be in the role, by its name.

    Any file may be loaded as a module; what is launched is tboot, Xen or a loader.
    """
    is_launched = expected.source.view in _BY_ITSELF
    return not is_launched or has_name_of(expected, path)


def has_name_of(expected: Measurement, path: str) -> bool:
    """Whether a file's name begins as those of the role do; no module's does."""
    start = FILE_NAMES.get(expected.role)
    return bool(start) and path.rpartition("/")[2].startswith(start or "")


def views_of(
    launch: Launch, expected: Measurement, path: str, words: Sequence[Words]
) -> tuple[Wanted, ...]:
    """Return what has to be known of a file that may be in this role.

    tboot's own command line is hashed inside it, so that each is a view of its own; a
    module is taken as GRUB hands it over, unpacked or not.
    """
    view = expected.source.view
    assert view is not None
    if view is View.MLE:
        return tuple(Wanted(path, view, each.cmdline) for each in words)
    if expected.role in launch.module_roles:
        return tuple(Wanted(path, each) for each in (View.GRUB, View.RAW))
    return (Wanted(path, view),)


def is_launched_by(launch: Launch, entry: BootEntry) -> bool:
    """Whether the launcher that made a log is the one of a menu entry."""
    launcher = Launcher.TBOOT if isinstance(launch, TbootLaunch) else Launcher.SLAUNCH
    return entry.launcher is launcher


def recognise_entry(
    launches: Sequence[Launch], entries: Sequence[BootEntry], facts: Facts
) -> Recognised | None:
    """Return the entry whose files, as they are now, give the whole boot.

    None where no entry does, or where command lines that nothing measures by itself
    keep several apart: TrenchBoot by multiboot.
    """
    for launch in launches:
        if not _tells_cmdlines(launch):
            continue
        logged = [extend.digest for extend in launch.of_files]
        titles = [
            entry.title
            for entry in entries
            if [each.digest for each in launch.files(entry, facts)] == logged
        ]
        if titles:
            return Recognised(f"the entry {titles[0]!r}", titles[0])
    return None


def recognise_words(
    launches: Sequence[Launch],
    expected: Measurement,
    measured: Digest,
    words: Iterable[Words],
) -> Recognised | None:
    """Find the command line that was measured with the accepted file, or by itself.

    None for a launch that measures none by itself, and for tboot's own: see
    `recognise_file`.
    """
    is_tboots_own = expected.source.view is View.MLE
    for launch in launches:
        if is_tboots_own or not _hashes_cmdline(launch, expected.role):
            continue
        for each in words:
            source = replace(expected.source, cmdline=each.cmdline)
            if _digest(launch, expected.role, source) == measured:
                is_alone = expected.role is Role.CMDLINE
                return Recognised(
                    each.whose if is_alone else f"{_ACCEPTED_BYTES}, but {each.whose}"
                )
    return None


def recognise_file(
    launches: Sequence[Launch],
    expected: Measurement,
    measured: Digest,
    words: Sequence[Words],
    files: Sequence[FileFacts],
) -> Recognised | None:
    """Find the file, and the command line with it, that gives what was measured.

    `files` are in the order in which they are named, where several have the same bytes.
    The accepted command line is tried first with each of them. With that one, other
    bytes at the accepted path are no other file: the accepted one was changed.
    """
    for launch in launches:
        hashes_cmdline = _hashes_cmdline(launch, expected.role)
        for each in words if hashes_cmdline else words[:1]:
            for facts in files:
                if facts.wanted.view is View.MLE and (
                    facts.wanted.cmdline != each.cmdline
                ):
                    continue
                source = Source(
                    SourceKind.FILE,
                    path=facts.wanted.path,
                    cmdline=each.cmdline,
                    file_digests=facts.digests,
                    view=facts.wanted.view,
                )
                if _digest(launch, expected.role, source) != measured:
                    continue
                which = _file_name(expected, facts, files)
                if each is not words[0]:
                    joined = ", but" if which == _ACCEPTED_BYTES else " and"
                    return Recognised(f"{which}{joined} {each.whose}")
                if facts.wanted.path != expected.source.path:
                    return Recognised(which)
    return None


def _digest(launch: Launch, role: Role, source: Source) -> Digest | None:
    try:
        return launch.digest_of(role, source)
    except KeyError:
        return None


def _hashes_cmdline(launch: Launch, role: Role) -> bool:
    """Whether a digest of the role tells a command line: those of tboot's do."""
    return role is Role.CMDLINE or isinstance(launch, TbootLaunch)


def _tells_cmdlines(launch: Launch) -> bool:
    """Whether every command line is in a measurement that an entry's files give."""
    return isinstance(launch, TbootLaunch) or any(
        each.role is Role.CMDLINE for each in launch.of_files
    )


def _file_name(
    expected: Measurement, facts: FileFacts, files: Iterable[FileFacts]
) -> str:
    """Name a file by its path and its own version string, and no more of it."""
    same = (facts.wanted.path, facts.wanted.view)
    # tboot's digests are of its command line as well: the accepted one tells the bytes
    views = [each for each in files if (each.wanted.path, each.wanted.view) == same]
    if any(_has_bytes_of(expected, each) for each in views):
        return _ACCEPTED_BYTES
    if facts.wanted.path == expected.source.path:
        return "changed bytes"
    notes = (NOTE_XEN_VERSION, NOTE_TBOOT_VERSION)
    version = next((facts.notes[each] for each in notes if each in facts.notes), None)
    told = f" ({version})" if version else ""
    return f"the bytes of {facts.wanted.path}{told}"


def _has_bytes_of(expected: Measurement, facts: FileFacts) -> bool:
    accepted = expected.source.file_digests
    shared = set(accepted) & set(facts.digests)
    return bool(shared) and all(accepted[it] == facts.digests[it] for it in shared)
