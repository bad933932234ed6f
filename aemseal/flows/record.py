# SPDX-License-Identifier: GPL-2.0-or-later
"""Record what the tool reads of a machine, for a bug report or a test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aemseal.words.digest import HashAlgorithm
from aemseal.words.errors import AemsealError
from aemseal.world.host import SAVED_FILES, Host
from aemseal.world.recording import RecordingHost, require_empty


def record(host: Host, directory: Path, touch: Callable[[Host], None]) -> list[str]:
    """Ask the host everything, let `touch` read what it will, and save the answers.

    `touch` looks at the boot files and follows what grub.cfg sources. The errors that
    the host answers with are recorded, and a `touch` that ends with one leaves a
    warning; neither is raised. Returns the names of the files written; what the
    person should know before passing them on is `RecordedHost(directory).warnings`.

    UsageError when the folder is not empty, before anything is read.
    """
    require_empty(directory)
    recording = RecordingHost(host)
    for read in _plain_reads(recording):
        with suppress(AemsealError):
            read()
    try:
        touch(recording)
    except AemsealError as error:
        recording.remark(f"the survey stopped: {error.message}")
    return recording.save(directory)


def _plain_reads(host: Host) -> list[Callable[[], object]]:
    """Return the questions that need no answer to another one."""

    def bank(algorithm: HashAlgorithm) -> Callable[[], object]:
        return lambda: host.pcrs(algorithm)

    def state(name: str) -> Callable[[], object]:
        return lambda: host.saved(name)

    return [
        host.event_log,
        *map(bank, HashAlgorithm),
        host.grub_config,
        host.grub_env,
        host.is_efi,
        host.hook_record,
        *map(state, SAVED_FILES),
    ]
