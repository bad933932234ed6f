# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook asks whether two disks answer to one name, before it measures any."""

from __future__ import annotations

from pathlib import Path

import pytest
from hook_bus import CC_PCR_EXTEND, OLD, Wire
from hook_outcome import held
from hook_program import SHELLS, altered, of_shell
from hook_world import SECRET, Disks, Machine

pytestmark = pytest.mark.tpm

TWINS = "aemseal: Two disks answer to one name. Do not type your disk passphrase.\n"
ASK = '[ -b "$by_uuid/$uuid" ]'


def with_blkid(machine: Machine, script: str) -> Path:
    """A hook for which plain files are block devices; this shell is its blkid."""
    shims = machine.folder / "shims"
    shims.mkdir()
    blkid = shims / "blkid"
    blkid.write_text(f'#!/bin/sh\necho "$*" >>{machine.folder}/asked\n{script}\n')
    blkid.chmod(0o755)
    return altered(
        machine, ("\nPATH=", f"\nPATH={shims}:"), (ASK, ASK.replace("b", "e", 1))
    )


def asked(machine: Machine) -> list[str]:
    return (machine.folder / "asked").read_text().splitlines()


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_each_disk_is_asked_for_once_without_a_cache(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    outcome = machine.hook(shell=shell, hook=with_blkid(machine, "echo /dev/sda2"))
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET
    assert asked(machine) == [
        f"-c /dev/null -o device -t UUID={uuid}" for uuid in Disks.UUIDS
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
@pytest.mark.parametrize("number", [0, 1])
def test_with_two_of_one_name_nothing_is_measured_or_unsealed(
    machine: Machine, number: int, shell: tuple[str, ...]
) -> None:
    """Whichever of the two the link leads to has the accepted header."""
    hook = with_blkid(
        machine,
        f"echo /dev/sda2\ncase $* in *{Disks.UUIDS[number]}) echo /dev/sdb2 ;; esac",
    )
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(shell=shell, hook=hook, tcti=wire.tcti)
    assert CC_PCR_EXTEND not in wire.codes
    held(machine, outcome, "two-disks", measured=False)
    assert outcome.stderr == TWINS


@pytest.mark.parametrize("script", ["exit 2", "exit 127", ":", "sleep 100"])
def test_a_disk_of_which_that_cannot_be_told_is_not_measured(
    machine: Machine, script: str
) -> None:
    hook = with_blkid(machine, script)
    main = hook.read_text()
    hook.write_text(main.replace("tool_seconds=60", "tool_seconds=3"))
    machine.boot(OLD)
    held(machine, machine.hook(hook=hook), "no-luks", measured=False)


def test_a_plain_file_has_no_twin(machine: Machine) -> None:
    """Nor is blkid asked, which knows of devices alone."""
    hook = with_blkid(machine, "exit 2")
    step = hook.parent / "lib/luks.sh"
    step.write_text(step.read_text().replace(ASK.replace("b", "e", 1), ASK))
    machine.boot(OLD)
    held(machine, machine.hook(hook=hook), "unsealed")
    assert not (machine.folder / "asked").exists()


def test_a_link_to_a_block_device_is_asked_about(
    machine: Machine, tmp_path: Path
) -> None:
    """The link is what udev makes; here to a device of which blkid knows nothing."""
    devices = (Path("/dev", name) for name in ("loop7", "vda", "sda", "nvme0n1"))
    device = next((each for each in devices if each.is_block_device()), None)
    if device is None:
        pytest.skip("no block device")
    (tmp_path / "by-uuid").mkdir()
    for uuid in Disks.UUIDS:
        (tmp_path / "by-uuid" / uuid).symlink_to(device)
    machine.more_arguments = ("-d", str(tmp_path / "by-uuid"))
    machine.boot(OLD)
    held(machine, machine.hook(), "no-luks", measured=False)
