# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated laptop as a whole: its disk, what a boot leaves behind, its power."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tpm2_tools import read_pcrs, tool
from tpm_sim.boot_directory import (
    LUKS_PASSPHRASE,
    LUKS_UUID,
    make_boot_directory,
    pack_initramfs,
)
from tpm_sim.cache import Cache
from tpm_sim.errors import SimulationError
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, MachineModel

Make = Callable[[MachineModel], Machine]


class TestTheDisk:
    def test_an_initramfs_of_the_same_tree_has_the_same_bytes(self) -> None:
        tree = {"init": b"#!/bin/sh\n", "etc/aemseal/hook.conf": b"aemseal-hook 1\n"}
        packed = pack_initramfs(tree)
        assert pack_initramfs(dict(reversed(tree.items()))) == packed
        assert pack_initramfs({**tree, "init": b"#!/bin/dash\n"}) != packed
        names = subprocess.run(
            ["cpio", "--quiet", "--list"], input=packed, capture_output=True, check=True
        ).stdout.decode()
        assert set(tree) <= set(names.split())

    def test_the_luks_header_is_a_real_one(self, cache: Cache, tmp_path: Path) -> None:
        made = make_boot_directory(tmp_path, cache)
        header = str(made.luks_header)
        assert made.luks_header.name == LUKS_UUID
        shown = subprocess.run(
            ["cryptsetup", "luksUUID", header],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.strip() == LUKS_UUID
        subprocess.run(
            ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", header],
            input=LUKS_PASSPHRASE,
            check=True,
        )

    def test_an_update_keeps_the_disk(self, cache: Cache, tmp_path: Path) -> None:
        made = make_boot_directory(tmp_path, cache)
        header = made.luks_header.read_bytes()
        make_boot_directory(tmp_path, cache, kernel_args="other")
        assert made.luks_header.read_bytes() == header
        assert "placeholder other" in made.grub_cfg.read_text(encoding="utf-8")


class TestABoot:
    def test_runs_the_hook_after_the_launch_at_locality_0(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)

        def hook(running: Machine) -> str:
            assert running.log_path.exists()
            tool(running.tcti, "tpm2_pcrextend", f"13:sha256={'22' * 32}")
            with pytest.raises(AssertionError, match="bad locality"):
                tool(running.tcti, "tpm2_pcrextend", f"17:sha256={'22' * 32}")
            return "the secret"

        boot = machine.boot(hook)
        assert (boot.number, boot.hook_result) == (1, "the secret")
        assert read_pcrs(machine.tcti)["sha256"][13] != bytes(32)

    def test_starts_with_a_fresh_run_and_a_boot_id_of_its_own(
        self, laptop: Make
    ) -> None:
        machine = laptop(TBOOT_DA)
        seen = set()
        for _ in range(3):
            machine.boot()
            assert not list((machine.root / "run").iterdir())
            (machine.root / "run/left-over").touch()
            seen.add((machine.root / "proc/sys/kernel/random/boot_id").read_text())
            machine.power_cut()
        assert len(seen) == machine.boots == 3

    def test_shows_the_kernel_its_command_line(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)
        machine.boot()
        cmdline = (machine.root / "proc/cmdline").read_text(encoding="ascii")
        assert cmdline.startswith("placeholder root=/dev/mapper/")
        assert f"rd.luks.uuid=luks-{LUKS_UUID}" in cmdline

    def test_uses_next_entry_up(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)
        grubenv = machine.root / "boot/grub/grubenv"
        grubenv.write_bytes(
            b"# GRUB Environment Block\nnext_entry=plain-xen\n".ljust(1024, b"#")
        )
        assert not machine.boot().launch.is_measured
        machine.power_off()
        assert b"next_entry=\n" in grubenv.read_bytes()
        assert machine.boot().launch.is_measured

    def test_needs_the_machine_to_be_off(self, laptop: Make) -> None:
        machine = laptop(TBOOT_DA)
        machine.boot()
        with pytest.raises(SimulationError, match="on already"):
            machine.boot()


def test_nothing_of_a_machine_is_left_behind(cache: Cache) -> None:
    with Machine(TBOOT_DA, cache=cache) as machine:
        machine.install()
        root = machine.root
        machine.tpm.power_on()
    assert not root.exists()
    assert not machine.tpm.is_on


def test_a_root_that_was_given_stays(cache: Cache, tmp_path: Path) -> None:
    with Machine(TBOOT_DA, tmp_path, cache) as machine:
        machine.install()
    assert (tmp_path / "boot/tboot.gz").exists()


def test_a_cache_that_is_not_filled_says_what_to_do(tmp_path: Path) -> None:
    empty = Cache(tmp_path)
    assert not empty.is_filled
    assert not empty.has_two_xens
    with pytest.raises(SimulationError, match="run make setup first"):
        make_boot_directory(tmp_path / "root", empty)
