# SPDX-License-Identifier: GPL-2.0-or-later
"""Which entry GRUB boots next, and what it loads."""

import pytest
from grub_configs import UUID, debian, grubenv, qubes
from grub_evaluation import TBOOT, World, entry, load, refusal, title

from aemseal.formats.grub_cmdline import join
from aemseal.formats.grub_config import evaluate
from aemseal.words.errors import GrubError


class TestDebian:
    def test_next_entry_comes_before_the_default(self) -> None:
        env = grubenv(next_entry=f"tboot-advanced-{UUID}>0")
        found = evaluate(debian(), env).next_entry()
        assert found.id == f"tboot-6.1.0-18-amd64-{UUID}"
        assert found.submenus == ("Advanced options for Debian GNU/Linux (with tboot)",)

    def test_what_tboot_receives(self) -> None:
        found = evaluate(debian("1>0"), None).next_entry()
        assert [(each.path, each.nounzip) for each in found.loads] == [
            ("/tboot.gz", False),
            ("/xen-4.17-amd64.gz", False),
            ("/vmlinuz-6.1.0-18-amd64", False),
            ("/initrd.img-6.1.0-18-amd64", True),
            ("/4th_gen_i5_i7_SINIT_75.BIN", False),
        ]
        assert {each.device for each in found.loads} == {f"fs-uuid {UUID}"}
        assert {each.filters for each in found.loads} == {frozenset({"gzio"})}
        assert [join([a.encode() for a in each.arguments]) for each in found.loads] == [
            b"logging=serial,memory,vga",
            b"iommu=force",
            b"root=/dev/mapper/vg-root ro intel_iommu=on",
            b"",
            b"",
        ]

    def test_an_unmeasured_default_is_refused_and_the_measured_ones_listed(
        self,
    ) -> None:
        menu = evaluate(debian(), None)
        assert menu.default_entry().title == "Debian GNU/Linux"
        with pytest.raises(GrubError) as caught:
            menu.next_entry()
        assert caught.value.message == (
            "the entry that boots next, 'Debian GNU/Linux' (grub.cfg line 98), is no "
            "measured boot: it boots by 'linux'"
        )
        (measured,) = menu.measured_entries()
        assert caught.value.hint == f"measured are: {measured.path!r}"

    def test_saved_and_previous_entries(self) -> None:
        tboot = f"tboot-advanced-{UUID}>tboot-6.1.0-18-amd64-{UUID}"
        saved = debian("${saved_entry}")
        assert evaluate(saved, grubenv(saved_entry=tboot)).next_entry().is_measured
        assert evaluate(saved, grubenv()).default_entry().title == "Debian GNU/Linux"
        before = debian().replace(
            b'set default="0"', b'set default="$prev_saved_entry"'
        )
        assert (
            evaluate(before, grubenv(prev_saved_entry=tboot)).next_entry().is_measured
        )

    def test_the_firmware_entry_of_efi_does_not_disturb(self) -> None:
        menu = evaluate(debian("1>0"), None, None, {"grub_platform": "efi"})
        assert menu.next_entry().is_measured
        assert [each.is_measured for each in menu.entries] == [False, True, False]
        assert menu.entries[-1].loads == ()

    def test_custom_entries_are_read(self) -> None:
        custom = f"menuentry mine --id mine {{ {TBOOT}; }}\n".encode()
        world = World({"/boot/grub/custom.cfg": custom})
        found = evaluate(debian("mine"), None, world).next_entry()
        assert (found.title, found.line) == ("mine", 1)


