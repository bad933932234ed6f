# SPDX-License-Identifier: GPL-2.0-or-later
"""From a menu entry of GRUB's to a boot: paths, command lines, LUKS devices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aemseal.formats.grub_config import NoWorld, evaluate
from aemseal.measure.boot_entry import BootEntry, luks_wanted, wanted
from aemseal.measure.entry_reader import boot_entry_from
from aemseal.words.errors import GrubError
from aemseal.words.wanted import View, Wanted

ONE = "11111111-aaaa-bbbb-cccc-dddddddddddd"
TWO = "22222222-aaaa-bbbb-cccc-dddddddddddd"


def entry_of(*lines: str) -> BootEntry:
    """The only entry of a grub.cfg, its files below the host's /boot."""
    body = "\n".join(f"  {line}" for line in lines)
    config = f"set root=hd0,msdos1\nmenuentry 'Qubes' {{\n{body}\n}}\n"
    menu = evaluate(config.encode("utf-8", "surrogateescape"), None, NoWorld())
    return boot_entry_from(menu.entries[0], lambda path: f"/boot{path}")


def with_kernel(cmdline: str) -> BootEntry:
    return entry_of(
        "multiboot2 /tboot.gz placeholder logging=memory",
        "module2 /xen.gz placeholder console=vga",
        f"module2 /vmlinuz {cmdline}",
        "module2 --nounzip /initramfs.img",
    )


def test_paths_command_lines_and_nounzip_are_what_grub_hands_over() -> None:
    entry = with_kernel(f'"a  b"   c rd.luks.uuid=luks-{ONE}')
    assert entry.title == "Qubes"
    assert (entry.kernel.path, entry.kernel.cmdline) == (
        "/boot/tboot.gz",
        b"placeholder logging=memory",
    )
    assert [each.path for each in entry.modules] == [
        "/boot/xen.gz",
        "/boot/vmlinuz",
        "/boot/initramfs.img",
    ]
    assert entry.modules[1].cmdline == b'"a  b" c rd.luks.uuid=luks-%s' % ONE.encode()
    assert entry.modules[2].cmdline == b""
    assert [each.decompress for each in entry.modules] == [True, True, False]


def test_bytes_that_are_no_utf8_stay_what_they_are() -> None:
    raw = "caf\udce9"
    assert with_kernel(raw).modules[1].cmdline == b"caf\xe9"


def test_every_file_is_wanted_in_the_view_the_launcher_has_of_it() -> None:
    entry = with_kernel(f"rd.luks.uuid={TWO} rd.luks.uuid=luks-{ONE}")
    assert wanted(entry) == (
        Wanted("/boot/tboot.gz", View.MLE, b"placeholder logging=memory"),
        Wanted("/boot/xen.gz", View.GRUB),
        Wanted("/boot/vmlinuz", View.GRUB),
        Wanted("/boot/initramfs.img", View.RAW),
        Wanted("/boot/vmlinuz", View.ACM),
        Wanted(f"/dev/disk/by-uuid/{ONE}", View.LUKS),
        Wanted(f"/dev/disk/by-uuid/{TWO}", View.LUKS),
    )
    assert entry.luks_wanted == (luks_wanted(ONE), luks_wanted(TWO))


def test_a_file_that_is_loaded_twice_is_wanted_once() -> None:
    entry = entry_of("multiboot /tboot.gz", "module /xen.gz", "module /xen.gz again")
    views = [View.MLE, View.GRUB, View.ACM]
    assert [each.view for each in wanted(entry)] == views


def test_any_module_behind_the_first_may_be_a_sinit_module_for_tboot() -> None:
    """But a packed initramfs that GRUB leaves as it is, is not unpacked to find out."""
    entry = entry_of(
        "multiboot2 /tboot.gz",
        "module2 /xen.gz",
        "module2 /vmlinuz",
        "module2 --nounzip /initramfs.img",
        "module2 --nounzip /SINIT.BIN",
    )
    paths = ["/boot/vmlinuz", "/boot/SINIT.BIN"]
    assert entry.sinit_wanted == tuple(Wanted(path, View.ACM) for path in paths)
    assert entry.whole_wanted == ()


@given(st.lists(st.sampled_from([ONE, TWO, f"luks-{ONE}", f"luks-{TWO}"]), max_size=6))
@settings(deadline=None)
def test_luks_devices_are_sorted_without_doubles(names: list[str]) -> None:
    entry = with_kernel(" ".join(f"rd.luks.uuid={name}" for name in names))
    expected = sorted({name.removeprefix("luks-") for name in names})
    assert list(entry.luks_uuids) == expected


@pytest.mark.parametrize(
    "word",
    [
        "rd.luks.uuid=",
        "rd.luks.uuid=../../sda",
        f"rd.luks.uuid={ONE.upper()}",
        f"rd.luks.uuid={ONE}/",
        f"rd.luks.uuid=luks-luks-{ONE}",
        f"rd.luks.uuid={ONE}x",
    ],
)
def test_a_luks_word_that_the_hook_refuses_is_refused_with_its_line(word: str) -> None:
    with pytest.raises(GrubError, match=r"line 5: .* names no LUKS device"):
        with_kernel(word)


def test_more_luks_devices_than_the_hook_measures_are_refused() -> None:
    words = [f"rd.luks.uuid={n:08x}{ONE[8:]}" for n in range(17)]
    assert len(with_kernel(" ".join(words[:16])).luks_uuids) == 16
    with pytest.raises(GrubError, match="17 LUKS devices"):
        with_kernel(" ".join(words))


@pytest.mark.parametrize(
    "cmdline", ["xrd.luks.uuid=no", "a=rd.luks.uuid=no", "rd.luks.name=no"]
)
def test_other_words_name_no_device(cmdline: str) -> None:
    assert with_kernel(cmdline).luks_uuids == ()


def test_the_words_are_those_of_the_second_module() -> None:
    line = f"rd.luks.uuid={ONE}"
    entry = entry_of(f"multiboot /t {line}", f"module /x {line}")
    assert entry.luks_uuids == ()


def test_an_entry_without_a_multiboot_kernel_is_refused() -> None:
    with pytest.raises(GrubError, match="'Qubes' loads no multiboot kernel"):
        entry_of("linux /vmlinuz ro")
    with pytest.raises(GrubError, match="no multiboot kernel"):
        entry_of("echo nothing")


def test_another_loaders_module_is_refused_with_its_line() -> None:
    with pytest.raises(GrubError, match=r"line 4: 'initrd'"):
        entry_of("multiboot2 /tboot.gz", "initrd /initramfs.img")


def test_files_of_two_devices_are_refused_with_the_line() -> None:
    with pytest.raises(
        GrubError, match=r"line 4: /xen.gz is on 'hd1,msdos2', the kernel on"
    ):
        entry_of("multiboot2 /tboot.gz", "module2 (hd1,msdos2)/xen.gz")
