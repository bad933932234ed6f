# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of all tests: the cache of boot files, a TPM, simulated laptops.

A test that uses one of them gets the marker that says what it needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import MachineModel
from tpm_sim.swtpm import Swtpm

from aemseal.words.digest import HashAlgorithm

# Two cores run two workers here, and a TPM takes the time it takes.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

_MARKERS = {
    "tpm": ("tpm", "laptop"),
    "sim": ("cache", "laptop"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        used = getattr(item, "fixturenames", ())
        for marker, fixtures in _MARKERS.items():
            if any(fixture in used for fixture in fixtures):
                item.add_marker(marker)


@pytest.fixture(scope="session")
def cache() -> Cache:
    """The boot files that `make setup` unpacks."""
    found = Cache.default()
    if not found.is_filled:
        pytest.skip(f"no boot files in {found.folder}: run make setup")
    return found


@pytest.fixture
def tpm() -> Iterator[Swtpm]:
    """A TPM that is on, with the banks of a laptop of today."""
    require_swtpm()
    with Swtpm((HashAlgorithm.SHA1, HashAlgorithm.SHA256)) as made:
        made.power_on()
        yield made


@pytest.fixture
def laptop(cache: Cache) -> Iterator[Callable[[MachineModel], Machine]]:
    """Make laptops of a model, each with a /boot and a disk, switched off."""
    require_swtpm()
    with ExitStack() as stack:

        def make(model: MachineModel) -> Machine:
            machine = stack.enter_context(Machine(model, cache=cache))
            machine.install()
            return machine

        yield make


def require_swtpm() -> None:
    if shutil.which("swtpm") is None:
        pytest.skip("no swtpm: run make setup")
