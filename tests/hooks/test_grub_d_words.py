# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines that the generator of GRUB entries writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from grub_laptop import LUKS_WORD, ROOT_DEVICE, SHUT, GrubLaptop
from tpm_sim.boot_directory import BOOT_UUID
from tpm_sim.cache import Cache

_PART = "1b5a52a5-01"


@pytest.fixture
def laptop(tmp_path: Path, cache: Cache) -> GrubLaptop:
    """One with tboot, one Xen and one kernel."""
    made = GrubLaptop(tmp_path / "laptop", cache)
    made.add_tboot()
    made.add_xen("4.17.5")
    made.add_kernel("6.6.68-1")
    made.stock("20_linux_xen").unlink()
    return made


def lines(laptop: GrubLaptop) -> tuple[str, str, str]:
    """Return tboot's, Xen's and dom0's command line, without the first word."""
    laptop.mkconfig()
    entry = laptop.loaded("aemseal-tboot")
    found = [each.cmdline for each in (entry.kernel, *entry.modules[:2])]
    tboot, xen, linux = (each.decode().partition(" ")[2] for each in found)
    return tboot, xen, linux


def dom0(laptop: GrubLaptop) -> str:
    """Return dom0's command line behind root= and ro."""
    words = lines(laptop)[2].split(" ")
    assert words[:2] == [f"root={ROOT_DEVICE}", "ro"]
    return " ".join(words[2:])


def test_the_users_words_stay_in_the_order_of_grub_mkconfigs_own_entries(
    laptop: GrubLaptop,
) -> None:
    laptop.defaults |= {
        "GRUB_CMDLINE_LINUX_DEFAULT": "rhgb",
        "GRUB_CMDLINE_XEN_DEFAULT": "smt=off",
    }
    assert lines(laptop) == (
        "logging=memory",
        "console=none smt=off",
        f"root={ROOT_DEVICE} ro {LUKS_WORD} quiet rhgb {SHUT}",
    )
    laptop.defaults |= {
        "GRUB_CMDLINE_LINUX_XEN_REPLACE": LUKS_WORD,
        "GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT": "splash",
    }
    assert dom0(laptop) == f"{LUKS_WORD} splash {SHUT}"


def test_tboots_words_are_those_of_its_own_generator(laptop: GrubLaptop) -> None:
    laptop.write(
        "etc/default/grub-tboot",
        "GRUB_CMDLINE_TBOOT=logging=serial\nGRUB_CMDLINE_XEN_TBOOT=iommu=force\n"
        "GRUB_CMDLINE_LINUX_TBOOT=intel_iommu=on\n",
    )
    assert lines(laptop)[:2] == ("logging=memory", "console=none iommu=force")
    assert dom0(laptop) == f"{LUKS_WORD} quiet intel_iommu=on {SHUT}"
    del laptop.defaults["GRUB_CMDLINE_TBOOT"]
    assert lines(laptop)[0] == "logging=serial"
    (laptop.root / "etc/default/grub-tboot").unlink()
    assert lines(laptop)[0] == "logging=serial,memory"


@pytest.mark.parametrize(
    ("words", "become"),
    [
        ("", SHUT),
        (SHUT, SHUT),
        ("rd.shell=1", f"rd.shell=1 {SHUT}"),
        ("rd.shell=0 rd.shell=1", f"rd.shell=0 rd.shell=1 {SHUT}"),
        (
            "rd.shell=1 rd.shell=0",
            "rd.shell=1 rd.shell=0 rd.emergency=poweroff noresume",
        ),
        ("rd.emergency=reboot", f"rd.emergency=reboot {SHUT}"),
        ("resume=/dev/sda3 a=*", f"resume=/dev/sda3 a=* {SHUT}"),
    ],
)
def test_the_words_that_shut_the_initramfs_have_the_last_say(
    laptop: GrubLaptop, words: str, become: str
) -> None:
    laptop.defaults["GRUB_CMDLINE_LINUX"] = f"{LUKS_WORD} {words}"
    assert dom0(laptop) == f"{LUKS_WORD} {become}"


