# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies on what, from the kernel's own files."""

from __future__ import annotations

from pathlib import Path

import pytest
from disk_layouts import BOOT, ROOT, Layout, qubes_laptop
from tpm_sim.boot_directory import LUKS_UUID

from aemseal.words.errors import EvidenceError
from aemseal.world.disks import Disks, Encryption
from aemseal.world.rooted import Rooted


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return qubes_laptop(tmp_path)


@pytest.fixture
def disks(layout: Layout) -> Disks:
    return Disks(Rooted(layout.root))


def point_of(disks: Disks, path: str) -> str | None:
    mount = disks.mount_of(path)
    return None if mount is None else mount.point


class TestMounts:
    def test_a_path_lies_on_the_innermost_mount(self, disks: Disks) -> None:
        assert point_of(disks, "/var/lib/aemseal") == "/"
        assert point_of(disks, "/boot/aemseal") == "/boot"
        assert point_of(disks, "/boot") == "/boot"
        assert point_of(disks, "/bootleg") == "/"

    def test_of_two_on_one_point_the_later_covers_the_earlier(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.mounts(ROOT, ("8:1", "/boot", "a"), ("8:2", "/boot", "b"))
        mount = disks.mount_of("/boot/x")
        assert mount is not None
        assert mount.source == "b"

    def test_escapes_are_undone_and_other_lines_passed_over(
        self, disks: Disks, layout: Layout
    ) -> None:
        good = r"36 1 8:17 / /media/my\040stick rw - vfat /dev/sdb1 rw"
        bad = ("", "36 1", "1 2 x / /media rw - vfat a rw", "1 1 8:1 / /media rw")
        layout.write("/proc/self/mountinfo", "\n".join([*bad, good, ""]))
        assert point_of(disks, "/media/my stick/aemseal") == "/media/my stick"
        assert point_of(disks, "/media") is None

    def test_without_the_kernels_file_nothing_is_told(self, tmp_path: Path) -> None:
        assert Disks(Rooted(tmp_path / "none")).mount_of("/") is None


class TestDevices:
    def test_a_btrfs_is_found_by_its_source(self, disks: Disks, layout: Layout) -> None:
        layout.mounts(("0:35", "/", "/dev/mapper/qubes_dom0-root"))
        mount = disks.mount_of("/")
        assert mount is not None
        assert disks.device_of(mount) == "253:1"

    def test_what_is_no_device_has_no_number(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.mounts(("0:40", "/tmp", "tmpfs"))
        mount = disks.mount_of("/tmp")
        assert mount is not None
        assert disks.device_of(mount) is None
        layout.link("/dev/loop", "/dev/loop")
        assert disks.number_of("/dev/loop") is None

    def test_swap_in_ram_is_left_out(self, disks: Disks) -> None:
        assert disks.swaps() == ("/dev/dm-2",)

    def test_a_kernel_that_does_not_tell_of_swap_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match="/proc/swaps does not exist"):
            Disks(Rooted(tmp_path / "none")).swaps()

    @pytest.mark.parametrize(
        ("number", "is_removable"),
        [("8:0", False), ("8:2", False), ("8:16", True), ("8:17", True), ("9:9", None)],
    )
    def test_a_stick_can_be_taken_out_and_the_disk_cannot(
        self, disks: Disks, number: str, is_removable: bool | None
    ) -> None:
        assert disks.is_removable(number) is is_removable

    def test_a_disk_at_usb_can_be_taken_out_whatever_its_medium_is(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.write("/sys/devices/pci/usb1/sdb/removable", "0\n")
        assert disks.is_removable("8:17") is True

    def test_a_device_of_which_the_kernel_tells_no_more_may_be_anything(
        self, disks: Disks
    ) -> None:
        assert disks.is_known("253:0")
        assert disks.is_removable("253:0") is None
        assert not disks.is_known("9:9")


def test_links_in_a_circle_lead_to_no_disk(disks: Disks, layout: Layout) -> None:
    layout.link("/dev/one", "/dev/two")
    layout.link("/dev/two", "/dev/one")
    assert disks.number_of("/dev/one") is None


def test_a_text_that_is_not_utf_8_is_read_all_the_same(
    disks: Disks, layout: Layout
) -> None:
    line = b"36 1 8:17 / /media/\xff rw - vfat /dev/sdb1 rw\n"
    (layout.root / "proc/self/mountinfo").write_bytes(line)
    assert disks.mount_of("/media") is None


class TestEncryption:
    def test_what_lies_on_luks_is_encrypted_by_that_device(self, disks: Disks) -> None:
        for number in ("253:0", "253:1", "253:2"):
            assert disks.encryption(number) == Encryption(True, (LUKS_UUID,))

    def test_what_lies_on_no_other_is_not(self, disks: Disks) -> None:
        assert disks.encryption("8:1") == Encryption(False)

    def test_a_half_that_is_not_encrypted_is_found(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.device("dm-9", "253:9", on=("dm-0", "pci/sda/sda1"), dm="LVM-half")
        assert disks.encryption("253:9") == Encryption(False, (LUKS_UUID,))

    def test_swap_with_a_random_key_has_no_header(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.device("dm-9", "253:9", on=("pci/sda/sda1",), dm="CRYPT-PLAIN-swap")
        assert disks.encryption("253:9") == Encryption(True)

    def test_devices_in_a_circle_are_refused(
        self, disks: Disks, layout: Layout
    ) -> None:
        layout.device("dm-8", "253:8", on=("dm-9",))
        layout.device("dm-9", "253:9", on=("dm-8",))
        with pytest.raises(EvidenceError, match="too many devices"):
            disks.encryption("253:8")


def test_boot_on_the_built_in_disk_is_not_removable(layout: Layout) -> None:
    layout.mounts(ROOT, BOOT)
    disks = Disks(Rooted(layout.root))
    mount = disks.mount_of("/boot/aemseal")
    assert mount is not None
    assert disks.is_removable(mount.number) is False