class TestQubes:
    def test_anti_evil_maids_entry(self) -> None:
        found = evaluate(qubes(), grubenv()).next_entry()
        kernel, xen, linux, *others = found.loads
        assert kernel.arguments == ("placeholder", "logging=memory,serial")
        assert xen.arguments == ("placeholder", "console=none", "dom0_mem=min:1024M")
        assert linux.arguments[-2:] == (
            "rd.luks.key=/tmp/aem-keyfile",
            "rd.luks.crypttab=no",
        )
        assert [each.path for each in others] == [
            "/initramfs-6.6.48-1.qubes.img",
            "/SINIT_A.BIN",
        ]

    def test_the_platform_is_given(self) -> None:
        menu = evaluate(qubes(), None, None, {"grub_platform": "efi"})
        xen = menu.next_entry().loads[1]
        assert xen.arguments[-2:] == ("no-real-mode", "edd=off")

    def test_titles_ids_and_paths_find_an_entry(self) -> None:
        menu = evaluate(qubes(), grubenv(saved_entry="trenchboot"))
        name = "AEM Qubes, with tboot, Xen 4.17.5 and Linux 6.6.48-1.qubes"
        assert menu.entry_titled(name) == menu.entry_titled(f"xen-tboot-6.6.48-{UUID}")
        paths = evaluate(debian(), None)
        (measured,) = paths.measured_entries()
        assert paths.entry_titled(measured.path) == measured
        by_id = f"tboot-advanced-{UUID}>{measured.id}"
        assert paths.entry_titled(by_id) == measured

    def test_other_ways_to_boot_are_named(self) -> None:
        menu = evaluate(qubes(), None)
        with pytest.raises(
            GrubError, match=r"'Qubes, with .*/xen-4.17.5.gz is not tboot"
        ):
            menu.entry_titled("Qubes, with Xen hypervisor")

    def test_a_failed_boot_that_falls_back_is_followed(self) -> None:
        env = grubenv(boot_counter="0", boot_success="0")
        found = evaluate(qubes(), env).default_entry()
        assert found.title == "Qubes, with Xen hypervisor"
        counting = grubenv(boot_counter="2", boot_success="0")
        assert evaluate(qubes(), counting).next_entry().is_measured


class TestWhatIsMeasured:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("true", "it loads nothing"),
            (f"{TBOOT}; exit", "it loads nothing"),
            (f"halt; {TBOOT}", "it loads nothing"),
            ("multiboot /tboot.gz", "it loads tboot without any module"),
            ("multiboot /tboot/xen; module /x", "its kernel /tboot/xen is not tboot"),
            (f"{TBOOT}; chainloader +1", "it boots by 'chainloader'"),
            ("linux", "it boots by 'linux'"),
            ("boot; linux /x; initrd /y", "it boots by 'linux'"),
            ("slaunch", "it says 'slaunch' and loads nothing"),
            (
                f"slaunch; {TBOOT}",
                "'slaunch' launches nothing that 'multiboot' loads",
            ),
        ],
    )
    def test_and_what_is_not(self, body: str, why: str) -> None:
        menu = evaluate(f"menuentry a {{ {body}; }}\n".encode(), None)
        assert menu.measured_entries() == ()
        with pytest.raises(GrubError) as caught:
            menu.next_entry()
        assert f"is no measured boot: {why}" in caught.value.message
        hint = caught.value.hint or ""
        assert hint.startswith("no entry of grub.cfg is a measured boot: ")
        assert "GRUB_AEMSEAL=true in /etc/default/grub" in hint

    def test_what_follows_boot_does_not_count(self) -> None:
        found = entry(f"menuentry a {{ {TBOOT}; boot; module /y; }}\n")
        assert [each.path for each in found.loads] == ["/tboot.gz", "/xen"]

    def test_another_kernel_takes_the_place_of_the_first(self) -> None:
        found = entry(f"menuentry a {{ linux /a; initrd /b; {TBOOT}; }}\n")
        assert [each.path for each in found.loads] == ["/tboot.gz", "/xen"]


