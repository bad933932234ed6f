# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of `make setup`, or a skip that says they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError


def unpacked(name: str) -> Path:
    """Return a file by its name in Cache ("tboot", "xen_old"), or skip the test."""
    try:
        path = getattr(Cache.default(), name)
    except SimulationError as error:
        pytest.skip(str(error))
    assert isinstance(path, Path)
    return path


def package_version(folder: str) -> str:
    """Return the version of the package in a cache folder, or skip the test."""
    try:
        return Cache.default().version(folder)
    except SimulationError as error:
        pytest.skip(str(error))
