# SPDX-License-Identifier: GPL-2.0-or-later
"""Simulated machines that boot the entries which the generator of GRUB entries writes.

GRUB runs them, tpm-sim launches what they load, and the tool predicts the next boot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grub_laptop import LUKS_WORD, SHUT, GrubLaptop
from tpm_sim.boot_directory import BootDirectory
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

from aemseal.face.cli import main

pytestmark = [pytest.mark.tpm, pytest.mark.sim]

LEGACY = ["tboot-da", "trenchboot-skinit", "trenchboot-txt"]
UEFI = ["trenchboot-skinit-uefi", "trenchboot-txt-uefi"]
CHECKS = ("calibration", "boot-entry", "next-boot", "luks-uuid", "emergency-shell")


class Booted:
    """A machine of a model, its boot menu written by grub-mkconfig."""

    def __init__(self, model: str, folder: Path, cache: Cache) -> None:
        self.machine = Machine(MACHINES[model], folder, cache)
        self.made: BootDirectory = self.machine.install()
        self.made.grub_cfg.unlink()
        self.grub = GrubLaptop(folder, cache)
        self.grub.stock("20_linux_xen").unlink()
        if model in LEGACY:
            self.made.kernel.write_bytes(b"dom0's kernel, as far as a launch can tell")
            self.grub.with_versions(self.made)
        else:
            self.grub.write("sys/firmware/efi/fw_platform_size", "64\n")
        launcher = "tboot"
        if model.startswith("trenchboot"):
            launcher = "slaunch"
            platform = "i386-pc" if model in LEGACY else "x86_64-efi"
            self.slaunch = self.grub.write(f"usr/lib/grub/{platform}/slaunch.mod", "")
        self.grub.defaults["GRUB_DEFAULT"] = f"aemseal-{launcher}"

    def aemseal(self, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
        """Return the report of a command."""
        capsys.readouterr()
        given = [*words, "--json", "--root", str(self.machine.root)]
        main(given, {"TPM2TOOLS_TCTI": self.machine.tcti})
        return json.loads(capsys.readouterr().out)


@pytest.fixture
def booted(
    request: pytest.FixtureRequest, tmp_path: Path, cache: Cache
) -> Iterator[Booted]:
    """A machine that is off."""
    made = Booted(request.param, tmp_path / "laptop", cache)
    with made.machine:
        yield made


@pytest.mark.parametrize("booted", [*LEGACY, *UEFI], indirect=True)
def test_the_entry_is_launched_and_the_tool_predicts_the_next_boot(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert booted.grub.mkconfig().words == []
    launch = booted.machine.boot().launch
    assert launch.is_measured
    assert LUKS_WORD.encode() in launch.kernel_cmdline
    predicted = booted.aemseal(capsys, "predict")
    assert (predicted["complete"], predicted["refusals"]) == (True, [])
    assert predicted["next"] == predicted["now"]
    found = {e["name"]: e for e in booted.aemseal(capsys, "doctor")["checks"]}
    assert [found[name]["result"] for name in CHECKS] == ["ok"] * len(CHECKS)
    if booted.made.xen_config is None:  # what xen.efi reads is not the generator's
        assert launch.kernel_cmdline.endswith(SHUT.encode())
        assert found["resume"]["result"] == "ok"


@pytest.mark.parametrize("booted", ["tboot-da"], indirect=True)
def test_the_kernel_before_the_newest_is_predicted_by_its_id(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    booted.grub.add_kernel("6.6.69-1")
    booted.grub.mkconfig()
    booted.machine.boot()
    fallback = booted.aemseal(capsys, "predict", "--entry", "aemseal-tboot-older-1")
    assert fallback["complete"]
    kernels = [e for e in fallback["measurements"] if e["role"] == "kernel"]
    assert [each["source"]["path"] for each in kernels] == ["/boot/vmlinuz-6.6.68-1"]


@pytest.mark.parametrize("booted", ["trenchboot-txt"], indirect=True)
def test_trenchboots_entry_is_anti_evil_maids_with_the_words_of_the_design(
    booted: Booted,
) -> None:
    booted.grub.mkconfig()
    entry = booted.grub.loaded("aemseal-slaunch")
    assert entry.is_launch
    assert entry.title == "Qubes, with Xen hypervisor, launched by TrenchBoot"
    assert entry.kernel.path == "/xen-4.17.5.gz"
    assert entry.kernel.cmdline == b"placeholder console=none no-real-mode edd=off"
    kernel, initramfs = entry.modules
    assert kernel.cmdline.endswith(f" ro {LUKS_WORD} quiet {SHUT}".encode())
    assert (initramfs.path, initramfs.decompress) == ("/initramfs-6.6.68-1.img", False)
    assert [each.path for each in entry.launch_modules] == [
        "/CFL_SINIT_MADE_UP.bin",
        "/SKL_SINIT_MADE_UP.bin",
    ]


@pytest.mark.parametrize("booted", ["trenchboot-skinit"], indirect=True)
class TestWithoutWhatTrenchbootNeeds:
    def test_a_xen_of_the_distribution_gets_no_entry(
        self, booted: Booted, cache: Cache
    ) -> None:
        other = booted.machine.root / "boot/xen-4.18.0.gz"
        shutil.copyfile(cache.xen_old, other)
        written = booted.grub.mkconfig()
        assert written.ids == ["aemseal-slaunch"]
        assert booted.grub.loaded("aemseal-slaunch").kernel.path == "/xen-4.17.5.gz"
        assert written.words == [
            f"{other} is no Xen that GRUB can launch: no entry with slaunch"
        ]

    def test_a_grub_without_slaunch_gets_no_entry(self, booted: Booted) -> None:
        booted.slaunch.unlink()
        assert booted.grub.mkconfig().ids == []
        place = "boot/grub2/i386-pc/slaunch.mod"
        booted.grub.write(place, "")
        assert booted.grub.mkconfig().ids == ["aemseal-slaunch"]

    def test_a_boot_without_modules_to_launch_with_gets_no_entry(
        self, booted: Booted
    ) -> None:
        booted.made.launch_modules[0].unlink()
        written = booted.grub.mkconfig()
        assert written.ids == []
        assert written.words[0].startswith("nothing to launch with: ")

    def test_with_tboot_beside_there_are_entries_of_both(
        self, booted: Booted, cache: Cache
    ) -> None:
        booted.grub.add_tboot()
        booted.grub.defaults["GRUB_DISTRIBUTOR"] = ""
        assert booted.grub.mkconfig().ids == ["aemseal-tboot", "aemseal-slaunch"]
        assert not booted.grub.loaded("aemseal-tboot").is_launch
        title = booted.grub.loaded("aemseal-slaunch").title
        assert title == "GNU/Linux, with Xen hypervisor, launched by TrenchBoot"


@pytest.mark.parametrize("booted", ["trenchboot-txt-uefi"], indirect=True)
class TestUnderUefi:
    def test_xen_is_the_newest_program_on_the_esp_with_a_configuration(
        self, booted: Booted
    ) -> None:
        xen, config = booted.made.xen, booted.made.xen_config
        assert config is not None
        for version in ("4.17.10", "4.16"):
            shutil.copyfile(xen, xen.with_name(f"xen-{version}.efi"))
        config.with_name("xen-4.16.cfg").write_bytes(config.read_bytes())
        written = booted.grub.mkconfig()
        assert written.ids == [
            "aemseal-slaunch",
            "aemseal-slaunch-older",
            "aemseal-slaunch-older-1",
        ]
        lone, lacks = (
            xen.with_name("xen-4.17.10.efi"),
            "has no xen-4.17.10.cfg beside it",
        )
        assert written.words == [f"{lone} {lacks}: no entry with it"]
        assert booted.grub.loaded("aemseal-slaunch").kernel.path == (
            "/EFI/qubes/xen-4.17.efi"
        )
        older = booted.grub.loaded("aemseal-slaunch-older>aemseal-slaunch-older-1")
        assert older.kernel.path == "/EFI/qubes/xen-4.16.efi"
        assert older.title.endswith(">Qubes, with Xen 4.16, launched by TrenchBoot")

    def test_words_that_the_configuration_lacks_are_named(self, booted: Booted) -> None:
        config = booted.made.xen_config
        assert config is not None
        config.write_text(config.read_text().replace(" rd.shell=0 ", " rd.shell=1 "))
        assert booted.grub.mkconfig().words == [
            f"{config}: add rd.shell=0 to the words of kernel="
        ]

    def test_tboots_xen_does_without_a_bios(self, booted: Booted) -> None:
        booted.grub.add_tboot()
        booted.grub.add_xen("4.17.5")
        booted.grub.add_kernel("6.6.68-1")
        booted.grub.mkconfig()
        xen = booted.grub.loaded("aemseal-tboot").modules[0]
        assert xen.cmdline == b"placeholder console=none no-real-mode edd=off"