class TestEntriesByName:
    MENU = """
menuentry a --id one { TBOOT; }
submenu b { menuentry a { TBOOT; }
menuentry c { TBOOT; } }
""".replace("TBOOT", TBOOT)

    def test_missing_and_ambiguous_ones_are_refused(self) -> None:
        menu = evaluate(self.MENU.encode(), None)
        with pytest.raises(GrubError, match=r"grub\.cfg has no entry 'x'") as caught:
            menu.entry_titled("x")
        assert caught.value.hint == "measured are: 'a', 'b>a', 'b>c'"
        with pytest.raises(GrubError, match=r"several entries are 'a': .* lines 2, 3"):
            menu.entry_titled("a")
        assert menu.entry_titled("b>a").line == 3

    def test_what_fails_is_left_out_of_the_list(self) -> None:
        bad = "menuentry d { unheard_of; }\nsubmenu e { unheard_of; }\n"
        nested = f"submenu f {{ menuentry g {{ {TBOOT}; }}\n}}\n"
        menu = evaluate((bad + nested + self.MENU).encode(), None)
        paths = ["d", "f>g", "a", "b>a", "b>c"]
        assert [each.path for each in menu.entries] == paths
        assert [each.path for each in menu.measured_entries()] == paths[1:]
        for _ in range(2):
            with pytest.raises(GrubError, match=r"line 1: the command 'unheard_of'"):
                menu.default_entry().loads  # noqa: B018 - a property that raises

    def test_a_submenu_that_ends_grub_is_no_entry(self) -> None:
        config = "submenu a { exit; }\nmenuentry b { true; }\n"
        menu = evaluate(config.encode(), None)
        assert [each.path for each in menu.entries] == ["b"]
        assert menu.default_entry().loads == ()

    def test_without_a_world_there_are_no_files(self) -> None:
        config = b"if [ -e /x ]; then x=1; fi\nsource /x\nmenuentry a { true; }\n"
        assert evaluate(config, None).default_entry().title == "a"

    def test_a_configuration_within_an_entry_is_no_submenu(self) -> None:
        world = World({"/x.cfg": f"menuentry y {{ {TBOOT}; }}\n".encode()})
        config = b"menuentry x { configfile /x.cfg; }\n"
        menu = evaluate(config, None, world)
        assert menu.next_entry().path == "x>y"
        assert [each.path for each in menu.entries] == ["x"]


class TestDefault:
    FLAT = "menuentry a --id one { true; }\nmenuentry b { true; }\n"
    DEEP = """
menuentry a { true; }
submenu 'b>c' --id two {
  menuentry d { true; }
  submenu e { menuentry f { true; }
  menuentry g --id gg { true; } }
}
"""

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            (None, "a"),
            ("", "a"),
            ("0", "a"),
            ("1", "b"),
            (" 1 ", "b"),
            ("0x1", "b"),
            ("01", "b"),
            ("2", "a"),
            ("99999999999999999999999" * 9, "a"),
            ("-1", "a"),
            ("b", "b"),
            ("one", "a"),
            ("b>x", "b"),
            ("1>5", "b"),
            ("x", "a"),
        ],
    )
    def test_by_number_title_or_id(self, default: str | None, expected: str) -> None:
        assert title(self.FLAT, default) == expected

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            ("1>0", "b>c>d"),
            ("1>1>1", "b>c>e>g"),
            ("b>>c>e>f", "b>c>e>f"),
            ("two>1>gg", "b>c>e>g"),
            ("two>e>9", "b>c>e>f"),
            ("two", "b>c>d"),
            ("two>", "b>c>d"),
        ],
    )
    def test_by_a_path(self, default: str, expected: str) -> None:
        assert title(self.DEEP, default) == expected

    def test_a_submenu_may_have_its_own(self) -> None:
        menu = self.DEEP.replace("menuentry d", "set default=1; default=e\nmenuentry d")
        assert title(menu, "1") == "b>c>e>f"

    @pytest.mark.parametrize(
        ("config", "default", "message"),
        [
            (
                DEEP,
                "1",
                "line 4: which entry of this submenu boots depends on the build",
            ),
            (FLAT, "1b", "'1b' is a number or a title depends on the build"),
            ("menuentry 1 { a; }\nmenuentry b { a; }\n", "1", "a number or a title"),
            (
                "menuentry a --id c { true; }\nmenuentry b --id a { true; }\n",
                "a",
                "'a' is the title of one entry and the id of another",
            ),
            ("submenu a { true; }\n", "0", "line 2: the submenu is empty"),
            (
                "submenu a {\n" * 17 + "menuentry a { b; }\n" + "}\n" * 17,
                "a",
                "over 16",
            ),
        ],
    )
    def test_what_builds_of_grub_see_differently_is_refused(
        self, config: str, default: str, message: str
    ) -> None:
        assert message in refusal(f"set default='{default}'\n{config}")


class TestSubmenus:
    def test_see_exported_variables_and_what_was_chosen(self) -> None:
        config = """
x=1
export x
submenu a --id 'b>' {
  y=$x
  menuentry c d { multiboot /tboot "$x$y$2" "$chosen"; }
}
"""
        assert load(config).arguments == ("11d", "b>>>c")

    def test_do_not_see_others(self) -> None:
        config = "x=1\nsubmenu a {\nmenuentry b { multiboot /tboot $x; }\n}\n"
        with pytest.raises(
            GrubError, match=r"line 3: depends on \$x, which is not exp"
        ):
            load(config)
