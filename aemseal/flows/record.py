# SPDX-License-Identifier: GPL-2.0-or-later
"""Record what the tool reads of a machine, for a bug report or a test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from aemseal.flows.explain_files import explain_files
from aemseal.flows.initramfs import image_wanted, initramfs_sources
from aemseal.flows.reseal import next_boot
from aemseal.flows.running_system import read_running_system
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.flows.status import explain_running
from aemseal.flows.survey import survey
from aemseal.measure.tboot_places import NV_INDEXES
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import AemsealError
from aemseal.world.host import SAVED_FILES, Host
from aemseal.world.recording import RecordingHost, require_empty

XEN_CONFIGS = ("/boot/efi/EFI/qubes/xen.cfg", "/boot/efi/EFI/xen/xen.cfg")
"""What xen.efi reads where it boots without GRUB; never over 64 KiB."""


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
    _ask_as_verbs_do(recording)
    return recording.save(directory)


def _plain_reads(host: Host) -> list[Callable[[], object]]:
    """Return the questions that need no answer to another one."""

    def bank(algorithm: HashAlgorithm) -> Callable[[], object]:
        return lambda: host.pcrs(algorithm)

    def state(name: str) -> Callable[[], object]:
        return lambda: host.saved(name)

    return [
        lambda: list(host.event_logs()),
        *map(bank, HashAlgorithm),
        host.grub_config,
        host.grub_env,
        host.is_efi,
        host.hook_record,
        *map(state, SAVED_FILES),
        *(partial(host.nv_read, index) for index in NV_INDEXES),
        host.tboot_policy,
        host.settled_pcrs,
        *(partial(host.small_file, path) for path in XEN_CONFIGS),
        partial(read_running_system, host),
    ]


def _ask_as_verbs_do(host: Host) -> None:
    """Predict and explain: which files they look at depends on what they find."""
    state = None
    with suppress(AemsealError):
        state = _kept_state(host)
    if state is None:
        with suppress(AemsealError):
            settled = host.settled_pcrs()
            survey(host, None if settled is None else PcrSelection.parse(settled))
        return
    with suppress(AemsealError):
        next_boot(host, state)
    with suppress(AemsealError):
        explain_files(host, state, explain_running(host, state, None))
    _list_known_images(host, state)


def _kept_state(host: Host) -> VaultState | None:
    data = host.saved(STATE_FILE.rsplit("/", 1)[-1])
    return None if data is None else VaultState.parse(data)


def _list_known_images(host: Host, state: VaultState) -> None:
    """List the initramfs of every boot that the vault knows, where it still lies.

    A kernel's update gives the image another name: then no entry names the old one any
    more, and it is what `explain` and `plan` compare the new one with.
    """
    sealed = (*state.accepted, *state.staged, *state.retired)
    boots = [*(each.boot for each in sealed), state.baseline]
    for source in initramfs_sources(e for boot in boots for e in boot.measurements):
        with suppress(AemsealError):
            host.list_initramfs(image_wanted(source))
