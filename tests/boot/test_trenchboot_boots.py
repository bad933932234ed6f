# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB, Xen, dom0, dracut, launched as TrenchBoot launches: what the person sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenes import enters_the_root, is_refused, require_boots, shows_the_secret
from tpm_sim.cache import Cache
from trenchboot_world import TrenchbootWorld

pytestmark = pytest.mark.tpm


@pytest.fixture(scope="module")
def _settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrenchbootWorld]:
    require_boots()
    folder = tmp_path_factory.mktemp("trenchboot")
    with TrenchbootWorld(folder, Cache.default()) as world:
        world.enrol()
        world.stage_kernel()
        yield world


@pytest.fixture
def trenchboot(_settled: TrenchbootWorld) -> Iterator[TrenchbootWorld]:
    """A machine with a sealed text, and a kernel that came since: its boot is staged.

    Predicted from the files, but for what is carried over in PCR 18.
    """
    with _settled.as_it_was():
        yield _settled


def test_a_staged_boot_of_trenchboots_shows_the_secret_before_the_passphrase(
    trenchboot: TrenchbootWorld,
) -> None:
    """And its root is entered; the tool then confirms the boot that it predicted."""
    with trenchboot.pc() as pc:
        shows_the_secret(pc)
        record = enters_the_root(pc)
    assert "outcome unsealed\n" in record
    trenchboot.pretend_boot(record)
    assert trenchboot.did("confirm").startswith("confirmed: ")


def test_another_xen_command_line_of_trenchboots_keeps_the_secret_in(
    trenchboot: TrenchbootWorld,
) -> None:
    """No measurement of its own tells of it: the multiboot information does."""
    trenchboot.change_menu("dom0_max_vcpus=1", "dom0_max_vcpus=1 flask=disabled")
    with trenchboot.pc() as pc:
        is_refused(pc, "This boot is not one that you accepted: PCR 18 differs.")
