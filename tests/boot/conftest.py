# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots in QEMU: a minute each, so `make test-boot` asks for them and nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from boot_world import BootWorld
from tpm_sim.cache import Cache


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootWorld]:
    """A machine with a sealed text whose first boot is staged."""
    if not os.environ.get("AEMSEAL_BOOT"):
        pytest.skip("real boots are run by: make test-boot")
    with BootWorld(tmp_path_factory.mktemp("boot"), Cache.default()) as world:
        world.enrol()
        yield world
