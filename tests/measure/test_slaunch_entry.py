# SPDX-License-Identifier: GPL-2.0-or-later
"""From a menu entry of TrenchBoot's GRUB to a boot, by multiboot2 and by xen.efi."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aemseal.formats.grub_config import NoWorld, evaluate
from aemseal.formats.slaunch_mle import MleRule
from aemseal.measure.boot_entry import (
    BootEntry,
    BootModule,
    Launcher,
    Loader,
    Role,
    wanted,
)
from aemseal.measure.entry_reader import boot_entry_from
from aemseal.words.errors import GrubError
from aemseal.words.wanted import View, Wanted

ONE = "11111111-aaaa-bbbb-cccc-dddddddddddd"
ESP = "/efi/EFI/qubes"

LEGACY = (
    "slaunch",
    "multiboot2 /xen-4.17.5.gz placeholder console=none no-real-mode edd=off",
    f"module2 /vmlinuz placeholder ro rd.luks.uuid=luks-{ONE}",
    "module2 /initramfs.img",
    "slaunch_module /SINIT.BIN",
    "slaunch_module /skl.bin",
)
UEFI = (
    "slaunch",
    'set root="$esp_dev"',
    "chainloader /EFI/qubes/xen-4.17.5.efi vmlinuz-6.6",
    "slaunch_module ($root_dev)/skl.bin",
)
CONFIG = f"""\
[vmlinuz-6.6]
options=placeholder console=none
kernel=aem-vmlinuz placeholder ro rd.luks.uuid=luks-{ONE}
ramdisk=aem-initramfs.img
xsm=policy.bin
""".encode()
FILES = {f"{ESP}/xen-4.17.5.cfg": CONFIG}


HEADER = "set root=hd0,gpt1\nset esp_dev=$root\nset root_dev=hd0,gpt2\n"


def entry_of(*lines: str, files: dict[str, bytes] | None = None) -> BootEntry:
    """The only entry of a grub.cfg, its files below the host's /boot."""
    body = "\n".join(f"  {line}" for line in lines)
    config = f"{HEADER}menuentry 'AEM' {{\n{body}\n}}\n"
    menu = evaluate(config.encode(), None, NoWorld())
    return boot_entry_from(
        menu.entries[0], lambda path: f"/boot{path}", (files or {}).get
    )


def uefi(*lines: str, config: bytes = CONFIG) -> BootEntry:
    return entry_of(*(lines or UEFI), files={f"{ESP}/xen-4.17.5.cfg": config})


class TestByMultiboot2:
    def test_xen_is_launched_and_its_modules_have_their_roles(self) -> None:
        entry = entry_of(*LEGACY, "module2 /xsm.bin")
        assert (entry.launcher, entry.loader) == (Launcher.SLAUNCH, Loader.MULTIBOOT2)
        assert entry.kernel == BootModule(
            "/boot/xen-4.17.5.gz",
            b"placeholder console=none no-real-mode edd=off",
            role=Role.XEN,
        )
        assert [(each.role, each.path) for each in entry.modules] == [
            (Role.KERNEL, "/boot/vmlinuz"),
            (Role.INITRAMFS, "/boot/initramfs.img"),
            (Role.MODULE, "/boot/xsm.bin"),
        ]
        assert entry.slaunch_modules == ("/boot/SINIT.BIN", "/boot/skl.bin")
        assert entry.luks_uuids == (ONE,)
        assert (entry.named_cmdline, entry.configs) == (None, ())

    def test_everything_of_each_file_is_wanted(self) -> None:
        assert wanted(entry_of(*LEGACY)) == (
            Wanted("/boot/xen-4.17.5.gz", View.SLAUNCH_MLE_V04),
            Wanted("/boot/xen-4.17.5.gz", View.SLAUNCH_MLE_ALIGNED),
            Wanted("/boot/xen-4.17.5.gz", View.SLAUNCH_MLE_REWRITTEN),
            Wanted("/boot/xen-4.17.5.gz", View.SLAUNCH_ENTRY),
            Wanted("/boot/SINIT.BIN", View.ACM),
            Wanted("/boot/SINIT.BIN", View.SKL),
            Wanted("/boot/skl.bin", View.ACM),
            Wanted("/boot/skl.bin", View.SKL),
            Wanted("/boot/xen-4.17.5.gz", View.GRUB),
            Wanted("/boot/SINIT.BIN", View.GRUB),
            Wanted("/boot/skl.bin", View.GRUB),
            Wanted("/boot/vmlinuz", View.GRUB),
            Wanted("/boot/initramfs.img", View.GRUB),
            Wanted(f"/dev/disk/by-uuid/{ONE}", View.LUKS),
        )

    def test_the_mle_is_wanted_by_the_rule_of_the_build_of_grub(self) -> None:
        entry = entry_of(*LEGACY)
        views = [entry.slaunch_mle_wanted(rule).view for rule in MleRule]
        assert views == [
            View.SLAUNCH_MLE_V04,
            View.SLAUNCH_MLE_ALIGNED,
            View.SLAUNCH_MLE_REWRITTEN,
        ]

    def test_a_file_is_found_by_its_role(self) -> None:
        entry = entry_of(*LEGACY)
        assert entry.of_role(Role.XEN) == entry.kernel
        assert entry.of_role(Role.INITRAMFS) == entry.modules[1]
        assert entry.of_role(Role.MODULE) is None

    def test_nounzip_leaves_a_module_as_it_is(self) -> None:
        entry = entry_of(*LEGACY[:2], "module2 --nounzip /vmlinuz.gz")
        assert entry.modules[0].wanted == Wanted("/boot/vmlinuz.gz", View.RAW)
        assert entry.luks_uuids == ()

    @pytest.mark.parametrize("word", ["txt", "skinit", "skinit,debug"])
    def test_the_old_words_choose_nothing_any_more(self, word: str) -> None:
        entry = entry_of(f"slaunch {word}", *LEGACY[1:])
        assert entry == entry_of(*LEGACY)

    def test_of_tboot_nothing_changes(self) -> None:
        entry = entry_of("multiboot2 /tboot.gz", "module2 /xen.gz", "module2 /vmlinuz")
        assert (entry.launcher, entry.loader) == (Launcher.TBOOT, Loader.MULTIBOOT2)
        roles = [each.role for each in (entry.kernel, *entry.modules)]
        assert roles == [Role.MLE, Role.XEN, Role.KERNEL]
        old = entry_of("multiboot /tboot.gz", "module /xen.gz")
        assert old.loader is Loader.MULTIBOOT


