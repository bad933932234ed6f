# SPDX-License-Identifier: GPL-2.0-or-later
"""The files inside the initramfs of each known boot: kept, to tell what changed.

/var/lib/aemseal/initramfs.json (formats/file_list.py), file names and digests alone. An
update overwrites the old image, so its list is made while it is there. Lists help a
person to judge a change. They are never evidence: where one is missing or cannot be
made, that is said, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aemseal.flows.state import VaultState
from aemseal.formats.file_list import FileList, dump_lists, load_lists
from aemseal.measure.boot_entry import Role
from aemseal.measure.claims import Measurement, Source
from aemseal.measure.file_changes import FileChanges, compare_files
from aemseal.measure.plan import Change, Plan
from aemseal.words.digest import Digests
from aemseal.words.errors import AemsealError, BootFileError
from aemseal.words.wanted import View, Wanted
from aemseal.world.host import Host
from aemseal.world.store import STATE_FOLDER, Files

LISTS_NAME = "initramfs.json"
LISTS_FILE = f"{STATE_FOLDER}/{LISTS_NAME}"
LISTS_LIMIT = 3 << 20
"""Bytes that are kept: some 20,000 files, those of several images counted once."""

_NOT_KEPT = "which files changed is not known: no list of those before was kept"


@dataclass
class ImageLists:
    """The lists that are known: those that were kept, and of images looked at since."""

    host: Host
    lists: list[FileList] = field(default_factory=list)
    _looked_at: dict[Wanted, FileList] = field(default_factory=dict)

    @classmethod
    def kept(cls, host: Host) -> ImageLists:
        """Take the lists that were kept; none where they are damaged or missing."""
        found = cls(host)
        with suppress(AemsealError):
            data = host.saved(LISTS_NAME)
            if data is not None:
                found.lists += load_lists(LISTS_FILE, data)
        return found

    def find(self, digests: Digests) -> FileList | None:
        """Return the list of the image with these digests, None where none is known."""
        return next((each for each in self.lists if each.is_of(digests)), None)

    def look(self, source: Source) -> FileList:
        """Return the list of the image that a measurement is of.

        BootFileError when it is not where it was, or cannot be listed.
        """
        found = self.find(source.file_digests)
        if found is not None:
            return found
        wanted = image_wanted(source)
        if wanted not in self._looked_at:
            self._looked_at[wanted] = self.host.list_initramfs(wanted)
            self.lists.append(self._looked_at[wanted])
        image = self._looked_at[wanted]
        if not image.is_of(source.file_digests):
            raise BootFileError(f"{source.path} is another image by now")
        return image

    def look_if_possible(self, sources: Iterable[Source]) -> list[FileList]:
        """Return the lists of those images that can be listed, each once."""
        found: list[FileList] = []
        for source in sources:
            with suppress(AemsealError):
                image = self.look(source)
                if image not in found:
                    found.append(image)
        return found

    def told(self, plan: Plan) -> Plan:
        """Add to a plan which files inside a changed initramfs differ."""
        changes = (replace(each, files=self._files(each)) for each in plan.changes)
        return Plan(tuple(changes))

    def _files(self, change: Change) -> FileChanges | None:
        if change.role is not Role.INITRAMFS or not change.before or not change.after:
            return None
        return self.between(change.before.source, change.after.source)

    def between(self, before: Source, after: Source) -> FileChanges | None:
        """Say which files differ between two images, None where they are the same."""
        if not before.file_digests or not after.file_digests:
            return None
        if before.file_digests == after.file_digests:
            return None
        try:
            new = self.look(after)
        except AemsealError as error:
            return FileChanges(note=error.message)
        # an older kernel's image may still lie beside the new one
        for old in self.look_if_possible([before]):
            return compare_files(old, new)
        return FileChanges(note=_NOT_KEPT)

    def keep(self, files: Files, state: VaultState) -> str | None:
        """Keep the lists of the boots that the vault knows, and no others.

        Returns what to tell the person where that failed: no move fails for it.
        """
        lists = self.look_if_possible(_initramfs_sources(state))
        data = dump_lists(lists)
        while len(data) > LISTS_LIMIT:
            lists.pop()
            data = dump_lists(lists)
        try:
            kept = files.read(LISTS_FILE)
            if data != kept and (lists or kept is not None):
                files.write(LISTS_FILE, data)
        except AemsealError as error:
            return f"the list of the initramfs's files was not kept: {error.message}"
        return None


def image_wanted(source: Source) -> Wanted:
    """Return the image that a measurement is of, in the view that was measured."""
    return Wanted(source.path or "/", source.view or View.GRUB)


def initramfs_sources(measurements: Iterable[Measurement]) -> list[Source]:
    """Return where a boot's initramfs images come from."""
    return [
        each.source
        for each in measurements
        if each.role is Role.INITRAMFS and each.source.path and each.source.file_digests
    ]


def _initramfs_sources(state: VaultState) -> list[Source]:
    """Return those of every boot that may run or be compared with, best first."""
    boots = [each.boot for each in (*state.accepted, *state.staged)]
    measured = [each for boot in (*boots, state.baseline) for each in boot.measurements]
    return initramfs_sources(measured)