@pytest.mark.parametrize("place", ["usr/lib/systemd/systemd", "lib/systemd/systemd"])
def test_where_dom0_has_systemd_no_credentials_come_in(
    laptop: GrubLaptop, place: str
) -> None:
    laptop.write(place, "systemd")
    shut = f"{SHUT} systemd.import_credentials=no"
    assert dom0(laptop) == f"{LUKS_WORD} quiet {shut}"


class TestTheDisksToOpen:
    def test_are_those_of_the_running_system_where_the_user_names_none(
        self, laptop: GrubLaptop
    ) -> None:
        laptop.defaults["GRUB_CMDLINE_LINUX"] = "quiet"
        typed = "rd.luks.uuid=$(x) rd.luks.uuid=;reboot rd.luks.uuid="
        laptop.write("proc/cmdline", f"rd.luks.uuid=a quiet {typed} {LUKS_WORD}\n")
        assert dom0(laptop) == f"quiet rd.luks.uuid=a {LUKS_WORD} {SHUT}"

    def test_are_missed_aloud_where_nobody_names_any(self, laptop: GrubLaptop) -> None:
        laptop.defaults["GRUB_CMDLINE_LINUX"] = "quiet"
        assert dom0(laptop) == f"quiet {SHUT}"
        (said,) = laptop.mkconfig().words
        assert said.startswith("no rd.luks.uuid= is known: ")
        assert said.endswith("add it to GRUB_CMDLINE_LINUX")


class TestTheRoot:
    """As 20_linux_xen names it in the entry beside."""

    @pytest.fixture
    def laptop(self, laptop: GrubLaptop) -> GrubLaptop:
        laptop.probed["partuuid"] = _PART
        return laptop

    @staticmethod
    def root(laptop: GrubLaptop) -> str:
        return lines(laptop)[2].split(" ")[0]

    def test_is_its_uuid_where_udev_knows_that(self, laptop: GrubLaptop) -> None:
        laptop.write(f"dev/disk/by-uuid/{BOOT_UUID}", "")
        assert self.root(laptop) == f"root=UUID={BOOT_UUID}"
        laptop.defaults["GRUB_DISABLE_LINUX_UUID"] = "true"
        assert self.root(laptop) == f"root={ROOT_DEVICE}"

    def test_is_its_partition_where_the_user_wants_that(
        self, laptop: GrubLaptop
    ) -> None:
        laptop.write(f"dev/disk/by-partuuid/{_PART}", "")
        assert self.root(laptop) == f"root={ROOT_DEVICE}"
        laptop.defaults["GRUB_DISABLE_LINUX_PARTUUID"] = "false"
        assert self.root(laptop) == f"root=PARTUUID={_PART}"

    def test_is_its_device_on_lvm(self, laptop: GrubLaptop, tmp_path: Path) -> None:
        laptop.write(f"dev/disk/by-uuid/{BOOT_UUID}", "")
        device = tmp_path / "root-volume"
        device.write_bytes(b"")
        laptop.probed |= {"device": str(device), "abstraction": "lvm"}
        assert self.root(laptop) == f"root={device}"

    def test_says_which_subvolume_of_a_btrfs(self, laptop: GrubLaptop) -> None:
        laptop.probed["fs"] = "btrfs"
        assert dom0(laptop).startswith(LUKS_WORD)
        laptop.write("usr/bin/grub-mkrelpath.says", "/root\n")
        assert dom0(laptop).startswith("rootflags=subvol=root ")

    def test_says_which_data_set_of_a_zfs(self, laptop: GrubLaptop) -> None:
        laptop.probed |= {"fs": "zfs", "fs_label": "tank"}
        laptop.write("usr/bin/grub-mkrelpath.says", "/ROOT/qubes@\n")
        assert self.root(laptop) == "root=ZFS=tank/ROOT/qubes"
