# SPDX-License-Identifier: GPL-2.0-or-later
"""The generator of GRUB entries, run by grub-mkconfig and evaluated by GRUB itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from grub_laptop import LUKS_WORD, ROOT_DEVICE, SHUT, GrubLaptop
from hook_program import SHELLS, of_shell
from tpm_sim.cache import Cache

SUBMENU = "aemseal-tboot-older>"
KERNEL_WORDS = f"placeholder root={ROOT_DEVICE} ro {LUKS_WORD} quiet {SHUT}"


@pytest.fixture
def laptop(tmp_path: Path, cache: Cache) -> GrubLaptop:
    """One with tboot, one Xen and two kernels, where entries are asked for."""
    made = GrubLaptop(tmp_path / "laptop", cache)
    made.add_tboot()
    made.add_xen("4.17.5")
    made.add_kernel("6.1.0-9")
    made.add_kernel("6.1.0-56")
    return made


def paths(laptop: GrubLaptop, ident: str) -> list[str]:
    """Return Xen's and the kernel's path in an entry that tboot launches."""
    return [each.path for each in laptop.loaded(ident).modules[:2]]


@pytest.mark.parametrize("shell", SHELLS, ids=of_shell)
def test_tboot_gets_xen_the_newest_kernel_its_initramfs_and_the_sinit_files(
    laptop: GrubLaptop, cache: Cache, shell: tuple[str, ...]
) -> None:
    laptop = GrubLaptop(laptop.root, cache, " ".join(shell))
    for name in ("A_SINIT_1.BIN", "b.sinit.bin", "SINIT.txt"):
        laptop.write(f"boot/{name}", name)
    written = laptop.mkconfig()
    assert written.words == []
    assert written.ids == [
        "aemseal-tboot",
        "aemseal-tboot-older",
        "aemseal-tboot-older-1",
    ]
    entry = laptop.loaded("aemseal-tboot")
    assert entry.title == "Qubes, with Xen hypervisor, launched by tboot"
    assert (entry.kernel.path, entry.kernel.cmdline) == (
        "/tboot.gz",
        b"placeholder logging=memory",
    )
    assert [(each.path, each.cmdline.decode()) for each in entry.modules] == [
        ("/xen-4.17.5.gz", "placeholder console=none"),
        ("/vmlinuz-6.1.0-56", KERNEL_WORDS),
        ("/initramfs-6.1.0-56.img", ""),
        ("/A_SINIT_1.BIN", ""),
        ("/b.sinit.bin", ""),
    ]
    assert [each.decompress for each in entry.modules[:3]] == [True, True, False]


def test_older_kernels_come_newest_first_and_an_older_xen_behind(
    laptop: GrubLaptop,
) -> None:
    laptop.add_xen("4.17.10")
    laptop.mkconfig()
    assert paths(laptop, "aemseal-tboot") == ["/xen-4.17.10.gz", "/vmlinuz-6.1.0-56"]
    assert [paths(laptop, f"{SUBMENU}aemseal-tboot-older-{n}") for n in (1, 2, 3)] == [
        ["/xen-4.17.10.gz", "/vmlinuz-6.1.0-9"],
        ["/xen-4.17.5.gz", "/vmlinuz-6.1.0-56"],
        ["/xen-4.17.5.gz", "/vmlinuz-6.1.0-9"],
    ]
    run = laptop.chosen(f"{SUBMENU}aemseal-tboot-older-3")
    assert run.titles == (
        "Older versions of Qubes, launched by tboot",
        "Qubes, with Xen 4.17.5 and Linux 6.1.0-9, launched by tboot",
    )


def test_the_ids_stay_when_a_kernel_comes(laptop: GrubLaptop) -> None:
    laptop.add_kernel("6.1.0-57")
    laptop.mkconfig()
    assert paths(laptop, "aemseal-tboot")[1] == "/vmlinuz-6.1.0-57"
    newest_before = paths(laptop, f"{SUBMENU}aemseal-tboot-older-1")
    assert newest_before[1] == "/vmlinuz-6.1.0-56"


def test_a_grub_without_version_find_latest_sorts_as_well(laptop: GrubLaptop) -> None:
    """GRUB 2.12 dropped it from grub-mkconfig_lib."""
    laptop.add_kernel("6.1.0-56.old")
    laptop.stock("20_linux_xen").unlink()
    before = laptop.mkconfig().text
    laptop.edit("usr/share/grub/grub-mkconfig_lib", "version_find_latest ", "gone ")
    assert laptop.mkconfig().text == before
    assert paths(laptop, f"{SUBMENU}aemseal-tboot-older-1")[1] == (
        "/vmlinuz-6.1.0-56.old"
    )


def test_no_submenu_is_made_where_the_user_wants_none(laptop: GrubLaptop) -> None:
    laptop.defaults["GRUB_DISABLE_SUBMENU"] = "y"
    assert laptop.mkconfig().ids == ["aemseal-tboot", "aemseal-tboot-older-1"]
    assert paths(laptop, "aemseal-tboot-older-1")[1] == "/vmlinuz-6.1.0-9"


def test_an_entry_that_is_chosen_is_saved_where_the_user_wants_that(
    laptop: GrubLaptop,
) -> None:
    laptop.defaults |= {"GRUB_DEFAULT": "saved", "GRUB_SAVEDEFAULT": "true"}
    laptop.mkconfig()
    assert ("saved_entry", "aemseal-tboot") in laptop.chosen("aemseal-tboot").saved


@pytest.mark.parametrize("default", ["0", "1>0", "1>1", "saved"])
def test_what_is_booted_by_default_stays_what_it_was(
    laptop: GrubLaptop, default: str
) -> None:
    laptop.defaults["GRUB_DEFAULT"] = default
    laptop.defaults["GRUB_AEMSEAL"] = "false"
    assert laptop.mkconfig().ids == []
    before = laptop.chosen()
    laptop.defaults["GRUB_AEMSEAL"] = "true"
    assert laptop.mkconfig().ids != []
    assert laptop.chosen() == before


class TestWhetherToWrite:
    def test_an_enrolled_machine_gets_entries(self, laptop: GrubLaptop) -> None:
        del laptop.defaults["GRUB_AEMSEAL"]
        assert (laptop.mkconfig().ids, laptop.mkconfig().words) == ([], [])
        laptop.write("var/lib/aemseal/hook/hook.conf", "")
        assert laptop.mkconfig().ids != []
        laptop.defaults["GRUB_AEMSEAL"] = "false"
        assert laptop.mkconfig().ids == []

    def test_a_file_of_etc_default_grub_d_can_ask(self, laptop: GrubLaptop) -> None:
        laptop.defaults["GRUB_AEMSEAL"] = "false"
        laptop.write("etc/default/grub.d/aem.cfg", "GRUB_AEMSEAL=true\n")
        assert laptop.mkconfig().ids != []

    @pytest.mark.parametrize("own", ["tboot", "trenchboot"])
    def test_anti_evil_maids_own_entries_are_left_alone(
        self, laptop: GrubLaptop, own: str
    ) -> None:
        path = laptop.write(f"etc/grub.d/19_linux_xen_{own}", "#!/bin/sh\n", 0o755)
        written = laptop.mkconfig()
        assert written.ids == []
        assert written.words == [
            f"Anti Evil Maid writes its own entries ({path}): none are added"
        ]
        path.chmod(0o644)
        assert laptop.mkconfig().ids != [], "it is switched off"

    def test_without_a_launcher_nothing_is_written_and_that_is_said(
        self, laptop: GrubLaptop
    ) -> None:
        (laptop.root / "boot/tboot.gz").unlink()
        written = laptop.mkconfig()
        assert written.ids == []
        (said,) = written.words
        assert said.startswith("nothing to launch with: neither ")

    def test_a_kernel_for_no_dom0_or_without_initramfs_gets_no_entry(
        self, laptop: GrubLaptop
    ) -> None:
        boot = laptop.root / "boot"
        (boot / "config-6.1.0-9").write_text("# CONFIG_XEN_DOM0 is not set\n")
        laptop.add_kernel("6.1.0-60")
        (boot / "initramfs-6.1.0-60.img").unlink()
        laptop.add_kernel("6.1.0-61")
        (boot / "config-6.1.0-61").unlink()
        (boot / "xen-syms-4.17.5.gz").write_bytes(b"symbols")
        written = laptop.mkconfig()
        assert written.ids == ["aemseal-tboot"]
        assert written.words == [
            f"{boot}/vmlinuz-6.1.0-60 has no initramfs: no entry with it"
        ]


class TestOddNames:
    def test_are_quoted(self, laptop: GrubLaptop) -> None:
        odd = '$HOME\'s "SINIT" {a;b} #1.bin'
        laptop.write(f"boot/{odd}", "a module")
        laptop.defaults["GRUB_DISTRIBUTOR"] = "My \\$Qubes"
        laptop.mkconfig()
        entry = laptop.loaded("aemseal-tboot")
        assert entry.modules[-1].path == f"/{odd}"
        assert entry.title.startswith("My \\$Qubes, with Xen")

    def test_that_no_entry_can_hold_are_left_out(self, laptop: GrubLaptop) -> None:
        laptop.write("boot/two\nlines SINIT.bin", "a module")
        written = laptop.mkconfig()
        boot = laptop.root / "boot"
        (said,) = written.words
        assert said == f"a file in {boot} has a name with a control character: left out"
        assert len(laptop.loaded("aemseal-tboot").modules) == 3
