# SPDX-License-Identifier: GPL-2.0-or-later
"""Doctor's patients: any machine below a folder, with its TPM or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from aemseal.flows.doctor import EVERY_CHECK, examine
from aemseal.flows.doctor_patient import Finding, Patient, Result
from aemseal.flows.state import STATE_FILE, VaultState
from aemseal.words.errors import AemsealError, TpmError
from aemseal.world.config import Config, load_config
from aemseal.world.disks import Disks
from aemseal.world.host import LiveHost
from aemseal.world.rooted import Rooted
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm
from aemseal.world.tpm_nv import read_nv

_T = TypeVar("_T")

CHECKS = dict(EVERY_CHECK)


@contextmanager
def patient(
    root: Path, tcti: str | None, has_program: Callable[[str], bool] = lambda _: True
) -> Iterator[Patient]:
    """Bring a machine in; without a `tcti` it has no TPM."""
    config = attempt(lambda: load_config(root))
    settled = config if isinstance(config, Config) else Config()
    tpm = None if tcti is None else Tpm(tcti)

    def opened() -> Tpm:
        if tpm is None:
            raise TpmError("no TPM answers here", "switch it on")
        return tpm

    host = LiveHost(
        root,
        lambda algorithm: opened().pcrs(algorithm),
        settled,
        lambda index: read_nv(opened(), index),
    )
    data = host.saved(Path(STATE_FILE).name)
    state = None if data is None else attempt(lambda: VaultState.parse(data))
    disks = Disks(Rooted(root))
    try:
        yield Patient(host, state, config, Files(root), disks, opened, has_program)
    finally:
        if tpm is not None:
            tpm.close()


def attempt(make: Callable[[], _T]) -> _T | AemsealError:
    try:
        return make()
    except AemsealError as error:
        return error


def diagnosis(root: Path, tcti: str | None, name: str, **more: object) -> Finding:
    """Make one check, and return what it found."""
    with patient(root, tcti, **more) as who:  # type: ignore[arg-type] # a predicate
        return examine(who, [(name, CHECKS[name])])[0].finding


def is_told(found: Finding, result: Result, *words: str) -> None:
    """Assert that a finding is of this kind, says these words, and what to do."""
    assert found.result is result, found
    for each in words:
        assert each in f"{found.message} {found.hint}", found
    assert (found.hint is not None) is (result in (Result.FAILED, Result.WARNING))
