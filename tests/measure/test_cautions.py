# SPDX-License-Identifier: GPL-2.0-or-later
"""What is used for the first time is a caution of the prediction."""

from __future__ import annotations

import pytest
from predictions import next_boot, running
from tboot_boots import DA, Boot, a_boot

from aemseal.measure.baseline import Baseline
from aemseal.measure.calibrate import Calibration


def cautions(calibration: Calibration, following: Boot) -> tuple[str, ...]:
    return next_boot(calibration, following).cautions


def packed(boot: Boot, number: int, packing: str) -> Boot:
    return boot.with_module(number, notes={"packing": packing}, nounzip=False)


@pytest.mark.parametrize("packing", ["gzip", "xz"])
def test_a_packing_the_running_boot_did_not_use_is_one(packing: str) -> None:
    """GRUB unpacks only what it has a module loaded for; the log cannot tell yet."""
    boot = a_boot()
    following = packed(boot, 2, packing)
    expected = f"/boot/initramfs.img (initramfs) is the first packed with {packing}"
    assert cautions(running(DA, boot), following) == (expected,)


def test_a_packing_that_was_seen_is_none_wherever_it_was_seen() -> None:
    boot = packed(a_boot(), 0, "gzip")
    following = packed(boot, 2, "gzip")
    assert cautions(running(DA, boot), following) == ()


def test_the_baseline_remembers_how_files_were_packed() -> None:
    boot = packed(a_boot(), 0, "xz")
    kept = running(DA, boot).baseline(boot.title)
    again = Baseline.from_json(kept.to_json())
    assert [each.source.packing for each in again.measurements].count("xz") == 1
