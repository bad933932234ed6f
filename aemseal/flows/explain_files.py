# SPDX-License-Identifier: GPL-2.0-or-later
"""What `explain` tells of a changed initramfs: the files inside that differ."""

from __future__ import annotations

from dataclasses import replace

from aemseal.flows.initramfs import ImageLists, image_wanted
from aemseal.flows.state import VaultState
from aemseal.flows.status import read_running
from aemseal.formats.file_list import FileList
from aemseal.measure.boot_entry import Role
from aemseal.measure.explain import Explanation
from aemseal.measure.file_changes import FileChanges
from aemseal.measure.stack import identify
from aemseal.words.errors import AemsealError
from aemseal.world.host import Host


def explain_files(
    host: Host, state: VaultState, explanation: Explanation
) -> FileChanges | None:
    """Say which files differ between the expected initramfs and the one that booted.

    That one is looked for in /boot, and taken only where it gives what was measured.
    None where the first measurement that differs is not an initramfs's.
    """
    expected, measured = explanation.expected, explanation.measured
    if explanation.role is not Role.INITRAMFS or expected is None or measured is None:
        return None
    if not expected.source.path or not expected.source.file_digests:
        return None
    try:
        image = host.list_initramfs(image_wanted(expected.source))
        if image.is_of(expected.source.file_digests):
            return FileChanges(note=_ACCEPTED_IS_BACK.format(expected.source.path))
        if not _gives(host, state, explanation, image):
            return FileChanges(note=_ANOTHER.format(expected.source.path))
    except AemsealError as error:
        return FileChanges(note=error.message)
    lists = ImageLists.kept(host)
    lists.lists.append(image)
    after = replace(expected.source, file_digests=image.digests)
    return lists.between(expected.source, after)


def _gives(
    host: Host, state: VaultState, explanation: Explanation, image: FileList
) -> bool:
    """Whether this image, with the command line as it was, gives what was measured."""
    assert explanation.expected is not None
    source = replace(explanation.expected.source, file_digests=image.digests)
    launches = identify(read_running(host, state).verified)
    return any(
        each.digest_of(Role.INITRAMFS, source) == explanation.measured
        for each in launches
    )


_ACCEPTED_IS_BACK = (
    "the image at {} is the expected one now: it was put back after this boot"
)
_ANOTHER = "the image at {} is not the one that booted, or had another command line"