class TestByXenEfi:
    def test_xen_loads_its_modules_from_the_esp(self) -> None:
        entry = uefi()
        assert (entry.launcher, entry.loader) == (Launcher.SLAUNCH, Loader.CHAINLOADER)
        where = "/boot" + ESP
        assert entry.kernel.path == f"{where}/xen-4.17.5.efi"
        assert entry.kernel.role is Role.XEN
        assert entry.configs == (f"{where}/xen-4.17.5.cfg",)
        assert [(each.role, each.path, each.cmdline) for each in entry.modules] == [
            (
                Role.KERNEL,
                f"{where}/aem-vmlinuz",
                f"aem-vmlinuz placeholder ro rd.luks.uuid=luks-{ONE}".encode(),
            ),
            (Role.INITRAMFS, f"{where}/aem-initramfs.img", b"aem-initramfs.img"),
            (Role.MODULE, f"{where}/policy.bin", b"policy.bin"),
        ]
        assert entry.slaunch_modules == ("/boot/skl.bin",)
        assert entry.luks_uuids == (ONE,)

    def test_its_command_line_is_told_with_and_without_its_name(self) -> None:
        entry = uefi()
        assert entry.kernel.cmdline == b"placeholder console=none"
        assert entry.named_cmdline == b"vmlinuz-6.6 placeholder console=none"

    def test_firmware_reads_files_as_they_are_and_only_the_entry_is_known(self) -> None:
        where = "/boot" + ESP
        assert wanted(uefi()) == (
            Wanted(f"{where}/xen-4.17.5.efi", View.SLAUNCH_ENTRY),
            Wanted("/boot/skl.bin", View.ACM),
            Wanted("/boot/skl.bin", View.SKL),
            Wanted(f"{where}/xen-4.17.5.cfg", View.RAW),
            Wanted(f"{where}/xen-4.17.5.efi", View.GRUB),
            Wanted("/boot/skl.bin", View.GRUB),
            Wanted(f"{where}/aem-vmlinuz", View.RAW),
            Wanted(f"{where}/aem-initramfs.img", View.RAW),
            Wanted(f"{where}/policy.bin", View.RAW),
            Wanted(f"/dev/disk/by-uuid/{ONE}", View.LUKS),
        )

    def test_without_a_ramdisk_the_second_module_is_no_initramfs(self) -> None:
        entry = uefi(config=CONFIG.replace(b"ramdisk=", b"#"))
        assert [each.role for each in entry.modules] == [Role.KERNEL, Role.MODULE]

    def test_a_slaunch_module_may_lie_beside_xen(self) -> None:
        entry = uefi(*UEFI[:3], "slaunch_module /EFI/skl.bin")
        assert entry.slaunch_modules == ("/boot/efi/EFI/skl.bin",)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (b"", "names no kernel"),
            (b"kernel=k", "line 7: xen-4.17.5.cfg: the last line is not ended"),
            (b"kernel=k rd.luks.uuid=x\n", "line 7: 'rd.luks.uuid=x' names no LUKS"),
        ],
    )
    def test_a_configuration_that_cannot_be_followed_is_refused_with_the_line(
        self, config: bytes, message: str
    ) -> None:
        with pytest.raises(GrubError, match=message):
            uefi(config=config)

    def test_no_configuration_is_refused_with_what_was_tried(self) -> None:
        with pytest.raises(
            GrubError, match=r"xen-4.17.5.cfg or xen-4.17.cfg"
        ) as caught:
            entry_of(*UEFI)
        assert caught.value.hint is not None

    def test_a_reader_is_needed(self) -> None:
        config = "menuentry a { slaunch; chainloader /EFI/xen.efi; }\n"
        found = evaluate(config.encode(), None).entries[0]
        with pytest.raises(GrubError, match=r"nothing reads /EFI/xen\.efi's"):
            boot_entry_from(found, lambda path: path)


