# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's boot menu: its entries as measured boots, and their files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from aemseal.flows.evidence import read_log
from aemseal.formats.grub_config import GrubEntry, GrubMenu, evaluate
from aemseal.measure.baseline import Baseline
from aemseal.measure.boot_entry import BootEntry, Role, wanted
from aemseal.measure.entry_reader import boot_entry_from
from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import AemsealError, BootFileError, GrubError
from aemseal.words.wanted import FileFacts, Wanted
from aemseal.world.host import Host


def read_menu(host: Host) -> GrubMenu:
    """Evaluate the host's grub.cfg, as the GRUB of this machine's firmware would.

    A GrubError's hint says which file that is.
    """
    where, config = host.grub_config()
    known = {
        "prefix": posixpath.dirname(where),
        "grub_platform": "efi" if host.is_efi() else "pc",
        "grub_cpu": "x86_64" if host.is_efi() else "i386",
    }
    try:
        return evaluate(config, host.grub_env(), _GrubFiles(host), known)
    except GrubError as error:
        hint = f"it is {where}: repair it, or write it anew with grub-mkconfig"
        raise GrubError(error.message, error.hint or hint) from None


def measured_entries(
    host: Host, menu: GrubMenu, baseline: Baseline | None
) -> list[BootEntry]:
    """Return the measured entries, the one that most likely booted first."""
    entries = []
    for found in menu.measured_entries():
        try:
            entries.append(boot_entry(host, found))
        except AemsealError:
            continue
    title = baseline.title if baseline else None
    return sorted(entries, key=lambda entry: entry.title != title)


def boot_entry(host: Host, found: GrubEntry) -> BootEntry:
    """Read a menu entry as a measured boot; GrubError as boot_entry_from raises it."""

    def read(grub_path: str) -> bytes | None:
        return host.small_file(host.resolve(grub_path))

    return boot_entry_from(found, host.resolve, read)


def look_where_possible(
    host: Host, asked: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
) -> dict[Wanted, FileFacts]:
    """Look at files of an entry that may have booted: a file that is gone is absent."""
    by_path: dict[str, list[Wanted]] = {}
    for each in asked:
        by_path.setdefault(each.path, []).append(each)
    banks = tuple(algorithms)
    facts: dict[Wanted, FileFacts] = {}
    for views in by_path.values():
        try:
            facts.update(host.look(views, banks))
        except BootFileError:
            continue
    return facts


def touch_everything(host: Host) -> None:
    """Read all that any verb would, for a recording: every measured entry's files.

    In every bank of the log; a log that cannot be read keeps no file out.
    """
    try:
        banks = read_log(host)[1].algorithms
    except AemsealError:
        banks = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
    menu = read_menu(host)
    for entry in measured_entries(host, menu, None):
        look_where_possible(host, wanted(entry), banks)
        initramfs = entry.of_role(Role.INITRAMFS)
        if initramfs is not None:
            with suppress(AemsealError):
                host.list_initramfs(initramfs.wanted)
    menu.next_entry()


@dataclass(frozen=True)
class _GrubFiles:
    """The files GRUB sees, as the evaluator asks for them."""

    host: Host

    def exists(self, path: str) -> bool:
        return self.host.grub_exists(path)

    def read(self, path: str) -> bytes | None:
        return self.host.grub_read(path)
