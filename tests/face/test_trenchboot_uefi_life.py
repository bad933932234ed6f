# SPDX-License-Identifier: GPL-2.0-or-later
"""A vault on laptops whose Xen is a UEFI program that TrenchBoot launches.

PCR 17 holds Xen as it lies in memory, and that where each module is: a longer one is a
blind boot here, too. The command lines are measured by themselves, and stay proven.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import check
from laptop import CARRIED, Laptop
from tpm_sim.cache import Cache
from tpm_sim.initramfs import IMAGE, build_command
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.sim,
    pytest.mark.usefixtures("no_traceback"),
    pytest.mark.skipif(
        not Cache.default().has_two_xens, reason="make setup has unpacked one Xen"
    ),
]

FOLDER = "/boot/efi/EFI/qubes"
CONFIG, KERNEL = f"{FOLDER}/xen-4.17.cfg", f"{FOLDER}/aem-vmlinuz"
REASON = "PCR 17 holds Xen as it lies in memory, and the initramfs grew by "


@pytest.fixture(params=["trenchboot-skinit-uefi", "trenchboot-txt-uefi"])
def laptop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Laptop]:
    """An enrolled laptop; its build puts the image on the EFI system partition, too."""
    with Machine(MACHINES[request.param], tmp_path / "laptop") as machine:
        made = machine.install()
        made.kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
        copy = machine.root / IMAGE  # what the simulated hook is unpacked from
        copy.write_bytes(made.initramfs.read_bytes())
        found = Laptop(machine)
        build = " ".join(build_command(machine.root))
        command = ["/bin/sh", "-c", f"{build} && cp {copy} {made.initramfs}"]
        found.write(
            "/etc/aemseal.yaml", f"initramfs_command: {json.dumps(command)}\n{CARRIED}"
        )
        found.reboot()
        ran = found.enrol()
        assert (ran.code, ran.error.startswith(f"nothing is sealed yet: {REASON}")) == (
            4,
            True,
        )
        found.reboot()
        assert found.enrol().code == 0
        yield found


def grow(laptop: Laptop) -> None:
    for path in (f"{FOLDER}/aem-initramfs.img", f"/{IMAGE}"):
        laptop.write(path, laptop.path(path).read_bytes() + bytes(512))


def test_a_longer_initramfs_is_a_blind_boot_that_is_told(laptop: Laptop) -> None:
    assert laptop.shows_the_secret()
    grow(laptop)
    ran = laptop.aemseal("reseal")
    assert (ran.code, ran.error) == (4, f"{REASON}512 bytes")
    assert not laptop.shows_the_secret()
    report = laptop.aemseal("explain", "--json").report
    check(report, "explain")
    assert report["prediction"]["as_predicted"] is True
    assert "command lines, kernel, initramfs, LUKS headers." in report["advice"]
    assert "Nothing proves which Xen this is" in report["advice"]
    assert report["role"] == "initramfs"


def test_a_blind_boot_with_another_command_line_is_not_as_predicted(
    laptop: Laptop,
) -> None:
    assert laptop.shows_the_secret()
    grow(laptop)
    assert laptop.aemseal("reseal").code == 4
    config = laptop.path(CONFIG).read_text()
    laptop.write(CONFIG, config.replace("rhgb quiet", "rhgb shell"))
    assert not laptop.shows_the_secret()
    report = laptop.aemseal("explain", "--json").report
    told = report["prediction"]
    assert (told["as_predicted"], told["role"]) == (False, "cmdline")
    assert report["advice"].startswith("Do not trust this boot unless you changed")
    assert report["known_as"] == (
        "the command line of the entry 'AEM Qubes, with Xen hypervisor'"
    )


def test_an_update_of_the_same_length_is_sighted(laptop: Laptop) -> None:
    assert laptop.shows_the_secret()
    laptop.write(KERNEL, laptop.path(KERNEL).read_bytes().replace(b"dom0", b"DOM0"))
    shown = laptop.aemseal("predict").out.splitlines()
    words = [each for each in shown if each.split()[1:2] == ["cmdline"]]
    assert len(words) == 3
    assert all(each.endswith(f"a command line in {CONFIG}") for each in words)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0
