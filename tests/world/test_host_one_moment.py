# SPDX-License-Identifier: GPL-2.0-or-later
"""grub.cfg and what lies beside it are of one moment, though /boot may change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from host_tree import machine, plant

from aemseal.words.errors import BootFileError
from aemseal.world.host import GRUB_CONFIG_PLACES

FIRST, SECOND = GRUB_CONFIG_PLACES[:2]


def test_a_grub_cfg_that_comes_later_moves_no_grubenv(tmp_path: Path) -> None:
    beside = SECOND.replace("grub.cfg", "grubenv")
    host = machine(tmp_path, {SECOND: b"menu", beside: b"env"})
    assert host.grub_config() == (SECOND, b"menu")
    plant(tmp_path, {FIRST: b"new", FIRST.replace("grub.cfg", "grubenv"): b"new env"})
    assert host.grub_env() == b"env"
    assert host.grub_config() == (SECOND, b"menu"), "asked again, answered the same"
    assert replace(host).grub_env() == b"new env", "another look, another moment"


def test_a_grub_cfg_that_is_gone_meanwhile_still_has_its_grubenv(
    tmp_path: Path,
) -> None:
    beside = FIRST.replace("grub.cfg", "grubenv")
    host = machine(tmp_path, {FIRST: b"menu", beside: b"env"})
    host.grub_config()
    (tmp_path / FIRST.lstrip("/")).unlink()
    assert host.grub_env() == b"env"


def test_one_that_was_not_there_is_looked_for_again(tmp_path: Path) -> None:
    host = machine(tmp_path, {})
    with pytest.raises(BootFileError):
        host.grub_config()
    plant(tmp_path, {FIRST: b"menu"})
    assert host.grub_config() == (FIRST, b"menu")
