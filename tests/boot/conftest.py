# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots in QEMU: half a minute each, so `make test-boot` asks for them and nobody else.

A machine is made once for all the cases that begin with it; each case finds it as it
was, whatever the one before did.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from boot_secrets import GuardedWorld
from boot_world import BootWorld, PlainWorld
from scenes import require_boots
from tpm_sim.cache import Cache


@pytest.fixture(scope="session")
def _settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootWorld]:
    require_boots()
    with BootWorld(tmp_path_factory.mktemp("text"), Cache.default()) as world:
        world.enrol()
        world.confirm_here()
        yield world


@pytest.fixture(scope="session")
def _plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootWorld]:
    require_boots()
    with PlainWorld(tmp_path_factory.mktemp("plain"), Cache.default()) as world:
        world.enrol()
        world.confirm_here()
        yield world


@pytest.fixture(scope="session")
def _guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedWorld]:
    require_boots()
    with GuardedWorld(tmp_path_factory.mktemp("three"), Cache.default()) as world:
        world.seal_three()
        yield world


@pytest.fixture
def world(_settled: BootWorld) -> Iterator[BootWorld]:
    """A machine with a sealed text, its boot accepted; nothing is staged."""
    with _settled.as_it_was():
        yield _settled


@pytest.fixture
def plain(_plain: BootWorld) -> Iterator[BootWorld]:
    """The same as `world`, without systemd in its initramfs."""
    with _plain.as_it_was():
        yield _plain


@pytest.fixture
def guarded(_guarded: GuardedWorld) -> Iterator[GuardedWorld]:
    """One with a text, a one-time code and the disk's key, the latter behind a PIN."""
    with _guarded.as_it_was():
        yield _guarded
