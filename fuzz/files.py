# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: aemseal's own files, recordings, the configuration, and the kernel's."""

from __future__ import annotations

import atexit
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from aemseal.flows.journal import parse_journal
from aemseal.flows.state import VaultState
from aemseal.formats.file_list import dump_lists, load_list, load_lists
from aemseal.formats.hook_files import HookRecord, hook_conf
from aemseal.formats.slot import Acceptance, VaultFile
from aemseal.formats.strict_json import load_json
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import HashAlgorithm, PcrSelection
from aemseal.words.errors import (
    EvidenceError,
    FormatError,
    SelectionError,
    UsageError,
    VaultError,
)
from aemseal.world.config import AEM_CONFIG_FILE, CONFIG_FILE, load_config
from aemseal.world.kernel_tpm import LISTS, tpm12_pcrs
from aemseal.world.recording_format import (
    FACTS_FILE,
    MANIFEST_FILE,
    PCRS_FILE,
    read_files,
    write_files,
)
from aemseal.world.rooted import Rooted
from fuzz import file_seeds
from fuzz.contract import KIB, MIB, Target
from fuzz.image_seeds import BETWEEN


def _hook_record(data: bytes) -> None:
    record = HookRecord.parse(data)
    assert record.left.algorithm is record.algorithm
    assert hook_conf(record.selection)


def _vault(data: bytes) -> None:
    vault = VaultFile.parse(data)
    assert VaultFile.parse(vault.to_bytes()) == vault


def _acceptance(data: bytes) -> None:
    acceptance = Acceptance.parse(data)
    assert Acceptance.parse(acceptance.to_bytes()) == acceptance


def _strict_json(data: bytes) -> None:
    fields = load_json("it", data)
    for name in fields.names():
        for take in (fields.text, fields.number, fields.texts, fields.objects):
            _take(take, name)


def _take(take: Callable[[str], object], name: str) -> None:
    with suppress(EvidenceError):
        take(name)


def _file_lists(data: bytes) -> None:
    lists = load_lists("it", data)
    assert load_lists("it", dump_lists(lists)) == lists
    if len(lists) == 1:
        assert load_list("it", data) == lists[0]


def _state(data: bytes) -> None:
    state = VaultState.parse(data)
    assert VaultState.parse(state.to_bytes()) == state


def _journal(data: bytes) -> None:
    journal = parse_journal(data)
    assert parse_journal(journal.to_bytes()) == journal


def _baseline(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    baseline = Baseline.from_json(value)
    assert Baseline.from_json(baseline.to_json()) == baseline


@cache
def _folder() -> Path:
    """Return a folder of this process that stands for the root."""
    folder = Path(mkdtemp(prefix="aemseal-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _planted(*files: tuple[str, bytes]) -> Path:
    for path, data in files:
        place = _folder() / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return _folder()


def _config(data: bytes) -> None:
    ours, _, aem = data.partition(BETWEEN)
    root = _planted((CONFIG_FILE, ours), (AEM_CONFIG_FILE, aem))
    config = load_config(root)
    assert config.media
    for path in (config.event_log, config.grub_config, config.tboot_policy):
        assert path is None or (path.startswith("/") and path.isprintable())
    if config.pcrs is not None:
        PcrSelection.parse(config.pcrs)


def _tpm12(data: bytes) -> None:
    root = _planted((LISTS[0], data))
    assert len(tpm12_pcrs(Rooted(root), HashAlgorithm.SHA1).values) == 24


def _recording(data: bytes) -> None:
    """Read manifest, PCRs and facts; any other file of the folder is this one."""
    names = (MANIFEST_FILE, PCRS_FILE, FACTS_FILE, "other")
    files = dict(zip(names, data.split(BETWEEN), strict=False))
    other = files.get("other")
    recording = read_files(lambda name: files.get(name, other), "it")
    assert all(each.isprintable() for each in recording.warnings)
    written = write_files(recording)
    with suppress(EvidenceError):  # an answer's file may be of a name that is no such
        again = read_files(written.get, "it")
        assert (again.facts, again.refused) == (recording.facts, recording.refused)


def _selection(data: bytes) -> None:
    selection = PcrSelection.parse(data.decode("utf-8", "surrogateescape"))
    assert PcrSelection.parse(str(selection)) == selection


_EVIDENCE = (EvidenceError,)

TARGETS = (
    Target("hook_record", _hook_record, (FormatError,), file_seeds.records),
    Target("vault_file", _vault, (FormatError,), file_seeds.vaults),
    Target("acceptance", _acceptance, (FormatError,), file_seeds.acceptances),
    Target("strict_json", _strict_json, _EVIDENCE, file_seeds.objects, factor=512),
    Target("file_list", _file_lists, _EVIDENCE, file_seeds.lists, factor=2048),
    Target("state", _state, (VaultError,), file_seeds.states, most=8 * KIB, factor=512),
    Target(
        "journal",
        _journal,
        (VaultError,),
        file_seeds.journals,
        most=8 * KIB,
        factor=512,
    ),
    Target("baseline", _baseline, _EVIDENCE, file_seeds.baselines, factor=512),
    Target("config", _config, _EVIDENCE, file_seeds.configs, base=2 * MIB, factor=2048),
    Target("tpm12_pcrs", _tpm12, _EVIDENCE, file_seeds.pcr_lists),
    Target(
        "recording",
        _recording,
        _EVIDENCE,
        file_seeds.recordings,
        most=8 * KIB,
        factor=512,
    ),
    Target(
        "selection", _selection, (SelectionError, UsageError), file_seeds.selections
    ),
)