ANTI_EVIL_MAID = """\
set root=hd0,gpt1
set esp_dev="$root"
search --no-floppy --fs-uuid --set=root 3f2a-1
set root_dev="$root"
if [ -d /aem/ ]; then
    menuentry 'AEM Qubes' {
        slaunch
        set root="$esp_dev"
        chainloader /EFI/qubes/xen-4.17.5.efi vmlinuz-6.6
        slaunch_module ($root_dev)/skl.bin
    }
    submenu 'Advanced' {
        menuentry 'AEM Qubes, with Linux 6.6' {
            slaunch
            set root="$esp_dev"
            chainloader /EFI/qubes/xen-4.17.5.efi vmlinuz-6.6
            slaunch_module ($root_dev)/skl.bin
        }
    }
fi
"""
"""What 19_linux_xen_trenchboot of Anti Evil Maid 4.2.1 writes, without its echoes."""


def test_anti_evil_maids_entries_are_read_in_the_menu_and_in_a_submenu() -> None:
    menu = evaluate(ANTI_EVIL_MAID.encode(), None, NoWorld())
    first, advanced = (
        boot_entry_from(each, lambda path: f"/boot{path}", FILES.get)
        for each in menu.entries
    )
    assert advanced == replace(first, title="Advanced>AEM Qubes, with Linux 6.6")
    assert first == replace(uefi(), title="AEM Qubes")


class TestRefusals:
    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (LEGACY[1:], "line 8: 'slaunch_module' follows no 'slaunch'"),
            (LEGACY[1:4], None),
            (LEGACY[1:4] + LEGACY[:1], "line 5: 'multiboot2' before 'slaunch'"),
            (LEGACY[:1], "'AEM' launches nothing"),
            (LEGACY[:2], "line 6: /xen-4.17.5.gz is loaded without modules"),
            (
                ("slaunch", "multiboot /xen", "module /k"),
                "launch what 'multiboot' loads",
            ),
            (("slaunch", "linux /vmlinuz"), "does not launch what 'linux' loads"),
            (("slaunch uefi", *LEGACY[1:]), "does with 'uefi' depends on the build"),
            (("slaunch txt x", *LEGACY[1:]), "does with 'txt x' depends"),
            ((*LEGACY, "initrd /x"), "'initrd' after a multiboot kernel"),
            ((*LEGACY, "slaunch_module (hd1)/x"), "/x is on 'hd1', the kernel on"),
            ((*UEFI, "initrd /x"), "line 9: 'initrd' after xen.efi"),
        ],
    )
    def test_name_the_line(self, lines: tuple[str, ...], message: str | None) -> None:
        """A stock Xen by multiboot2 is what it was: the entry's kernel."""
        if message is None:
            assert entry_of(*lines).launcher is Launcher.TBOOT
            return
        with pytest.raises(GrubError, match=message):
            entry_of(*lines, files=FILES)


class TestBootEntry:
    @pytest.mark.parametrize(
        "change",
        [
            {"launcher": Launcher.TBOOT},
            {"loader": Loader.MULTIBOOT},
            {"loader": Loader.CHAINLOADER},
            {"named_cmdline": b""},
            {"configs": ("/x.cfg",)},
        ],
    )
    def test_holds_only_what_belongs_together(self, change: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"tboot|GRUB|xen\.efi"):
            replace(entry_of(*LEGACY), **change)  # type: ignore[arg-type]  # by name
